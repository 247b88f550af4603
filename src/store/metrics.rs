//! The store's instruments: partitions dropped, rows deleted, indexes built.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};
use strum::VariantArray as _;

use super::partitions::retention::RetentionReason;
use crate::table::index::Index;

/// The instruments.
#[derive(Debug)]
pub(super) struct Metrics {
    partitions_dropped: Counter<u64>,
    partition_bytes_dropped: Counter<u64>,
    rows_deleted: Counter<u64>,
    indexes_built: Counter<u64>,
}

/// The tables from which retention deletes rows, with the reasons.
const DELETED: [(&str, &str); 9] = [
    ("log_records_default", "max_age"),
    ("log_records_default", "max_size"),
    ("log_records_default", "disk_full"),
    ("resources", "unused"),
    ("scopes", "unused"),
    ("losses", "max_age"),
    ("losses", "max_size"),
    ("dead_letters", "max_age"),
    ("dead_letters", "max_size"),
];

impl Metrics {
    /// Registers them with `meter`.
    pub(super) fn new(meter: &Meter) -> Self {
        let partitions_dropped = meter
            .u64_counter("log_buffer_partitions_dropped")
            .with_description("Partitions that retention has dropped, by reason.")
            .build();
        RetentionReason::VARIANTS.iter().for_each(|&reason| partitions_dropped.add(0, &[because(reason)]));
        let partition_bytes_dropped = meter
            .u64_counter("log_buffer_partitions_dropped_size")
            .with_unit("By")
            .with_description("What these took, with their indexes.")
            .build();
        let rows_deleted = meter
            .u64_counter("log_buffer_rows_deleted")
            .with_description("Rows that retention has deleted one by one, by table and reason.")
            .build();
        for (table, reason) in DELETED {
            rows_deleted.add(0, &[KeyValue::new("table", table), KeyValue::new("reason", reason)]);
        }
        let indexes_built = meter
            .u64_counter("log_buffer_indexes_built")
            .with_description("Indexes that closed partitions were given, by what they are for.")
            .build();
        Index::VARIANTS.iter().for_each(|&index| indexes_built.add(0, &[of(index)]));
        Self { partitions_dropped, partition_bytes_dropped, rows_deleted, indexes_built }
    }

    /// Counts an index that was built.
    pub(super) fn indexed(&self, index: Index) {
        self.indexes_built.add(1, &[of(index)]);
    }

    /// Counts rows that retention has deleted from `table`, one by one or by truncating it.
    pub(super) fn deleted(&self, table: &'static str, reason: &'static str, rows: u64) {
        self.rows_deleted.add(rows, &[KeyValue::new("table", table), KeyValue::new("reason", reason)]);
    }

    /// Counts a partition of `bytes` bytes that retention has dropped.
    pub(super) fn dropped(&self, reason: RetentionReason, bytes: u64) {
        self.partitions_dropped.add(1, &[because(reason)]);
        self.partition_bytes_dropped.add(bytes, &[]);
    }
}

fn of(index: Index) -> KeyValue {
    KeyValue::new("index", <&str>::from(index))
}

fn because(reason: RetentionReason) -> KeyValue {
    KeyValue::new("reason", <&str>::from(reason))
}
