//! gRPC's standard health service (`grpc.health.v1`), by which load balancers check whether the port accepts records.
//!
//! It needs no credentials and reveals nothing else. A full buffer is not unhealthy: another gateway would only fill up as well, and
//! senders are told to retry. Neither requests nor watches take request memory: requests wait for their body in the lobby, as those for
//! logs do, and the number of watches is bounded.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::answers::{framed, headed, status, trailers};
use crate::otlp::messages::{ServingStatus, health_service, health_status, health_statuses};
use crate::receiver::answer::Failure;
use crate::receiver::body::{Answer, Last};
use crate::receiver::reception::Reception;

/// The beginning of its methods' paths.
pub(super) const PREFIX: &str = "/grpc.health.v1.Health/";

/// The most bytes of a request, more than the longest service name needs.
const MOST: usize = 1 << 10;
/// The most watches. One more ends the oldest.
pub(in crate::receiver) const WATCHES: usize = 64;

/// Answers a request to `method`. The known services are `logs` and "", which stands for all.
pub(super) async fn answer(
    reception: &Reception,
    logs: &str,
    method: &str,
    body: &mut Incoming,
) -> Response<Answer> {
    if !["Check", "List", "Watch"].contains(&method) {
        return Status::unimplemented(format!("{PREFIX} has Check, List and Watch")).into_http();
    }
    let received = timeout(reception.arrival, reception.lobby.wait(message(body))).await;
    let service = match received {
        Ok(Ok(Some(message))) => health_service(&message),
        Ok(Ok(None)) => None,
        Ok(Err(no_room)) => return status(no_room.into()).into_http(),
        Err(_) => return status(Failure::too_slow(reception.arrival)).into_http(),
    };
    let Some(service) = service else {
        return Status::invalid_argument("the message is not one of grpc.health.v1").into_http();
    };
    let now = if reception.is_ending() { ServingStatus::NotServing } else { ServingStatus::Serving };
    let names = ["", logs];
    let of_service = names.contains(&&*service).then_some(now);
    match (method, of_service) {
        ("List", _) => whole(health_statuses(names, now)),
        ("Watch", known) => watch(reception, known.unwrap_or(ServingStatus::ServiceUnknown)),
        (_, Some(now)) => whole(health_status(now)),
        (_, None) => Status::not_found(format!("{service} is not known; {logs} is")).into_http(),
    }
}

fn whole(message: Bytes) -> Response<Answer> {
    headed(Answer { data: Some(framed(&message)), trailers: Some(trailers(Code::Ok)), ..Answer::default() })
}

/// Answers with the current health, and once more at the shutdown.
fn watch(reception: &Reception, now: ServingStatus) -> Response<Answer> {
    let (watches, mut ended) = (reception.watches.clone(), reception.ended.clone());
    let last = async move {
        let is_over = watches.wait(async { while ended.changed().await.is_ok() {} }).await.is_ok();
        let not_serving = is_over && now == ServingStatus::Serving;
        let message = not_serving.then(|| framed(&health_status(ServingStatus::NotServing)));
        (message, trailers(Code::Unavailable))
    };
    headed(Answer {
        data: Some(framed(&health_status(now))),
        last: Some(Last::of(last)),
        ..Answer::default()
    })
}

/// The small message of a request; `None` if the body is anything else.
async fn message(body: &mut Incoming) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let data = frame.ok()?.into_data().unwrap_or_default();
        if all.len() + data.len() > MOST {
            return None;
        }
        all.extend_from_slice(&data);
    }
    let (prefix, message) = all.split_first_chunk::<5>()?;
    let [flag, length @ ..] = *prefix;
    (flag == 0 && u32::from_be_bytes(length) as usize == message.len()).then(|| message.to_vec())
}
