//! The instruments of the durable queue.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::metrics::{Histogram, Meter};

use super::{DurableQueue, Extent};
use crate::values::when::unix_nanos;

/// The instruments of the writer, once a meter is there.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    sync: OnceLock<Histogram<f64>>,
}

/// From a tenth of a millisecond, which a local disk takes, to the time after which a sender waits no longer.
const BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

impl Metrics {
    /// A write and its sync took this long.
    pub(super) fn synced(&self, duration: Duration) {
        if let Some(sync) = self.sync.get() {
            sync.record(duration.as_secs_f64(), &[]);
        }
    }
}

impl DurableQueue {
    /// Registers its instruments with `meter`.
    pub fn observe(self: &Arc<Self>, meter: &Meter) {
        let sync = meter
            .f64_histogram("log_buffer_disk_sync_duration_seconds")
            .with_description(
                "Time of a write to the durable queue and its sync, for all requests that waited.",
            )
            .with_boundaries(BOUNDS.into())
            .build();
        let _ = self.metrics.sync.set(sync);
        let gauge = |name, description, read: fn(&Extent) -> u64| {
            let queue = self.clone();
            meter
                .u64_observable_gauge(name)
                .with_description(description)
                .with_callback(move |observer| observer.observe(read(&queue.extent()), &[]))
                .build();
        };
        gauge("log_buffer_disk_records", "Records on the disk that are not in PostgreSQL.", |extent| {
            extent.records
        });
        gauge("log_buffer_disk_bytes", "Bytes of the durable queue's segments.", |extent| extent.bytes);
        gauge("log_buffer_disk_oldest_seconds", "Age of the oldest such record, to the minute.", |extent| {
            extent.oldest.map_or(0, age)
        });
        gauge("log_buffer_disk_unreadable_segments", "Segments that this version cannot read.", |extent| {
            extent.unreadable
        });
        let most = self.config.max_size.0;
        meter
            .u64_observable_gauge("log_buffer_disk_capacity_bytes")
            .with_description("The most bytes of the durable queue's segments.")
            .with_callback(move |observer| observer.observe(most, &[]))
            .build();
    }
}

/// Seconds since `nanos` after 1970.
fn age(nanos: i64) -> u64 {
    u64::try_from((unix_nanos() - nanos) / 1_000_000_000).unwrap_or_default()
}
