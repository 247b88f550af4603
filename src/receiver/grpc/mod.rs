//! OTLP/gRPC: the method that exports logs.
//!
//! The decompressed bytes of a message go to the intake as they are; they are not decoded into message types. Other requests get a gRPC
//! status, or an HTTP status if they are not gRPC.

mod answers;
mod health;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::Code;

use super::answer::{Failure, Limit};
use super::body::Answer;
use super::client::Client;
use super::config::GrpcConfig;
use super::encoding::{Encoding, Most};
use super::intake::Accepted;
use super::message::receive_framed;
use super::port::Protocol;
use super::probe;
use super::reception::Reception;
use super::request_memory::Share;
use super::turned_away::TurnedAwayReason;
use crate::otlp::messages::export_response;
#[cfg(test)]
pub(super) use answers::{NEVER, RETRY_INFO};
use answers::{framed, headed, status, trailers};
pub(super) use health::WATCHES;

/// The path of the method that exports logs.
pub const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// The answer to requests that are not gRPC.
const NOT_GRPC: &str = "this port takes OTLP/gRPC, whose content-type is application/grpc; set the exporter's protocol to grpc \
    (OTEL_EXPORTER_OTLP_PROTOCOL=grpc), or its endpoint to a port that takes OTLP/HTTP";

/// OTLP/gRPC at its port.
pub(super) struct Grpc(pub(super) Reception);

impl GrpcConfig {
    pub(super) fn limit(&self, ratio: usize) -> Limit {
        Limit {
            most: Most { bytes: self.max_recv_msg_size.bytes(), ratio },
            said: format!("{} MiB", self.max_recv_msg_size.in_mib()),
            key: "receivers.otlp.protocols.grpc.max_recv_msg_size_mib",
        }
    }
}

impl Protocol for Grpc {
    fn reception(&self) -> &Reception {
        &self.0
    }

    async fn answer(&self, request: Request<Incoming>, client: &Client) -> (Response<Answer>, Incoming) {
        let (head, mut body) = request.into_parts();
        (response(&self.0, head, &mut body, client).await, body)
    }

    fn refuse(&self, _: &HeaderMap, failure: Failure) -> Response<Answer> {
        status(failure).into_http()
    }
}

async fn response(
    reception: &Reception,
    head: Parts,
    body: &mut Incoming,
    client: &Client,
) -> Response<Answer> {
    if let Some(page) = probe::page(&head, reception.is_ending(), "this port takes OTLP/gRPC") {
        return page;
    }
    if !is_grpc(head.headers.get(CONTENT_TYPE)) {
        reception.gate.turned_away.count(TurnedAwayReason::NotGrpc, Some(client.peer.address), &NOT_GRPC);
        return Answer::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{NOT_GRPC}\n"));
    }
    if let Some(method) = head.uri.path().strip_prefix(health::PREFIX) {
        if reception.gate.authenticator.is_none() {
            client.peer.admitted();
        }
        return health::answer(reception, logs_service(), method, body).await;
    }
    let sender = match reception.gate.admit(&head.headers, client).await {
        Ok(sender) => sender,
        Err(denial) => return status(denial.failure).into_http(),
    };
    let admitted = admit(&head, reception, client);
    // Headers may be large, and the request may take long.
    drop(head);
    let taken = async {
        let encoding = admitted.inspect_err(|failure| reception.refuse(failure))?;
        let (body, arriving) = reception.begin(body, &client.room).await?;
        let receiving = receive_framed(body, encoding, reception.limit.most, &client.room);
        reception.take_in(arriving, sender, receiving).await
    };
    match taken.await {
        Ok((accepted, request)) => ok(&accepted, request),
        Err(failure) => status(failure).into_http(),
    }
}

/// Checks a request's headers, and returns how its message is compressed.
fn admit(head: &Parts, reception: &Reception, client: &Client) -> Result<Encoding, Failure> {
    let path = head.uri.path();
    if path != PATH {
        return Err(reception.turn_away(
            TurnedAwayReason::of_path(path),
            client,
            Failure::unknown_path(path, PATH),
        ));
    }
    let name = head.headers.get("grpc-encoding").map_or(b"identity".as_slice(), HeaderValue::as_bytes);
    Encoding::of_name(name).ok_or_else(|| Failure::unknown_encoding("grpc-encoding", name))
}

/// The name of the service that exports logs.
fn logs_service() -> &'static str {
    PATH.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// Whether the content type is that of gRPC with protobuf messages.
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let media_type = content_type.and_then(|value| value.to_str().ok()?.split(';').next());
    media_type.is_some_and(|media_type| {
        ["application/grpc", "application/grpc+proto"]
            .iter()
            .any(|known| media_type.trim().eq_ignore_ascii_case(known))
    })
}

/// The answer OK: one framed message, followed by the status.
fn ok(accepted: &Accepted, request: Share) -> Response<Answer> {
    let data = framed(&export_response(accepted.rejected, &accepted.message));
    let trailers = Some(trailers(Code::Ok));
    headed(Answer { data: Some(data), trailers, request: Some(request), ..Answer::default() })
}
