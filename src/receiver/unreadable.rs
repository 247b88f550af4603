//! Why the message of a request cannot be read.

use super::metrics::Unread;
use super::request_memory::NoRoom;
use crate::otlp::json;

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is larger than a message may be, before or after decompression.
    TooLarge,
    /// It is more times as large as it was compressed than a message may be.
    TooDense,
    /// The requests under way leave no room for it.
    NoRoom(NoRoom),
    /// It is not what its transport says.
    Malformed(&'static str),
    /// It is not OTLP/JSON.
    Json(json::Malformed),
    /// The sender or its connection has gone away.
    Gone,
}

impl Unreadable {
    /// As what it counts; who has gone away was not refused.
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
