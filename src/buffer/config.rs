//! The buffer's part of the YAML: `exporters.postgres.sending_queue` and `processors.batch`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strum::{FromRepr, VariantArray};

use crate::values::duration::GoDuration;
use crate::values::size::ByteSize;

/// `exporters.postgres.sending_queue`: the size of the buffer, and its overflow policy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// `true` answers the sender when the records are buffered; `false` when they are in PostgreSQL.
    pub enabled: bool,
    /// The most records buffered at a time, including those being written.
    pub queue_size: usize,
    /// The most bytes of rows buffered at a time, including those being written.
    pub max_bytes: ByteSize,
    /// What happens to records that do not fit.
    pub overflow: Overflow,
    /// The unit of `queue_size`. This and the following keys are the Collector's alternative spellings; loading the
    /// configuration moves their values to the keys above, to `processors.batch` and to `pool_size`.
    #[serde(skip_serializing)]
    pub sizer: Option<Sizer>,
    /// An alias of `pool_size`.
    #[serde(skip_serializing)]
    pub num_consumers: Option<usize>,
    /// `true` means `enabled: false`.
    #[serde(skip_serializing)]
    pub wait_for_result: Option<bool>,
    /// Known only to be refused: a sender never waits for room.
    #[serde(skip_serializing)]
    pub block_on_overflow: Option<bool>,
    /// An alias of `processors.batch`.
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
    /// Known only to be refused: requests are not buffered as such.
    Requests,
}

/// `exporters.postgres.sending_queue.batch`, the newer spelling of `processors.batch`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct QueueBatchConfig {
    /// An alias of `timeout`.
    pub flush_timeout: Option<GoDuration>,
    /// An alias of `send_batch_size`.
    pub min_size: Option<usize>,
    /// An alias of `send_batch_max_size`.
    pub max_size: Option<usize>,
    /// The unit of both sizes: records, whatever the unit of the queue.
    pub sizer: Option<Sizer>,
}

/// What happens to records that do not fit.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, FromRepr, VariantArray)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The arriving records are dropped; the answer is OK with their number in `partial_success`.
    DropNewest,
    /// The records that have waited longest are dropped; the answer is OK.
    DropOldest,
    /// The whole request is refused, UNAVAILABLE with a retry hint. Only a request that is larger than the whole buffer is
    /// accepted in part, with the number of the other records in `partial_success`.
    Reject,
}

/// The durable queue: `extensions.file_storage`, and the keys beside `sending_queue.storage`.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageConfig {
    /// The directory of the queue.
    pub directory: PathBuf,
    /// Whether written records are synced before their senders are answered.
    pub fsync: bool,
    /// The most bytes on disk.
    pub max_size: ByteSize,
    /// The percentage of the file system that stays free.
    pub min_free: u8,
    /// How long records stay on disk after they were stored.
    pub keep_for: GoDuration,
    /// Which records are written first.
    pub drain: Drain,
    /// The longest that a sender waits for the disk.
    pub append_timeout: GoDuration,
}

impl StorageConfig {
    /// The defaults for a queue in `directory`.
    pub fn of(directory: PathBuf) -> Self {
        Self {
            directory,
            fsync: true,
            max_size: ByteSize::mib(10 << 10),
            min_free: 10,
            keep_for: GoDuration::seconds(60),
            drain: Drain::Fair,
            append_timeout: GoDuration::seconds(5),
        }
    }
}

/// `exporters.postgres.sending_queue.drain`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, VariantArray)]
#[serde(rename_all = "snake_case")]
pub enum Drain {
    /// One lane writes what arrives, the others the backlog.
    Fair,
    /// The oldest records are written first.
    Fifo,
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
