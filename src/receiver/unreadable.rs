//! Why the message of a request cannot be read.

use super::metrics::Unread;
use super::request_memory::NoRoom;
use crate::otlp::json;

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is larger than a message may be, before or after decompression.
    TooLarge,
    /// It exceeds the decompression ratio.
    TooDense,
    /// The other requests leave no memory for it.
    NoRoom(NoRoom),
    /// It is not valid in its transport.
    Malformed(&'static str),
    /// It is not OTLP/JSON.
    Json(json::Malformed),
    /// The sender has disconnected or reset the request.
    Gone,
}

impl Unreadable {
    /// How it is counted. A sender that has disconnected was not refused.
    pub(super) fn counts_as(self) -> Option<Unread> {
        match self {
            Self::TooLarge | Self::TooDense | Self::NoRoom(NoRoom::Ever) => Some(Unread::TooLarge),
            Self::NoRoom(NoRoom::Now) => Some(Unread::NoRoom),
            Self::Malformed(_) | Self::Json(_) => Some(Unread::Malformed),
            Self::Gone => None,
        }
    }
}

impl From<NoRoom> for Unreadable {
    fn from(error: NoRoom) -> Self {
        Self::NoRoom(error)
    }
}
