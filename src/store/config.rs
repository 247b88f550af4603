//! How the store is maintained: the part of `exporters.postgres` that concerns the database's content.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::table::identifier::Schema;
use crate::table::index::Index;
use crate::table::mapping::Refusal;
use crate::table::mapping::config::TableConfig;
use crate::table::partition::Width;
use crate::table::{Destination, Mapping};
use crate::values::duration::GoDuration;
use crate::values::size::ByteSize;

/// The keys of `exporters.postgres` that the store and the operator's commands use; the exporter's own `Config` explains each.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections of the lanes, which the store's keeper shares.
    pub pool_size: usize,
    /// The schema that holds the tables and the view.
    pub schema: String,
    /// Whether the schema is created and migrated, or only checked.
    pub create_schema: bool,
    /// The width of new partitions.
    pub partition: Width,
    /// How long records are kept.
    pub retention: RetentionConfig,
    /// The indexes of partitions.
    pub indexes: Vec<Index>,
    /// Whether closed partitions are counted.
    pub counts: bool,
    /// An existing table that records go to, instead of `log_records`.
    pub table: Option<TableConfig>,
    /// The longest that a statement may take.
    pub timeout: Duration,
}

/// `exporters.postgres.retention`. By default everything is kept.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Partitions that ended longer ago than this are dropped; 0 keeps all.
    pub max_age: GoDuration,
    /// The oldest partitions are dropped when all together take more than this; 0 is no limit.
    pub max_size: ByteSize,
    /// When the disk is full, the oldest partition is dropped.
    pub drop_when_disk_is_full: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pool_size: 2,
            schema: "otel".to_owned(),
            create_schema: true,
            partition: Width::default(),
            retention: RetentionConfig::default(),
            indexes: vec![Index::Errors, Index::Service, Index::TraceId, Index::Attributes],
            counts: true,
            table: None,
            timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// The table that rows go to.
    ///
    /// # Errors
    ///
    /// Names the key of `table` that cannot be used.
    pub fn destination(&self) -> Result<Destination, Refusal> {
        let mapping = self.table.as_ref().map(Mapping::new).transpose()?;
        Ok(Destination::new(Schema::new(self.schema.clone()), mapping.map(Arc::new)))
    }
}
