//! A queue on a simulated disk with its writer and its reader.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::super::log::Log;
use super::super::simulated::Simulated;
use super::super::{Appended, DurableQueue};
use super::{Sample, samples, settings};
use crate::buffer::config::{BatchConfig, QueueConfig, StorageConfig};
use crate::buffer::{Batch, Buffer};
use crate::table::Rows;
use crate::telemetry::Health;
use crate::values::positions::Positions;

/// The size from which on a segment of these tests is complete: each has one group, or two small ones.
const SEGMENT: u64 = 9000;

pub(super) struct Running {
    pub(super) disk: Simulated,
    pub(super) buffer: Arc<Buffer>,
    pub(super) health: Health,
    log: Mutex<Option<Log<Simulated>>>,
}

/// Ends the threads, so that a test that fails does not wait for them.
struct Closes<'a>(&'a Running);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.buffer.close();
        self.0.queue().close_writer();
        self.0.queue().close_reader();
    }
}

impl Running {
    pub(super) fn new() -> Self {
        Self::seeded(1)
    }

    pub(super) fn seeded(seed: u64) -> Self {
        Self::with(seed, Self::config(), 10_000)
    }

    pub(super) fn config() -> StorageConfig {
        StorageConfig::default()
    }

    /// With memory for `records` records.
    pub(super) fn with(seed: u64, config: StorageConfig, records: usize) -> Self {
        Self::on(Simulated::new(seed), config, QueueConfig { queue_size: records, ..QueueConfig::default() })
    }

    pub(super) fn on(disk: Simulated, config: StorageConfig, memory: QueueConfig) -> Self {
        let health = Health::new();
        let (log, segments) = Log::open(disk.clone(), settings(SEGMENT)).unwrap();
        let format = settings(SEGMENT).format;
        let queue = DurableQueue::new(log.id(), config, format, segments, health.clone());
        let batch = BatchConfig { send_batch_size: 1, ..BatchConfig::default() };
        let buffer = Arc::new(Buffer::new(&memory, &batch).durably(queue));
        Self { disk, buffer, health, log: Mutex::new(Some(log)) }
    }

    pub(super) fn queue(&self) -> &Arc<DurableQueue> {
        self.buffer.durable().unwrap()
    }

    /// Runs the writer and the reader until `meanwhile` is done.
    pub(super) fn run<T>(&self, meanwhile: impl FnOnce(&Self) -> T) -> T {
        let log = self.log.lock().unwrap().take().expect("it runs once");
        std::thread::scope(|scope| {
            scope.spawn(|| self.buffer.write_to_disk(self.disk.clone(), log));
            scope.spawn(|| self.buffer.read_back(self.disk.clone()));
            let closes = Closes(self);
            let result = meanwhile(self);
            drop(closes);
            result
        })
    }

    /// Appends the request of a sample, as a receiver does.
    pub(super) fn append(&self, at: usize) -> oneshot::Receiver<Appended> {
        self.append_rows(&samples()[at])
    }

    pub(super) fn append_rows(&self, sample: &Sample) -> oneshot::Receiver<Appended> {
        let rows = Rows::restore(&sample.described, sample.rows.bytes().to_vec()).unwrap();
        self.buffer.books().receive(rows.len());
        let memory = self.queue().memory(rows.held_bytes(), usize::MAX);
        self.queue().append(rows, Vec::new(), None, memory, self.buffer.books())
    }

    /// PostgreSQL was reached, and has nothing.
    pub(super) fn adopt(&self) -> u64 {
        self.queue().adopt(&Positions::default(), 255)
    }

    /// PostgreSQL has `batch`.
    pub(super) fn store(&self, batch: Batch) {
        let claims = self.queue().claims();
        let claim = claims.claim(0, 0, batch.positions());
        claims.confirm(&claim);
        batch.settle_written(&Default::default());
    }
}
