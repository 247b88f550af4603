//! A trouble with its beginning.

use std::time::Instant;

use jiff::Timestamp;

/// A trouble that is reported independently of the store's state.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) detail: String,
    pub(super) since: Timestamp,
    pub(super) steady_since: Instant,
}

impl Condition {
    /// It begins now.
    pub(super) fn from_now(detail: String) -> Self {
        Self { detail, since: Timestamp::now(), steady_since: Instant::now() }
    }
}
