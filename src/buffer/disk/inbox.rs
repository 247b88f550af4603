//! Rows that wait for the writer, and the bound on their memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::buffer::reason::{LossReason, RejectReason};
use crate::buffer::share::Counted;
use crate::table::{Rows, Tally};

/// The outcome of the rows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// They are on stable storage.
    Durable,
    /// The disk has no room for them, and they were dropped.
    Dropped,
    /// They were given back to their sender.
    Refused(RejectReason),
}

/// The rows of a request on their way to the disk.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) rows: Rows,
    /// Records of the request that are not among its rows.
    pub(super) left_out: Vec<(LossReason, Tally)>,
    /// The records that the gate has counted, until the rows are.
    pub(super) counted: Option<Counted>,
    pub(super) reply: oneshot::Sender<Appended>,
    /// Freed when the rows are on the disk.
    pub(super) memory: InFlight,
}

/// The requests that wait for the writer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Bytes of rows that wait or are being written.
    in_flight: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Waiting {
    appends: VecDeque<Append>,
    closed: bool,
}

/// Memory of rows on their way to the disk. Dropping it frees it.
#[derive(Debug)]
pub struct InFlight {
    of_all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Inbox {
    /// Memory for `bytes` bytes of rows, if all together take no more than `most`. One alone may always be larger.
    pub(super) fn memory(&self, bytes: usize, most: usize) -> Option<InFlight> {
        let take = |taken: usize| (taken == 0 || taken + bytes <= most).then_some(taken + bytes);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(InFlight { of_all: self.in_flight.clone(), bytes })
    }

    /// The bytes of rows that wait or are being written.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Adds `append`; gives it back if the inbox is closed.
    pub(super) fn push(&self, append: Append) -> Result<(), Box<Append>> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Box::new(append));
        }
        waiting.appends.push_back(append);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits for requests, for `longest` at most, and takes those that wait until they have `most` bytes; `None` once it is closed
    /// and empty.
    pub(super) fn take(&self, most: usize, longest: Duration) -> Option<Vec<Append>> {
        let is_idle = |waiting: &mut Waiting| waiting.appends.is_empty() && !waiting.closed;
        let waited = self.wake.wait_timeout_while(self.lock(), longest, is_idle);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        let mut bytes = 0;
        let mut group = Vec::new();
        while bytes < most
            && let Some(append) = waiting.appends.pop_front()
        {
            bytes += append.rows.bytes().len();
            group.push(append);
        }
        (!group.is_empty() || !waiting.closed).then_some(group)
    }

    /// Takes no further request.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Append {
    /// The number of the request's records, those that were left out included.
    pub(super) fn records(&self) -> usize {
        self.rows.len() + self.left_out.iter().map(|(_, records)| records.total()).sum::<usize>()
    }
}

impl InFlight {
    /// Changes to `bytes` bytes, whatever the others take: the rows are there already.
    pub(in crate::buffer) fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.of_all.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.of_all.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// The bytes that it is for.
    pub(in crate::buffer) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
