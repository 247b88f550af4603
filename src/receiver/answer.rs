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

use super::intake::{Refusal, retry_after};
use super::message::Unreadable;
use super::room::NoRoom;
use crate::otlp::messages::retry_info;

/// Where Python's exporter looks for the retry hint; the standard place is `grpc-status-details-bin`.
pub(super) const RETRY_INFO: &str = "google.rpc.retryinfo-bin";
/// What a client that speaks plain text changes.
pub(super) const SPEAK_TLS: &str = "begin the exporter's endpoint with https:// (and leave out `insecure`)";
/// What a client that speaks TLS changes.
pub(super) const SPEAK_PLAIN_TEXT: &str =
    "begin the exporter's endpoint with http://, or give forebay a certificate by `tls` of this protocol";
/// Longer than Python's exporter has for any batch, so that it gives up.
pub(super) const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// For a request that was refused.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let message = refusal.to_string();
    match refusal.retry_after() {
        Some(delay) => retry(message, delay),
        None => Status::invalid_argument(message),
    }
}

/// For a request whose message could not be read.
pub(super) fn unreadable(why: Unreadable, max_mib: u32) -> Status {
    match why {
        Unreadable::TooLarge => exhausted(format!(
            "the request is larger than {max_mib} MiB; send smaller batches, or raise \
             `receivers.otlp.protocols.grpc.max_recv_msg_size_mib`"
        )),
        Unreadable::NoRoom(NoRoom::Ever) => exhausted(
            "the request, compressed and not, takes more than one may have of what requests may take in all; send \
             smaller batches, or raise `receivers.otlp.admission.request_limit_mib`"
                .to_owned(),
        ),
        Unreadable::NoRoom(NoRoom::Now) => retry(
            "too much is being received; send the request again a little later".to_owned(),
            retry_after(),
        ),
        Unreadable::Malformed(what) => Status::invalid_argument(what),
        Unreadable::Gone => Status::cancelled("the request was not sent to its end"),
    }
}

/// For a message that is compressed in another way than the known ones.
pub(super) fn unknown_encoding(encoding: &[u8]) -> Status {
    let encoding = String::from_utf8_lossy(encoding);
    let mut status = Status::unimplemented(format!("grpc-encoding {encoding} is not known; gzip is"));
    status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static("identity,gzip"));
    status
}

/// For a request that does not arrive.
pub(super) fn too_slow(waited: Duration) -> Status {
    Status::deadline_exceeded(format!("the request has not arrived within {} s", waited.as_secs()))
}

/// For whoever speaks plain text to a port with TLS.
pub(super) fn speak_tls() -> Status {
    Status::failed_precondition(format!("this port speaks TLS only; {SPEAK_TLS}"))
}

/// For a path that is not here.
pub(super) fn unknown_path(path: &str, known: &str) -> Status {
    Status::unimplemented(format!("{path} is not here; forebay takes logs only, at {known}"))
}

/// For a request that never fits. Without a hint, OTLP's senders do not send it again; Python's does, whatever it is
/// told, but for a hint that leaves it no time.
fn exhausted(message: String) -> Status {
    let mut status = Status::resource_exhausted(message);
    status.metadata_mut().insert_bin(RETRY_INFO, MetadataValue::from_bytes(&retry_info(NEVER)));
    status
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
        let never = (status.code() == Code::ResourceExhausted).then_some(NEVER);
        assert_eq!(python, standard.or(never).map(retry_info), "both places say the same");
        (status.code(), standard)
    }

    #[test]
    fn every_refusal_has_its_status() {
        for refusal in [Refusal::Full, Refusal::Memory, Refusal::Draining, Refusal::Unavailable] {
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
    fn what_cannot_be_read_has_its_status() {
        let too_large = unreadable(Unreadable::TooLarge, 64);
        assert_eq!(code_and_hint(&too_large), (Code::ResourceExhausted, None));
        assert!(too_large.message().contains("64 MiB"), "{too_large}");
        assert!(too_large.message().contains("max_recv_msg_size_mib"), "{too_large}");
        let never = unreadable(Unreadable::NoRoom(NoRoom::Ever), 64);
        assert_eq!(code_and_hint(&never), (Code::ResourceExhausted, None));
        assert!(never.message().contains("request_limit_mib"), "{never}");
        let (code, hint) = code_and_hint(&unreadable(Unreadable::NoRoom(NoRoom::Now), 64));
        assert_eq!(code, Code::Unavailable);
        assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&hint.unwrap()), "{hint:?}");
        let malformed = unreadable(Unreadable::Malformed("bad gzip"), 64);
        assert_eq!(
            (code_and_hint(&malformed), malformed.message()),
            ((Code::InvalidArgument, None), "bad gzip")
        );
    }

    #[test]
    fn the_rest_is_not_sent_again_but_for_the_slow() {
        assert_eq!(code_and_hint(&unknown_encoding(b"zstd")), (Code::Unimplemented, None));
        assert_eq!(code_and_hint(&unknown_path("/a", "/b")), (Code::Unimplemented, None));
        assert_eq!(code_and_hint(&too_slow(Duration::from_secs(30))), (Code::DeadlineExceeded, None));
    }
}
