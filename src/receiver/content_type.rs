//! The two content types of OTLP/HTTP. An answer has that of its request.

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Protobuf,
    Json,
}

/// The media types of both.
pub(super) const KNOWN: &str = "application/x-protobuf or application/json";

impl ContentType {
    /// The content type in a request's headers; `None` if it is neither.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|known| known.media_type().eq_ignore_ascii_case(media_type))
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.media_type())
    }
}
