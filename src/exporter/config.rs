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
