//! OTLP/gRPC: the one method that takes logs.
//!
//! The message's bytes go to the intake as they came off the wire (decompressed, where the sender compressed
//! them); nothing is decoded into messages. Whoever speaks something else to this port is told so: by a gRPC
//! status where it is gRPC, by an HTTP status where it is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::answer::{Failure, Limit, Why};
use super::body::Answer;
use super::client::Client;
use super::config::GrpcConfig;
use super::connection::{ARRIVAL, GRACE, Times};
use super::encoding::{Encoding, KNOWN, Most};
use super::health;
use super::intake::Accepted;
use super::message::receive_framed;
use super::probe;
use super::reception::Reception;
use super::room::Share;
use super::turned_away::Reason;
use crate::otlp::messages::{export_response, retry_info};

/// The path of the method that takes logs.
pub const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// For what is not gRPC.
const NOT_GRPC: &str = "this port takes OTLP/gRPC, whose content-type is application/grpc; set the exporter's protocol to grpc \
    (OTEL_EXPORTER_OTLP_PROTOCOL=grpc), or its endpoint to a port that takes OTLP/HTTP";
/// Where an answer says how further requests may be compressed.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// Where Python's exporter looks for the retry hint; the standard place is `grpc-status-details-bin`.
pub(super) const RETRY_INFO: &str = "google.rpc.retryinfo-bin";
/// Longer than Python's exporter has for any batch, so that it gives up.
pub(super) const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

impl GrpcConfig {
    pub(super) fn times(&self) -> Times {
        let keepalive = &self.keepalive.server_parameters;
        Times {
            opening: Duration::from_secs(10),
            arrival: ARRIVAL,
            idle: keepalive.max_connection_idle.0,
            age: keepalive.max_connection_age.0,
            age_grace: keepalive.max_connection_age_grace.0,
            grace: GRACE,
        }
    }

    pub(super) fn limit(&self, ratio: usize) -> Limit {
        Limit {
            most: Most { bytes: self.max_recv_msg_size.bytes(), ratio },
            said: format!("{} MiB", self.max_recv_msg_size.in_mib()),
            key: "receivers.otlp.protocols.grpc.max_recv_msg_size_mib",
        }
    }

    /// What differs from `http2` as all ports have it.
    pub(super) fn adapt(&self, http2: &mut http2::Builder<TokioExecutor>) {
        let keepalive = &self.keepalive.server_parameters;
        http2
            .max_concurrent_streams(self.max_concurrent_streams)
            .keep_alive_interval(keepalive.time.0)
            .keep_alive_timeout(keepalive.timeout.0);
    }
}

/// Answers one request, whatever it is, and gives back what is not read of it.
pub(super) async fn answer(
    reception: Arc<Reception>,
    request: Request<Incoming>,
    client: Arc<Client>,
) -> (Response<Answer>, Incoming) {
    let (head, mut body) = request.into_parts();
    (response(&reception, head, &mut body, &client).await, body)
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
        reception.gate.turned_away.count(Reason::NotGrpc, Some(client.address), &NOT_GRPC);
        return not_grpc();
    }
    if let Some(method) = head.uri.path().strip_prefix(health::PREFIX) {
        if reception.gate.authenticator.is_none() {
            client.admitted();
        }
        return health::answer(reception, method, body).await;
    }
    let sender = match reception.gate.admit(&head.headers, client).await {
        Ok(sender) => sender,
        Err(denial) => return status(denial.failure).into_http(),
    };
    let admitted = admit(&head, reception, client);
    // Headers may be large, and a request may take long.
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

/// Whether a request may go on, for all that its headers say; how its message is compressed.
fn admit(head: &Parts, reception: &Reception, client: &Client) -> Result<Encoding, Failure> {
    let path = head.uri.path();
    if path != PATH {
        return Err(reception.turn_away(Reason::of_path(path), client, Failure::unknown_path(path, PATH)));
    }
    let name = head.headers.get("grpc-encoding").map_or(b"identity".as_slice(), HeaderValue::as_bytes);
    Encoding::of_name(name).ok_or_else(|| Failure::unknown_encoding("grpc-encoding", name))
}

/// gRPC whose messages are protobuf.
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let media_type = content_type.and_then(|value| value.to_str().ok()?.split(';').next());
    media_type.is_some_and(|media_type| {
        ["application/grpc", "application/grpc+proto"]
            .iter()
            .any(|known| media_type.trim().eq_ignore_ascii_case(known))
    })
}

fn not_grpc() -> Response<Answer> {
    let mut response = Response::new(Bytes::from(format!("{NOT_GRPC}\n")).into());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// The answer OK: one message in gRPC's frame, and the status behind it.
fn ok(accepted: &Accepted, request: Share) -> Response<Answer> {
    let data = framed(&export_response(accepted.rejected, &accepted.message));
    let trailers = Some(trailers(Code::Ok));
    headed(Answer { data: Some(data), trailers, request: Some(request), ..Answer::default() })
}

/// A message in gRPC's frame.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut data = BytesMut::with_capacity(5 + message.len());
    data.put_u8(0);
    data.put_u32(message.len() as u32);
    data.put(message);
    data.freeze()
}

/// The status behind an answer.
pub(super) fn trailers(code: Code) -> HeaderMap {
    HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from(code as i32))])
}

/// An answer with the headers that it has in gRPC.
pub(super) fn headed(answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(KNOWN));
    response
}

/// The answer to a request that is not even looked at.
pub(super) fn unlooked(_: &HeaderMap, failure: Failure) -> Response<Answer> {
    status(failure).into_http()
}

pub(super) fn status(failure: Failure) -> Status {
    let Failure { why, message, retry_after } = failure;
    let mut metadata = MetadataMap::new();
    let mut hint = |delay| {
        metadata.insert_bin(RETRY_INFO, MetadataValue::from_bytes(&retry_info(delay)));
    };
    if let Some(delay) = retry_after {
        hint(delay);
        let details = ErrorDetails::with_retry_info(Some(delay));
        return Status::with_error_details_and_metadata(why.code(), message, details, metadata);
    }
    match why {
        // Without a hint, OTLP's senders do not send such a request again; Python's does, whatever it is told, but for
        // a hint that leaves it no time.
        Why::TooLarge => hint(NEVER),
        Why::UnknownEncoding => {
            metadata.insert(ACCEPT_ENCODING, MetadataValue::from_static(KNOWN));
        }
        _ => {}
    }
    Status::with_metadata(why.code(), message, metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::intake::Refusal;

    fn hints(status: &Status) -> (Option<Duration>, Option<Bytes>) {
        let standard = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let python = status.metadata().get_bin(RETRY_INFO).map(|value| value.to_bytes().unwrap());
        (standard, python)
    }

    #[test]
    fn both_places_of_the_hint_say_the_same() {
        let (standard, python) = hints(&status(Refusal::Full.into()));
        assert!(standard.is_some());
        assert_eq!(python, standard.map(retry_info));
    }

    #[test]
    fn what_never_fits_is_never_sent_again() {
        let status = status(Failure::new(Why::TooLarge, "large"));
        assert_eq!(
            (status.code(), hints(&status)),
            (Code::ResourceExhausted, (None, Some(retry_info(NEVER))))
        );
    }

    #[test]
    fn the_rest_has_no_hint() {
        for why in [Why::Malformed, Why::Cut, Why::TooSlow, Why::UnknownPath, Why::UnknownEncoding] {
            let status = status(Failure::new(why, "no"));
            assert_eq!((status.code(), hints(&status)), (why.code(), (None, None)));
        }
    }
}
