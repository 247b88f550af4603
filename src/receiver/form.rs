//! The two encodings of OTLP/HTTP: a request has one of them, and its answer the same.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::answer::Failure;
use super::intake::Accepted;
use crate::otlp::messages::{export_response, export_response_json, status, status_json};

/// An encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Protobuf,
    Json,
}

/// The media types of both.
pub(super) const KNOWN: &str = "application/x-protobuf and application/json";

impl Form {
    /// What a request says that it has; `None` where that is neither.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|form| form.media_type().eq_ignore_ascii_case(media_type))
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(self.media_type())
    }

    pub(super) fn accepted(self, accepted: &Accepted) -> Bytes {
        match self {
            Self::Protobuf => export_response(accepted.rejected, &accepted.message),
            Self::Json => export_response_json(accepted.rejected, &accepted.message),
        }
    }

    pub(super) fn failure(self, failure: &Failure) -> Bytes {
        let code = failure.why.code() as i32;
        match self {
            Self::Protobuf => status(code, &failure.message),
            Self::Json => status_json(code, &failure.message),
        }
    }
}
