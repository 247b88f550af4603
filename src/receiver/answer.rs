//! Maps each failure to the codes of gRPC and HTTP.
//!
//! OTLP defines what the codes mean. With gRPC, senders retry on UNAVAILABLE after the time in the retry hint, and must not on
//! INVALID_ARGUMENT and on RESOURCE_EXHAUSTED without a hint. With HTTP, they retry on 429 and 503 only. INTERNAL and 500 are never
//! answered, because senders would drop data over a temporary problem, nor is OUT_OF_RANGE, because they would retry forever a request
//! that never fits.

use std::time::Duration;

use http::StatusCode;
use strum::VariantArray;
use tonic::Code;

use super::encoding::{KNOWN, Most};
use super::intake::{Refusal, retry_after};
use super::request_memory::NoRoom;
use super::turned_away::TurnedAwayReason;
use super::unreadable::Unreadable;
use crate::otlp::Invalid;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub(super) enum FailureKind {
    /// It is not valid OTLP.
    Malformed,
    /// Its sender has ended it early.
    Cut,
    /// It is too large.
    TooLarge,
    /// It has too many resources or scopes.
    TooComplex,
    /// It has not arrived in time.
    TooSlow,
    UnknownPath,
    WrongMethod,
    /// Its media type is not one of OTLP's.
    UnknownType,
    UnknownEncoding,
    /// Its credentials are missing or wrong.
    Denied,
    /// It is not encrypted.
    PlainText,
    /// The buffer or the request memory is full.
    Full,
    /// It cannot be accepted here, or not now.
    Unavailable,
}

/// The answer to the sender of a refused request.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) message: String,
    /// When to retry the request; `None` if that does not help.
    pub(super) retry_after: Option<Duration>,
}

/// The size limits of a request.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub(super) most: Most,
    /// The limit as text, in the unit of the key.
    pub(super) said: String,
    pub(super) key: &'static str,
}

impl FailureKind {
    /// The code of gRPC.
    pub(super) fn code(self) -> Code {
        match self {
            Self::Malformed | Self::TooComplex | Self::UnknownType => Code::InvalidArgument,
            Self::Cut => Code::Cancelled,
            Self::TooLarge => Code::ResourceExhausted,
            Self::TooSlow => Code::DeadlineExceeded,
            Self::UnknownPath | Self::WrongMethod | Self::UnknownEncoding => Code::Unimplemented,
            Self::Denied => Code::Unauthenticated,
            Self::PlainText => Code::FailedPrecondition,
            Self::Full | Self::Unavailable => Code::Unavailable,
        }
    }

    /// The status of HTTP.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::TooComplex | Self::Cut | Self::PlainText => StatusCode::BAD_REQUEST,
            Self::Denied => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownType | Self::UnknownEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Full => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Failure {
    /// For a request that must not be retried, or not unchanged.
    pub(super) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    /// For a request whose message could not be read.
    pub(super) fn unreadable(why: Unreadable, limit: &Limit) -> Self {
        match why {
            Unreadable::TooLarge => {
                let Limit { said, key, .. } = limit;
                let message =
                    format!("the request is larger than {said}; send smaller batches, or raise `{key}`");
                Self::new(FailureKind::TooLarge, message)
            }
            Unreadable::TooDense => {
                let message = format!(
                    "the request is more than {} times as large as it is compressed; send smaller batches, or raise \
                     `receivers.otlp.admission.max_decompression_ratio`",
                    limit.most.ratio
                );
                Self::new(FailureKind::TooLarge, message)
            }
            Unreadable::NoRoom(no_room) => no_room.into(),
            Unreadable::Malformed(what) => Self::new(FailureKind::Malformed, what),
            Unreadable::Json(why) => Self::new(FailureKind::Malformed, why.to_string()),
            Unreadable::Gone => Self::new(FailureKind::Cut, "the request was not sent to its end"),
        }
    }

    /// For a request that does not arrive.
    pub(super) fn too_slow(waited: Duration) -> Self {
        Self::new(FailureKind::TooSlow, format!("the request has not arrived within {} s", waited.as_secs()))
    }

    /// For a message with an unknown compression in `header`.
    pub(super) fn unknown_encoding(header: &str, name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name);
        Self::new(FailureKind::UnknownEncoding, format!("{header} {name} is not known; {KNOWN} are"))
    }

    /// For a path other than the `known` one.
    pub(super) fn unknown_path(path: &str, known: &str) -> Self {
        let cure = match TurnedAwayReason::of_path(path) {
            TurnedAwayReason::Traces => {
                "; set OTEL_TRACES_EXPORTER=none, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to a backend for traces"
            }
            TurnedAwayReason::Metrics => {
                "; set OTEL_METRICS_EXPORTER=none, or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT to a backend for metrics"
            }
            _ => "",
        };
        let message = format!("{path} is not known; forebay accepts logs only, at {known}{cure}");
        Self::new(FailureKind::UnknownPath, message)
    }
}

impl From<NoRoom> for Failure {
    fn from(no_room: NoRoom) -> Self {
        let kind = match no_room {
            NoRoom::Ever => FailureKind::TooLarge,
            NoRoom::Now => FailureKind::Full,
        };
        Self { kind, message: no_room.to_string(), retry_after: (no_room == NoRoom::Now).then(retry_after) }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::Invalid(Invalid::Malformed(_)) => FailureKind::Malformed,
            Refusal::Invalid(Invalid::TooComplex(_)) => FailureKind::TooComplex,
            Refusal::NoRoom(no_room) => return no_room.into(),
            Refusal::Full => FailureKind::Full,
            Refusal::Memory | Refusal::Draining | Refusal::Unavailable | Refusal::Disk => {
                FailureKind::Unavailable
            }
        };
        Self { kind, message: refusal.to_string(), retry_after: refusal.retry_after() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{self, Malformed};

    fn limit() -> Limit {
        Limit { most: Most { bytes: 64 << 20, ratio: 1000 }, said: "64 MiB".to_owned(), key: "a.key" }
    }

    /// The codes of both transports, and whether to retry.
    fn codes(failure: &Failure) -> (Code, u16, bool) {
        let hint = failure.retry_after;
        assert!(hint.is_none_or(|hint| (1..=2).contains(&hint.as_secs())), "{failure:?}");
        let (code, status) = (failure.kind.code(), failure.kind.status());
        let passes = matches!(status.as_u16(), 429 | 503);
        assert_eq!((code == Code::Unavailable, hint.is_some()), (passes, passes), "{failure:?}");
        (code, status.as_u16(), passes)
    }

    #[test]
    fn every_refusal_has_its_codes() {
        for (refusal, expected) in [
            (Refusal::Full, (Code::Unavailable, 429, true)),
            (Refusal::Memory, (Code::Unavailable, 503, true)),
            (Refusal::Draining, (Code::Unavailable, 503, true)),
            (Refusal::Unavailable, (Code::Unavailable, 503, true)),
            (Refusal::Disk, (Code::Unavailable, 503, true)),
            (Invalid::from(Malformed::TOO_LARGE).into(), (Code::InvalidArgument, 400, false)),
            (Invalid::TooComplex(otlp::Limit::Scopes).into(), (Code::InvalidArgument, 400, false)),
            (Refusal::NoRoom(NoRoom::Now), (Code::Unavailable, 429, true)),
            (Refusal::NoRoom(NoRoom::Ever), (Code::ResourceExhausted, 413, false)),
        ] {
            assert_eq!(codes(&refusal.into()), expected, "{refusal}");
        }
    }

    #[test]
    fn retry_hints_differ() {
        let hint = || Refusal::Full.retry_after();
        let first = hint();
        assert!((0..100).any(|_| hint() != first));
    }

    #[test]
    fn what_cannot_be_read_has_its_codes() {
        for (why, expected, said) in [
            (
                Unreadable::TooLarge,
                (Code::ResourceExhausted, 413, false),
                "64 MiB; send smaller batches, or raise `a.key`",
            ),
            (Unreadable::TooDense, (Code::ResourceExhausted, 413, false), "1000 times as large"),
            (Unreadable::NoRoom(NoRoom::Ever), (Code::ResourceExhausted, 413, false), "request_limit_mib"),
            (Unreadable::NoRoom(NoRoom::Now), (Code::Unavailable, 429, true), "a little later"),
            (Unreadable::Malformed("bad gzip"), (Code::InvalidArgument, 400, false), "bad gzip"),
            (Unreadable::Gone, (Code::Cancelled, 400, false), "to its end"),
        ] {
            let failure = Failure::unreadable(why, &limit());
            assert_eq!(codes(&failure), expected, "{failure:?}");
            assert!(failure.message.contains(said), "{failure:?}");
        }
    }

    #[test]
    fn the_rest_is_not_sent_again_but_for_the_slow() {
        assert_eq!(codes(&Failure::unknown_path("/a", "/b")), (Code::Unimplemented, 404, false));
        assert_eq!(codes(&Failure::too_slow(Duration::from_secs(30))), (Code::DeadlineExceeded, 408, false));
        for (kind, expected) in [
            (FailureKind::WrongMethod, (Code::Unimplemented, 405, false)),
            (FailureKind::UnknownType, (Code::InvalidArgument, 415, false)),
            (FailureKind::UnknownEncoding, (Code::Unimplemented, 415, false)),
        ] {
            assert_eq!(codes(&Failure::new(kind, "")), expected, "{kind:?}");
        }
    }

    /// A row of the page has a code, a status, and whether OTLP senders retry on these.
    #[test]
    fn the_page_of_answers_has_each_code() {
        let expected = FailureKind::VARIANTS.iter().map(|kind| {
            let (code, status) = (kind.code(), kind.status().as_u16());
            let by_grpc = matches!(code, Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable);
            let again = match (by_grpc, matches!(status, 429 | 503)) {
                (true, true) => "in a second or two",
                (true, false) => "by gRPC",
                _ => "no",
            };
            [format!("{code:?}").to_uppercase(), status.to_string(), again.to_owned()]
        });
        let page = include_str!("../../docs/answering.md");
        let rows = page.lines().filter_map(|line| {
            let cells: Vec<_> = line.trim_matches(['|', ' ']).split(" | ").collect();
            let [_, code, status, again] = cells[..] else { return None };
            status.parse::<u16>().ok()?;
            Some([code.replace('_', ""), status.to_owned(), again.to_owned()])
        });
        let (mut rows, mut expected): (Vec<_>, Vec<_>) = (rows.collect(), expected.collect());
        expected.sort();
        rows.sort();
        assert_eq!(rows, expected);
    }
}
