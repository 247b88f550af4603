//! The exporter writes batches from the buffer into PostgreSQL, by binary COPY, over connections of its own.
//!
//! [`lane`] is the loop of one writer: take a batch, write it in one transaction (`write.rs`), settle it. A failure is
//! classified by its SQLSTATE, and `verdict.rs` decides the cause: a row (it becomes a dead letter, the others are written),
//! the table or the server (the batch is kept and tried again). If the answer to a COMMIT is lost, the lane's sequence row
//! tells whether it took effect (`turn.rs`), so that nothing is written twice. `queue.rs` is about the durable queue, `losses.rs`
//! records the losses.

mod attempt;
pub mod config;
mod delivery;
mod known;
pub mod lane;
mod losses;
mod metrics;
mod queue;
mod sample;
mod turn;
mod verdict;
mod write;

use std::sync::Arc;

use opentelemetry::metrics::Meter;

use crate::buffer::Buffer;
use crate::store::Store;
use config::Config;
use metrics::Metrics;
use sample::Sample;

/// The state that the lanes and the clerk share.
#[derive(Debug)]
pub struct Exporter {
    store: Arc<Store>,
    buffer: Arc<Buffer>,
    config: Config,
    metrics: Metrics,
    /// A stored record, for lanes that suspect the table.
    sample: Sample,
    /// The stamp of the last takeover of the durable queue, once it was taken over.
    takeover: tokio::sync::Mutex<Option<i64>>,
}

impl Exporter {
    /// An exporter from `buffer` to the `store`.
    pub fn new(config: Config, store: Arc<Store>, buffer: Arc<Buffer>, meter: &Meter) -> Self {
        let (metrics, sample) = (Metrics::new(meter), Sample::default());
        Self { store, buffer, config, metrics, sample, takeover: Default::default() }
    }

    /// The number of lanes, each to be run by [`Exporter::run_lane`].
    pub fn lanes(&self) -> usize {
        self.config.pool_size
    }

    /// Counts records that a trigger kept out of the table, and logs that once.
    fn diverted(&self, records: u64) {
        if records > 0 {
            self.metrics.diverted(records);
            if self.store.triggers_are_news() {
                let (table, counter) = (self.store.destination.table(), "log_buffer_diverted_total");
                tracing::warn!(
                    records,
                    table,
                    "a trigger keeps records out of the table; they count as flushed, and in {counter}"
                );
            }
        }
    }
}
