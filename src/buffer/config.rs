//! The buffer's part of the YAML: `exporters.postgres.sending_queue`, `extensions.file_storage` and `processors.batch`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strum::{FromRepr, VariantArray};

use super::fold::config::FoldConfig;
use crate::values::duration::GoDuration;
use crate::values::percent::Percent;
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
    /// With `overflow: fair`, how many times as much as is free a sender may hold, by severity.
    pub overflow_weights: Weights,
    /// With `overflow: fair`, who shares the buffer, and what happens to records beyond a share.
    pub fairness: Fairness,
    /// How repeated records are folded while the buffer fills.
    pub fold: FoldConfig,
    /// The extension that names the directory of the durable queue, or `none`. Loading the configuration moves this and the
    /// following keys into [`StorageConfig`].
    #[serde(skip_serializing)]
    pub storage: Option<String>,
    /// [`StorageConfig::max_size`].
    #[serde(skip_serializing)]
    pub max_size: Option<ByteSize>,
    /// [`StorageConfig::min_free`].
    #[serde(skip_serializing)]
    pub min_free: Option<Percent>,
    /// [`StorageConfig::keep_for`].
    #[serde(skip_serializing)]
    pub keep_for: Option<GoDuration>,
    /// [`StorageConfig::drain`].
    #[serde(skip_serializing)]
    pub drain: Option<Drain>,
    /// [`StorageConfig::disk_timeout`].
    #[serde(skip_serializing)]
    pub disk_timeout: Option<GoDuration>,
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

/// The durable queue: `exporters.postgres.sending_queue.storage`, with the extension that it names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StorageConfig {
    /// The name of the extension: `file_storage`, or `file_storage/NAME`.
    #[serde(rename = "storage")]
    pub name: String,
    /// The extension. Its directory is named.
    #[serde(skip)]
    pub files: FileStorageConfig,
    /// The most bytes on disk.
    pub max_size: ByteSize,
    /// The part of the file system that the queue leaves free, up to 1 GiB.
    pub min_free: Percent,
    /// How long records stay on disk after PostgreSQL has stored them.
    pub keep_for: GoDuration,
    /// The order in which records are written after an outage.
    pub drain: Drain,
    /// The longest that a request may wait for the disk.
    pub disk_timeout: GoDuration,
}

/// `extensions.file_storage`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileStorageConfig {
    /// The directory of the files; empty is `queue` in `exporters.postgres.data_dir`.
    pub directory: PathBuf,
    /// Whether a missing directory is created.
    pub create_directory: bool,
    /// Whether records are on stable storage before the sender is answered.
    pub fsync: bool,
}

/// `exporters.postgres.sending_queue.drain`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drain {
    /// One lane writes the records that arrive, the others those that wait on disk.
    Fair,
    /// The records that have waited longest are written first.
    Fifo,
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
    /// A sender gets no more than its share, by severity; what happens beyond it is [`Fairness::beyond`].
    Fair,
    /// The arriving records are dropped; the answer is OK with their number in `partial_success`.
    DropNewest,
    /// The records that have waited longest are dropped; the answer is OK.
    DropOldest,
    /// The whole request is refused, UNAVAILABLE with a retry hint. Only a request that is larger than the whole buffer is
    /// accepted in part, with the number of the other records in `partial_success`.
    Reject,
}

/// `exporters.postgres.sending_queue.overflow_weights`: a record is admitted while what its sender holds in its band of severity is at
/// most so many times what is free.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// For severity numbers 1 to 8.
    pub debug: u32,
    /// For severity numbers 9 to 12, and for records without one.
    pub info: u32,
    /// For severity numbers 13 to 16.
    pub warn: u32,
    /// For severity numbers from 17 on.
    pub error: u32,
}

/// `exporters.postgres.sending_queue.fairness`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fairness {
    /// The resource attribute that names the sender.
    pub by: String,
    /// The policy for records beyond the share of their sender.
    pub beyond: Beyond,
}

/// `exporters.postgres.sending_queue.fairness.beyond`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// They are dropped; the answer is OK with their number in `partial_success`.
    DropNewest,
    /// The same, but WARN and ERROR take the place of waiting DEBUG and INFO records.
    DropOldest,
    /// A request of which no record is admitted is refused, UNAVAILABLE with a retry hint. Otherwise as `drop_newest`.
    Reject,
}

impl From<Beyond> for Overflow {
    fn from(beyond: Beyond) -> Self {
        match beyond {
            Beyond::DropNewest => Self::DropNewest,
            Beyond::DropOldest => Self::DropOldest,
            Beyond::Reject => Self::Reject,
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self { debug: 1, info: 4, warn: 16, error: 64 }
    }
}

impl Default for Fairness {
    fn default() -> Self {
        Self { by: "service.name".to_owned(), beyond: Beyond::DropNewest }
    }
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
            overflow: Overflow::Fair,
            overflow_weights: Weights::default(),
            fairness: Fairness::default(),
            fold: FoldConfig::default(),
            storage: None,
            max_size: None,
            min_free: None,
            keep_for: None,
            drain: None,
            disk_timeout: None,
            sizer: None,
            num_consumers: None,
            wait_for_result: None,
            block_on_overflow: None,
            batch: None,
        }
    }
}

impl StorageConfig {
    /// The bytes that stay free of a file system of `total` bytes: `min_free` of it, but no more than 1 GiB.
    pub fn kept_free(&self, total: u64) -> u64 {
        (total / 100 * u64::from(self.min_free.0)).min(1 << 30)
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            name: "file_storage".to_owned(),
            files: FileStorageConfig::default(),
            max_size: ByteSize::mib(10 * 1024),
            min_free: Percent(10),
            keep_for: GoDuration::seconds(60),
            drain: Drain::Fair,
            disk_timeout: GoDuration::seconds(5),
        }
    }
}

impl Default for FileStorageConfig {
    fn default() -> Self {
        Self { directory: PathBuf::new(), create_directory: true, fsync: true }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { send_batch_size: 100, timeout: GoDuration::seconds(1), send_batch_max_size: 10_000 }
    }
}
