//! The exporter's instruments: how long a batch takes, and what fails.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use strum::VariantArray as _;

use super::error::Class;
use super::partitions::retention::Reason;
use crate::table::index::Index;

/// The instruments.
#[derive(Debug)]
pub(super) struct Metrics {
    duration: Histogram<f64>,
    batch_size: Histogram<u64>,
    errors: Counter<u64>,
    diverted: Counter<u64>,
    partitions_dropped: Counter<u64>,
    partition_bytes_dropped: Counter<u64>,
    rows_deleted: Counter<u64>,
    indexes_built: Counter<u64>,
}

/// The tables of which retention deletes rows, with the reasons.
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
        let duration = meter
            .f64_histogram("log_buffer_flush_duration")
            .with_unit("s")
            .with_description("Time from taking a connection to the answer to COMMIT, for batches written.")
            .with_boundaries(vec![
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ])
            .build();
        let batch_size = meter
            .u64_histogram("log_buffer_batch_size")
            .with_description("Records in each batch written.")
            .with_boundaries(vec![1.0, 10.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 50_000.0])
            .build();
        let errors = meter
            .u64_counter("log_buffer_flush_errors")
            .with_description("Tries to write a batch that failed, by class.")
            .build();
        // So that each class is on the page before its first error.
        Class::VARIANTS
            .iter()
            .for_each(|&class| errors.add(0, &[KeyValue::new("class", <&str>::from(class))]));
        let diverted = meter
            .u64_counter("log_buffer_diverted")
            .with_description("Of the records written, those that a trigger kept out of the table.")
            .build();
        diverted.add(0, &[]);
        let partitions_dropped = meter
            .u64_counter("log_buffer_partitions_dropped")
            .with_description("Partitions that retention has dropped, by reason.")
            .build();
        Reason::VARIANTS.iter().for_each(|&reason| partitions_dropped.add(0, &[because(reason)]));
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
        Self {
            duration,
            batch_size,
            errors,
            diverted,
            partitions_dropped,
            partition_bytes_dropped,
            rows_deleted,
            indexes_built,
        }
    }

    /// A batch of `records` records took `elapsed`.
    pub(super) fn flushed(&self, records: usize, elapsed: Duration) {
        self.duration.record(elapsed.as_secs_f64(), &[]);
        self.batch_size.record(records as u64, &[]);
    }

    /// A trigger kept `records` of the records written out of the table.
    pub(super) fn diverted(&self, records: u64) {
        self.diverted.add(records, &[]);
    }

    /// A try to write a batch failed.
    pub(super) fn failed(&self, class: Class) {
        self.errors.add(1, &[KeyValue::new("class", <&str>::from(class))]);
    }

    /// A partition has this index now.
    pub(super) fn indexed(&self, index: Index) {
        self.indexes_built.add(1, &[of(index)]);
    }

    /// Retention has deleted `rows` rows of `table`, one by one, or by emptying it.
    pub(super) fn deleted(&self, table: &'static str, reason: &'static str, rows: u64) {
        self.rows_deleted.add(rows, &[KeyValue::new("table", table), KeyValue::new("reason", reason)]);
    }

    /// Retention has dropped a partition of `bytes` bytes.
    pub(super) fn dropped(&self, reason: Reason, bytes: u64) {
        self.partitions_dropped.add(1, &[because(reason)]);
        self.partition_bytes_dropped.add(bytes, &[]);
    }
}

fn of(index: Index) -> KeyValue {
    KeyValue::new("index", <&str>::from(index))
}

fn because(reason: Reason) -> KeyValue {
    KeyValue::new("reason", <&str>::from(reason))
}
