//! The way out: batches from the buffer into PostgreSQL, by binary COPY, over connections of its own.
//!
//! [`lane`] is the loop of one writer: take a batch, write it in one transaction (`write.rs`), settle it. A failure is sorted
//! by its SQLSTATE, and `verdict.rs` decides whose fault it was: a row's (it becomes a dead letter, the others are
//! written), the table's or the server's (the batch is kept and tried again). A COMMIT whose answer was lost is looked
//! up by the lane's sequence row, so that nothing is written twice. `losses.rs` writes down what was lost.

mod attempt;
pub mod config;
mod delivery;
mod known;
pub mod lane;
mod losses;
mod metrics;
mod sample;
mod verdict;
mod write;

use std::sync::Arc;

use opentelemetry::metrics::Meter;

use crate::buffer::Buffer;
use crate::store::Store;
use config::Config;
use metrics::Metrics;
use sample::Sample;

/// The lanes' and the clerk's common ground.
#[derive(Debug)]
pub struct Exporter {
    store: Arc<Store>,
    buffer: Arc<Buffer>,
    config: Config,
    metrics: Metrics,
    /// For the lanes that suspect the table.
    sample: Sample,
}

impl Exporter {
    /// An exporter from `buffer` to the `store`.
    pub fn new(config: Config, store: Arc<Store>, buffer: Arc<Buffer>, meter: &Meter) -> Self {
        Self { store, buffer, config, metrics: Metrics::new(meter), sample: Sample::default() }
    }

    /// The number of lanes, each to be run by [`Exporter::run_lane`].
    pub fn lanes(&self) -> usize {
        self.config.pool_size
    }

    /// Counts records that a trigger has kept out of the table, and says so once.
    fn diverted(&self, records: u64) {
        if records > 0 {
            self.metrics.diverted(records);
            if self.store.triggers_are_news() {
                let table = self.store.destination.table();
                tracing::warn!(
                    records,
                    table,
                    "a trigger keeps records out of the table; they count as flushed, and in log_buffer_diverted_total"
                );
            }
        }
    }
}
