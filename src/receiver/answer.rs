//! The one table from what happened to a gRPC status.
//!
//! OTLP gives the codes their meaning: on UNAVAILABLE the sender sends again, after the time in the retry
//! hint; on INVALID_ARGUMENT and RESOURCE_EXHAUSTED without a hint it must not. INTERNAL would make it drop
//! what would pass a second later, and OUT_OF_RANGE would make it send for ever what never fits, so that
//! neither is ever answered.

use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::intake::Refusal;
use crate::otlp::messages::retry_info;

/// Where Python's exporter looks for the retry hint; the standard place is `grpc-status-details-bin`.
pub(super) const RETRY_INFO: &str = "google.rpc.retryinfo-bin";

/// For a request that was refused.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let message = refusal.to_string();
    match refusal.retry_after() {
        Some(delay) => retry(message, delay),
        None => Status::invalid_argument(message),
    }
}

/// For a request whose message could not be read; `status` is what tonic makes of it.
pub(super) fn unreadable(status: Status, max_mib: u32) -> Status {
    match status.code() {
        // The one before and the other after decompression.
        Code::OutOfRange | Code::ResourceExhausted => Status::resource_exhausted(format!(
            "the request is larger than {max_mib} MiB; send smaller batches, or raise \
             `receivers.otlp.protocols.grpc.max_recv_msg_size_mib`"
        )),
        Code::Internal | Code::Unknown => Status::invalid_argument(status.message()),
        _ => status,
    }
}

/// For a stream that is not one message.
pub(super) fn not_one_message() -> Status {
    Status::invalid_argument("an export request is exactly one message")
}

/// For a request that does not arrive.
pub(super) fn too_slow(waited: Duration) -> Status {
    Status::deadline_exceeded(format!("the request has not arrived within {} s", waited.as_secs()))
}

/// For a path that is not here.
pub(super) fn unknown_path(path: &str, known: &str) -> Status {
    Status::unimplemented(format!("{path} is not here; forebay takes logs only, at {known}"))
}

fn retry(message: String, delay: Duration) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(RETRY_INFO, MetadataValue::from_bytes(&retry_info(delay)));
    let details = ErrorDetails::with_retry_info(Some(delay));
    Status::with_error_details_and_metadata(Code::Unavailable, message, details, metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::Malformed;

    fn code_and_hint(status: &Status) -> (Code, Option<Duration>) {
        let standard = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let python = status.metadata().get_bin(RETRY_INFO).map(|value| value.to_bytes().unwrap());
        assert_eq!(python, standard.map(retry_info), "both places say the same");
        (status.code(), standard)
    }

    #[test]
    fn every_refusal_has_its_status() {
        for refusal in [Refusal::Full, Refusal::Draining, Refusal::Unavailable] {
            let (code, hint) = code_and_hint(&refused(&refusal));
            let hint = hint.unwrap();
            assert_eq!(code, Code::Unavailable, "{refusal}");
            assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&hint), "{refusal}: {hint:?}");
        }
        let malformed = refused(&Refusal::Malformed(Malformed::TOO_LARGE));
        assert_eq!(code_and_hint(&malformed), (Code::InvalidArgument, None));
    }

    #[test]
    fn retry_hints_differ() {
        let hint = || Refusal::Full.retry_after();
        let first = hint();
        assert!((0..100).any(|_| hint() != first));
    }

    #[test]
    fn no_code_of_tonics_misleads_the_sender() {
        let table = [
            (Code::OutOfRange, Code::ResourceExhausted),
            (Code::ResourceExhausted, Code::ResourceExhausted),
            (Code::Internal, Code::InvalidArgument),
            (Code::Unknown, Code::InvalidArgument),
            (Code::Unimplemented, Code::Unimplemented),
            (Code::Unavailable, Code::Unavailable),
            (Code::Cancelled, Code::Cancelled),
        ];
        for (tonics, ours) in table {
            let status = unreadable(Status::new(tonics, "what tonic says"), 64);
            assert_eq!(code_and_hint(&status), (ours, None), "{tonics:?}");
        }
        let too_large = unreadable(Status::out_of_range("x"), 64);
        assert!(too_large.message().contains("64 MiB"), "{too_large}");
        assert!(too_large.message().contains("max_recv_msg_size_mib"), "{too_large}");
        assert_eq!(unreadable(Status::internal("bad gzip"), 64).message(), "bad gzip");
    }

    #[test]
    fn the_rest_is_not_sent_again_but_for_the_slow() {
        assert_eq!(code_and_hint(&not_one_message()), (Code::InvalidArgument, None));
        assert_eq!(code_and_hint(&unknown_path("/a", "/b")), (Code::Unimplemented, None));
        assert_eq!(code_and_hint(&too_slow(Duration::from_secs(30))), (Code::DeadlineExceeded, None));
    }
}
