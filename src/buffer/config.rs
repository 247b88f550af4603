//! The buffer's part of the YAML: `exporters.postgres.sending_queue` and `processors.batch`.

use serde::{Deserialize, Serialize};
use strum::{FromRepr, VariantArray};

use crate::values::duration::GoDuration;
use crate::values::size::ByteSize;

/// `exporters.postgres.sending_queue`: how much is held, and what happens to what does not fit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// `true` answers the sender when the records are held; `false` when they are in PostgreSQL.
    pub enabled: bool,
    /// The most records held at a time, those being written included.
    pub queue_size: usize,
    /// The most bytes of rows held at a time, those being written included.
    pub max_bytes: ByteSize,
    /// What happens to records for which there is no room.
    pub overflow: Overflow,
    /// What `queue_size` counts. This and what follows are other spellings that the Collector has; once the
    /// configuration is loaded, what they say is in the keys above, in `processors.batch` and in `pool_size`.
    #[serde(skip_serializing)]
    pub sizer: Option<Sizer>,
    /// Another name of `pool_size`.
    #[serde(skip_serializing)]
    pub num_consumers: Option<usize>,
    /// `true` is another way to say `enabled: false`.
    #[serde(skip_serializing)]
    pub wait_for_result: Option<bool>,
    /// It is here to be refused by name: a sender never waits for room.
    #[serde(skip_serializing)]
    pub block_on_overflow: Option<bool>,
    /// Another place of `processors.batch`.
    #[serde(skip_serializing)]
    pub batch: Option<QueueBatchConfig>,
}

/// `exporters.postgres.sending_queue.sizer`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Sizer {
    /// Records.
    Items,
    /// Bytes of rows.
    Bytes,
    /// It is here to be refused by name: requests are not held as such.
    Requests,
}

/// `exporters.postgres.sending_queue.batch`, the newer spelling of `processors.batch`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct QueueBatchConfig {
    /// Another name of `timeout`.
    pub flush_timeout: Option<GoDuration>,
    /// Another name of `send_batch_size`.
    pub min_size: Option<usize>,
    /// Another name of `send_batch_max_size`.
    pub max_size: Option<usize>,
    /// What both count; records, whatever the queue counts.
    pub sizer: Option<Sizer>,
}

/// What happens to records for which there is no room.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, FromRepr, VariantArray)]
#[repr(u8)]
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
        Self {
            enabled: true,
            queue_size: 10_000,
            max_bytes: ByteSize::mib(64),
            overflow: Overflow::DropNewest,
            sizer: None,
            num_consumers: None,
            wait_for_result: None,
            block_on_overflow: None,
            batch: None,
        }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { send_batch_size: 100, timeout: GoDuration::seconds(1), send_batch_max_size: 10_000 }
    }
}
