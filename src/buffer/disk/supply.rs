//! Gives lanes their batches: of what arrives, or of what was read back from the disk.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::{DurableQueue, lock};
use crate::buffer::batch::Batch;
use crate::buffer::config::Drain;
use crate::buffer::queue::Queue;

/// The most batches that were read back and wait for a lane.
pub(super) const MOST_READY: usize = 2;

/// Batches that were read back, for the lanes.
#[derive(Debug, Default)]
pub(super) struct Supply {
    ready: Mutex<VecDeque<Batch>>,
    lanes: Notify,
    /// A single lane takes both kinds in turns.
    turn: AtomicBool,
}

impl Supply {
    pub(super) fn add(&self, batch: Batch) {
        lock(&self.ready).push_back(batch);
        self.lanes.notify_one();
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.ready).is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        lock(&self.ready).len() >= MOST_READY
    }

    /// Leaves the batches to the disk.
    pub(super) fn clear(&self) {
        let batches = std::mem::take(&mut *lock(&self.ready));
        drop(batches);
    }

    fn take(&self) -> Option<Batch> {
        lock(&self.ready).pop_front()
    }

    async fn next(&self) -> Batch {
        loop {
            if let Some(batch) = self.take() {
                return batch;
            }
            self.lanes.notified().await;
        }
    }

    /// The next batch in the order of arrival. What is in memory came before what was read back: while that waits, all that arrives
    /// stays on the disk.
    async fn next_in_order(&self, arriving: &Queue) -> Option<Batch> {
        let batch = loop {
            if !arriving.has_waiting()
                && let Some(batch) = self.take()
            {
                break Some(batch);
            }
            if !self.is_empty() {
                arriving.press();
            }
            tokio::select! {
                biased;
                batch = arriving.take() => break batch,
                () = self.lanes.notified() => {}
            }
        };
        // Another lane may wait for what arrives.
        if !self.is_empty() {
            self.lanes.notify_one();
        }
        batch
    }
}

impl DurableQueue {
    /// The next batch for `lane` of `lanes`; `None` once the queue of what arrives is closed and empty.
    ///
    /// If the queue is fair, the first lane prefers what arrives, the others what was read back. Each takes the other kind where there
    /// is none of its own.
    pub(in crate::buffer) async fn take(&self, arriving: &Queue, lane: usize, lanes: usize) -> Option<Batch> {
        if arriving.is_closed() {
            return arriving.take().await;
        }
        // The batch before is settled, and has left room.
        self.bell.ring();
        let live_first = if lanes > 1 { lane == 0 } else { self.supply.turn.fetch_not(Ordering::Relaxed) };
        let batch = if self.config.drain == Drain::Fifo {
            self.supply.next_in_order(arriving).await
        } else if live_first {
            tokio::select! {
                biased;
                batch = arriving.take() => batch,
                batch = self.supply.next() => Some(batch),
            }
        } else {
            tokio::select! {
                biased;
                batch = self.supply.next() => Some(batch),
                batch = arriving.take() => batch,
            }
        };
        self.bell.ring();
        batch
    }
}
