//! The exporter's part of the YAML: `exporters.postgres`, apart from its `sending_queue`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::redact::without_password;
use crate::buffer::config::QueueConfig;
use crate::table::identifier::Schema;
use crate::table::index::Index;
use crate::table::mapping::Refusal;
use crate::table::mapping::config::TableConfig;
use crate::table::partition::Width;
use crate::table::{Destination, Mapping};
use crate::values::duration::GoDuration;
use crate::values::secret::REDACTED;
use crate::values::size::ByteSize;

/// `exporters.postgres`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where PostgreSQL is: a URL, a `key=value` string, or `embedded`.
    pub dsn: Dsn,
    /// Where `dsn: embedded` keeps its private PostgreSQL.
    pub data_dir: PathBuf,
    /// Writer lanes, and with them the connections to PostgreSQL.
    pub pool_size: usize,
    /// The schema that holds the tables and the view.
    pub schema: String,
    /// `true` creates and migrates the schema at start; `false` only checks it.
    pub create_schema: bool,
    /// How wide the partitions are that are made.
    pub partition: Width,
    /// How long records are kept.
    pub retention: RetentionConfig,
    /// What partitions have indexes for.
    pub indexes: Vec<Index>,
    /// Whether closed partitions are counted.
    pub counts: bool,
    /// An existing table that records go to, instead of `log_records`.
    pub table: Option<TableConfig>,
    /// The most time one batch may take on the wire before its connection is given up.
    pub timeout: GoDuration,
    /// How long the buffer may take to drain when forebay is asked to end.
    pub shutdown_timeout: GoDuration,
    /// Losses are told by spans of this length.
    pub losses_window: GoDuration,
    /// The buffer in front of the exporter.
    pub sending_queue: QueueConfig,
    /// What happens to a batch that could not be written for a reason that will pass.
    pub retry_on_failure: RetryConfig,
}

/// A connection string. It holds a password, which nothing that prints it shows.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Dsn {
    /// The string.
    pub text: String,
    /// The setting that names a database, where it is not set.
    #[serde(skip)]
    pub(crate) unset: Option<String>,
}

/// `exporters.postgres.retention`. By default everything is kept.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Partitions of which all is older than this are dropped; 0 keeps all.
    pub max_age: GoDuration,
    /// The oldest partitions are dropped when all of them take more than this; 0 is no limit.
    pub max_size: ByteSize,
    /// When the disk is full, the oldest partition is dropped.
    pub drop_when_disk_is_full: bool,
}

/// `exporters.postgres.retry_on_failure`, with the Collector's keys and meanings.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// `false` sheds a batch after its first failure.
    pub enabled: bool,
    /// The wait after the first failure.
    pub initial_interval: GoDuration,
    /// Each wait is spread by this share of itself, up and down (0 to 1).
    pub randomization_factor: f64,
    /// Each wait is this many times the one before (at least 1).
    pub multiplier: f64,
    /// The longest wait.
    pub max_interval: GoDuration,
    /// A batch is shed when it has been tried for this long; 0 never gives up.
    pub max_elapsed_time: GoDuration,
}

impl Config {
    /// Where rows go.
    ///
    /// # Errors
    ///
    /// The key of `table` that cannot be used.
    pub fn destination(&self) -> Result<Destination, Refusal> {
        let mapping = self.table.as_ref().map(Mapping::new).transpose()?;
        Ok(Destination::new(Schema::new(self.schema.clone()), mapping.map(Arc::new)))
    }
}

impl Dsn {
    /// Whether forebay is to run a PostgreSQL of its own.
    pub fn is_embedded(&self) -> bool {
        self.text.trim().eq_ignore_ascii_case("embedded")
    }

    /// The setting that would name a database, where forebay is to run its own only because nobody has named one.
    pub fn unnamed_by(&self) -> Option<&str> {
        self.unset.as_deref().filter(|_| self.is_embedded())
    }
}

impl From<&str> for Dsn {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), unset: None }
    }
}

/// Two that lead to the same are the same, wherever they come from.
impl PartialEq for Dsn {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for Dsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&without_password(&self.text))
    }
}

impl std::fmt::Debug for Dsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_embedded() { "embedded" } else { REDACTED })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dsn: Dsn::from("embedded"),
            data_dir: PathBuf::from(".forebay"),
            pool_size: 2,
            schema: "otel".to_owned(),
            create_schema: true,
            partition: Width::default(),
            retention: RetentionConfig::default(),
            indexes: vec![Index::Errors, Index::Service, Index::TraceId, Index::Attributes],
            counts: true,
            table: None,
            timeout: GoDuration::seconds(10),
            shutdown_timeout: GoDuration::seconds(25),
            losses_window: GoDuration::seconds(5),
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
        }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: GoDuration(Duration::from_millis(1500)),
            randomization_factor: 0.3,
            multiplier: 1.5,
            max_interval: GoDuration::seconds(5),
            max_elapsed_time: GoDuration::default(),
        }
    }
}
