//! The exporter's instruments: the duration and size of batches, and failures.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use strum::VariantArray as _;

use crate::postgres::error::Class;

#[derive(Debug)]
pub(super) struct Metrics {
    duration: Histogram<f64>,
    batch_size: Histogram<u64>,
    errors: Counter<u64>,
    diverted: Counter<u64>,
}

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
        // Each class is on the page before its first error.
        for class in Class::VARIANTS {
            errors.add(0, &[KeyValue::new("class", <&str>::from(class))]);
        }
        let diverted = meter
            .u64_counter("log_buffer_diverted")
            .with_description("Of the records written, those that a trigger kept out of the table.")
            .build();
        diverted.add(0, &[]);
        Self { duration, batch_size, errors, diverted }
    }

    /// Counts a batch of `records` records that took `elapsed` to write.
    pub(super) fn flushed(&self, records: usize, elapsed: Duration) {
        self.duration.record(elapsed.as_secs_f64(), &[]);
        self.batch_size.record(records as u64, &[]);
    }

    /// Counts `records` written records that a trigger kept out of the table.
    pub(super) fn diverted(&self, records: u64) {
        self.diverted.add(records, &[]);
    }

    /// Counts a failed attempt to write a batch.
    pub(super) fn failed(&self, class: Class) {
        self.errors.add(1, &[KeyValue::new("class", <&str>::from(class))]);
    }
}
