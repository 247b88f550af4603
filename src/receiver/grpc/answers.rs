//! gRPC answers: a framed message, followed by the status.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::otlp::messages::retry_info;
use crate::receiver::answer::{Failure, FailureKind};
use crate::receiver::body::Answer;
use crate::receiver::encoding::KNOWN;

/// The header with the compressions that requests may use.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// The header in which Python's exporter looks for the retry hint; the standard one is `grpc-status-details-bin`.
pub(in crate::receiver) const RETRY_INFO: &str = "google.rpc.retryinfo-bin";
/// Longer than Python's exporter tries to send any batch, so that it gives up.
pub(in crate::receiver) const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A message in gRPC's frame.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut data = BytesMut::with_capacity(5 + message.len());
    data.put_u8(0);
    data.put_u32(message.len() as u32);
    data.put(message);
    data.freeze()
}

/// The trailers with an answer's status.
pub(super) fn trailers(code: Code) -> HeaderMap {
    HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from(code as i32))])
}

/// Adds gRPC's headers to an answer.
pub(super) fn headed(answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(KNOWN));
    response
}

pub(super) fn status(failure: Failure) -> Status {
    let Failure { kind, message, retry_after } = failure;
    let mut metadata = MetadataMap::new();
    let mut hint = |delay| {
        metadata.insert_bin(RETRY_INFO, MetadataValue::from_bytes(&retry_info(delay)));
    };
    if let Some(delay) = retry_after {
        hint(delay);
        let details = ErrorDetails::with_retry_info(Some(delay));
        return Status::with_error_details_and_metadata(kind.code(), message, details, metadata);
    }
    match kind {
        // Without a hint, OTLP senders do not retry such a request, except Python's, which retries unless the hint leaves it no time.
        FailureKind::TooLarge => hint(NEVER),
        FailureKind::UnknownEncoding => {
            metadata.insert(ACCEPT_ENCODING, MetadataValue::from_static(KNOWN));
        }
        _ => {}
    }
    Status::with_metadata(kind.code(), message, metadata)
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
        let status = status(Failure::new(FailureKind::TooLarge, "large"));
        assert_eq!(
            (status.code(), hints(&status)),
            (Code::ResourceExhausted, (None, Some(retry_info(NEVER))))
        );
    }

    #[test]
    fn the_rest_has_no_hint() {
        for kind in [
            FailureKind::Malformed,
            FailureKind::Cut,
            FailureKind::TooSlow,
            FailureKind::UnknownPath,
            FailureKind::UnknownEncoding,
        ] {
            let status = status(Failure::new(kind, "no"));
            assert_eq!((status.code(), hints(&status)), (kind.code(), (None, None)));
        }
    }
}
