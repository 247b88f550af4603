//! The exporter's part of the YAML: `exporters.postgres`, apart from its `sending_queue`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::buffer::config::QueueConfig;
use crate::postgres::backoff::RetryConfig;
use crate::postgres::redact::without_password;
use crate::store;
use crate::store::config::RetentionConfig;
use crate::table::index::Index;
use crate::table::mapping::config::TableConfig;
use crate::table::partition::Width;
use crate::values::duration::GoDuration;
use crate::values::secret::REDACTED;

/// `exporters.postgres`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address of PostgreSQL: a URL, a `key=value` string, or `embedded`.
    pub dsn: Dsn,
    /// The directory of the private PostgreSQL of `dsn: embedded`.
    pub data_dir: PathBuf,
    /// The number of writer lanes, and so of connections to PostgreSQL.
    pub pool_size: usize,
    /// The schema that holds the tables and the view.
    pub schema: String,
    /// `true` creates and migrates the schema at start; `false` only checks it.
    pub create_schema: bool,
    /// The width of new partitions.
    pub partition: Width,
    /// How long records are kept.
    pub retention: RetentionConfig,
    /// The indexes of partitions.
    pub indexes: Vec<Index>,
    /// Whether closed partitions are counted.
    pub counts: bool,
    /// An existing table to write to instead of `log_records`.
    pub table: Option<TableConfig>,
    /// The longest that an attempt to write a batch may take before its connection is closed.
    pub timeout: GoDuration,
    /// The longest that the buffer may take to drain at shutdown.
    pub shutdown_timeout: GoDuration,
    /// The length of the windows that losses are recorded by.
    pub losses_window: GoDuration,
    /// The buffer in front of the exporter.
    pub sending_queue: QueueConfig,
    /// The treatment of a batch that could not be written for a temporary reason.
    pub retry_on_failure: RetryConfig,
}

/// A connection string. It may hold a password, which is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Dsn {
    /// The string.
    pub text: String,
    /// The setting that would name a database, if it is not set.
    #[serde(skip)]
    pub(crate) unset: Option<String>,
}

impl Config {
    /// The keys that are about the store.
    pub fn store(&self) -> store::Config {
        store::Config {
            pool_size: self.pool_size,
            schema: self.schema.clone(),
            create_schema: self.create_schema,
            partition: self.partition,
            retention: self.retention.clone(),
            indexes: self.indexes.clone(),
            counts: self.counts,
            table: self.table.clone(),
            timeout: self.timeout.0,
        }
    }
}

impl Dsn {
    /// Whether forebay runs a PostgreSQL of its own.
    pub fn is_embedded(&self) -> bool {
        self.text.trim().eq_ignore_ascii_case("embedded")
    }

    /// The setting that would name a database, if forebay runs its own only because none is named.
    pub fn unnamed_by(&self) -> Option<&str> {
        self.unset.as_deref().filter(|_| self.is_embedded())
    }
}

impl From<&str> for Dsn {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), unset: None }
    }
}

/// Equal texts are equal, wherever they come from.
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
        let store::Config { pool_size, schema, create_schema, partition, retention, .. } =
            store::Config::default();
        let store::Config { indexes, counts, table, timeout, .. } = store::Config::default();
        Self {
            dsn: Dsn::from("embedded"),
            data_dir: PathBuf::from(".forebay"),
            pool_size,
            schema,
            create_schema,
            partition,
            retention,
            indexes,
            counts,
            table,
            timeout: GoDuration(timeout),
            shutdown_timeout: GoDuration::seconds(25),
            losses_window: GoDuration::seconds(5),
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
        }
    }
}
