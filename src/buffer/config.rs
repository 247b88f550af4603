//! The buffer's part of the YAML: `exporters.postgres.sending_queue` and `processors.batch`.

use std::time::Duration;

use serde::Deserialize;

use crate::duration::GoDuration;

/// `exporters.postgres.sending_queue`: how much is held, and what happens to what does not fit.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// `true` answers the sender when the records are held; `false` when they are in PostgreSQL.
    pub enabled: bool,
    /// The most records held at a time, those being written included.
    pub queue_size: usize,
    /// The most bytes of rows held at a time, those being written included.
    pub max_bytes: usize,
    /// What happens to records for which there is no room.
    pub overflow: Overflow,
}

/// What happens to records for which there is no room.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The arriving records are shed; the answer is OK with their number in `partial_success`.
    DropNewest,
    /// The records that have waited longest are shed; the answer is OK.
    DropOldest,
    /// The whole request is refused, UNAVAILABLE with a retry hint. Only one that is larger than the whole buffer
    /// is taken in part, with the number of the others in `partial_success`.
    Reject,
}

/// `processors.batch`: when a batch is due, and how large it may grow.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// A batch is due as soon as this many records wait.
    pub send_batch_size: usize,
    /// A batch is due as soon as its oldest record has waited this long.
    pub timeout: GoDuration,
    /// The most records in one batch.
    pub send_batch_max_size: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { enabled: true, queue_size: 10_000, max_bytes: 64 << 20, overflow: Overflow::DropNewest }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            send_batch_size: 100,
            timeout: GoDuration(Duration::from_secs(1)),
            send_batch_max_size: 10_000,
        }
    }
}
