//! The standard health service of gRPC (`grpc.health.v1`), by which load balancers look whether the port takes records.
//!
//! It asks nobody who is there, and gives away nothing but that. A full buffer is not ill health: another gateway would get
//! its records only to fill as well, and the sender is told to send again. A request waits for its body in the lobby, as those
//! for logs do, and a watch has one of a few places, so that neither takes any of the room.

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

/// The paths of its methods begin so.
pub(super) const PREFIX: &str = "/grpc.health.v1.Health/";

/// More than the longest name that is known.
const MOST: usize = 1 << 10;
/// The most watches; one more ends the oldest.
pub(in crate::receiver) const WATCHES: usize = 64;

/// Answers a request to `method`. The one service whose health is known beside that of all is `logs`.
pub(super) async fn answer(
    reception: &Reception,
    logs: &str,
    method: &str,
    body: &mut Incoming,
) -> Response<Answer> {
    let known = ["Check", "List", "Watch"].contains(&method);
    if !known {
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
        return Status::invalid_argument("that is no message of grpc.health.v1").into_http();
    };
    let now = if reception.is_ending() { ServingStatus::NotServing } else { ServingStatus::Serving };
    let names = ["", logs];
    let of_service = names.contains(&&*service).then_some(now);
    match (method, of_service) {
        ("List", _) => whole(health_statuses(names, now)),
        ("Watch", known) => watch(reception, known.unwrap_or(ServingStatus::ServiceUnknown)),
        (_, Some(now)) => whole(health_status(now)),
        (_, None) => Status::not_found(format!("{service} is not here; {} is", logs)).into_http(),
    }
}

fn whole(message: Bytes) -> Response<Answer> {
    headed(Answer { data: Some(framed(&message)), trailers: Some(trailers(Code::Ok)), ..Answer::default() })
}

/// Says what is, and at the end of forebay once more.
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

/// The one small message of a request; `None` where it is anything else.
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
