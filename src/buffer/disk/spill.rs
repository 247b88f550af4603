//! Decides whether arriving records stay in memory, or on the disk alone.
//!
//! Once the memory has no room for some, the following ones stay on the disk for a while as well: each time that records in memory
//! follow records on the disk, the stored positions have one range more, and each transaction writes them all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::buffer::budget::Budget;
use crate::buffer::config::Drain;

/// The shortest time for which arriving records stay on the disk alone.
const SHORTEST: Duration = Duration::from_millis(250);
/// The most ranges of stored positions before nothing arriving stays in memory, and the number at which that ends.
const MOST_RANGES: usize = 1000;

/// Whether arriving records stay on the disk alone.
#[derive(Debug)]
pub(super) struct Spill {
    drain: Drain,
    since: Mutex<Option<Instant>>,
    /// Records are on the disk alone.
    backlog: AtomicBool,
    crowded: AtomicBool,
}

impl Spill {
    /// With a `backlog` from earlier runs, or without.
    pub(super) fn new(drain: Drain, backlog: bool) -> Self {
        Self {
            drain,
            since: Mutex::default(),
            backlog: AtomicBool::new(backlog),
            crowded: AtomicBool::new(false),
        }
    }

    /// Whether `records` and `bytes` more may stay in memory. While there is a backlog, they leave a quarter of it to that.
    pub(super) fn admits(&self, budget: &Budget, records: usize, bytes: usize) -> bool {
        let backlog = self.has_backlog();
        if (backlog && self.drain == Drain::Fifo) || self.crowded.load(Ordering::Relaxed) {
            return false;
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = *since {
            // The reader holds less than that, if it holds more than one batch.
            let most = |max: usize| max / 8 * 5;
            let is_low =
                budget.records() <= most(budget.max_records()) && budget.bytes() <= most(budget.max_bytes());
            if backlog && (begun.elapsed() < SHORTEST || !is_low) {
                return false;
            }
            *since = None;
        }
        let most = |max: usize| if backlog { max / 4 * 3 } else { max };
        budget.records() + records <= most(budget.max_records())
            && budget.bytes() + bytes <= most(budget.max_bytes())
    }

    /// Records stay on the disk alone.
    pub(super) fn begin(&self) {
        self.backlog.store(true, Ordering::Release);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Instant::now);
    }

    /// No record is on the disk alone any more.
    pub(super) fn end(&self) {
        self.backlog.store(false, Ordering::Release);
    }

    /// Whether records are on the disk alone.
    pub(super) fn has_backlog(&self) -> bool {
        self.backlog.load(Ordering::Acquire)
    }

    /// The stored positions have so many `ranges`.
    pub(super) fn count(&self, ranges: usize) {
        let crowded = self.crowded.load(Ordering::Relaxed);
        self.crowded.store(ranges > if crowded { MOST_RANGES / 2 } else { MOST_RANGES }, Ordering::Relaxed);
    }
}
