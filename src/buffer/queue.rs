//! What waits, and when a batch of it is due.
//!
//! Pushing takes a few atomic operations and never waits. Taking is for one lane at a time: it waits until a
//! batch is due, then takes all that waits, up to the largest batch.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::{Batch, Chunk};
use super::config::BatchConfig;
use super::ledger::Ledger;
use super::reason::DropReason;

/// The most bytes of rows in one batch (a larger single row still goes): short transactions hold back no
/// vacuum, and a retry costs little.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// A batch that is due by its size waits for so long after the one before: a transaction costs PostgreSQL as much as
/// some hundreds of rows, so that at a high rate fewer and larger batches are worth the wait.
const GAP: Duration = Duration::from_millis(10);
/// So many are worth a transaction without a wait.
const FULL_SIZE: usize = 2000;
/// How often an idle lane looks, at the least often.
const IDLE_LOOK: Duration = Duration::from_millis(500);

/// Chunks in the order of their arrival. Their number is bounded by the budget, since each has a record.
#[derive(Debug)]
pub(super) struct Queue {
    arrived: SegQueue<Chunk>,
    /// What is left of chunks that were taken in part, which is older than all of `arrived`.
    split: SegQueue<Chunk>,
    /// Whose count of accepted records, less those that have left, is the count of those that wait.
    ledger: &'static Ledger,
    /// Records that are no longer in `arrived` and `split`. It is raised after a pop.
    left: AtomicU64,
    /// When the oldest of them was enqueued, in nanoseconds since `start`, or somewhat before that.
    oldest: AtomicU64,
    start: Instant,
    wake: Notify,
    /// For the lane whose turn it is; holds the time of the last take.
    turn: tokio::sync::Mutex<Option<Instant>>,
    /// Something had no room, so that waiting for a larger batch would only shed more.
    pressed: AtomicBool,
    closed: AtomicBool,
    pace: Pace,
    /// Senders wait for the result, so that a batch is due as soon as it has a record.
    senders_wait: bool,
}

/// When a batch is due, and how large it grows. Each value stands for itself, so that they may change one by one.
#[derive(Debug, Default)]
struct Pace {
    due_size: AtomicUsize,
    /// In nanoseconds.
    due_age: AtomicU64,
    /// So many are due at once, however short the gap.
    full_size: AtomicUsize,
    largest: AtomicUsize,
}

impl Queue {
    /// An empty queue. Where senders wait for the result, a batch is due as soon as it has a record.
    pub(super) fn new(ledger: &'static Ledger, batch: &BatchConfig, senders_wait: bool) -> Self {
        let queue = Self {
            arrived: SegQueue::new(),
            split: SegQueue::new(),
            ledger,
            left: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
            start: Instant::now(),
            wake: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            pressed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            pace: Pace::default(),
            senders_wait,
        };
        queue.set_pace(batch);
        queue
    }

    /// From now on batches are due by `batch`.
    pub(super) fn set_pace(&self, batch: &BatchConfig) {
        let capacity = self.ledger.budget.max_records();
        let due_size = if self.senders_wait { 1 } else { batch.send_batch_size };
        let largest = match batch.send_batch_max_size {
            0 => capacity,
            size => size,
        };
        // A full queue is due, however large batches should be.
        let due_size = due_size.min(capacity);
        // Two lanes at work hold their shares as well, and there has to be room for what arrives meanwhile.
        let full_size = FULL_SIZE.min(capacity / 5).min(largest).max(due_size);
        let due_age = u64::try_from(batch.timeout.0.as_nanos()).unwrap_or(u64::MAX);
        self.pace.due_size.store(due_size, Ordering::Relaxed);
        self.pace.due_age.store(due_age, Ordering::Relaxed);
        self.pace.full_size.store(full_size, Ordering::Relaxed);
        self.pace.largest.store(largest, Ordering::Relaxed);
        // Who waits for a batch to be due by the old values looks again.
        self.wake.notify_one();
    }

    /// Accepts `chunk`, for which there is room, and appends it.
    pub(super) fn push(&self, chunk: Chunk) {
        let len = chunk.len();
        let accepted = self.ledger.books.accept(len);
        // What was accepted behind this may have left before it.
        let before = accepted.saturating_sub(self.left.load(Ordering::Acquire)) as usize;
        if before == 0 {
            self.note_oldest(chunk.since());
        }
        self.arrived.push(chunk);
        // Waking a lane costs a sender more than all the rest of a put, so it is done once a batch: when enough waits.
        // An idle lane looks by itself whether something has begun to wait.
        let reaches = |size| before < size && before + len >= size;
        let Pace { due_size, full_size, .. } = &self.pace;
        if [due_size, full_size].into_iter().any(|size| reaches(size.load(Ordering::Relaxed))) {
            self.wake.notify_one();
        }
    }

    /// Makes what waits due.
    pub(super) fn press(&self) {
        if self.waiting() > 0 {
            self.pressed.store(true, Ordering::Release);
            // Each time: a lane may have taken an earlier call for what it took itself.
            self.wake.notify_one();
        }
    }

    /// The next batch, as soon as one is due; `None` once the queue is closed and empty.
    pub(super) async fn take(&self) -> Option<Batch> {
        let mut last = self.turn.lock().await;
        loop {
            self.due(*last).await;
            let chunks = self.collect();
            if !chunks.is_empty() {
                *last = Some(Instant::now());
                return Some(Batch::new(chunks));
            }
            if self.is_closed() && self.waiting() == 0 {
                return None;
            }
            // A producer has raised the count and is about to push.
            tokio::task::yield_now().await;
        }
    }

    /// Takes up to `most` records of the oldest chunk.
    pub(super) fn pop_oldest(&self, most: usize) -> Option<Chunk> {
        let chunk = self.pop(|chunk| most.min(chunk.len()))?;
        self.leave(chunk.len());
        Some(chunk)
    }

    /// Takes the oldest chunks whose memory is free with them until that is `wanted` bytes; none at all where it is less than
    /// `least`. One that a lane is writing a part of stays.
    pub(super) fn pop_unshared(&self, wanted: usize, least: usize) -> Vec<Chunk> {
        let (mut popped, mut bytes) = (Vec::new(), 0);
        while bytes < wanted
            && let Some(chunk) = self.pop(Chunk::len)
        {
            bytes += if chunk.is_shared() { 0 } else { chunk.held_bytes() };
            popped.push(chunk);
        }
        let (taken, kept): (Vec<_>, Vec<_>) =
            popped.into_iter().partition(|chunk| bytes >= least && !chunk.is_shared());
        kept.into_iter().for_each(|chunk| self.split.push(chunk));
        self.leave(taken.iter().map(Chunk::len).sum());
        taken
    }

    /// Nothing waits any longer for a full batch.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Records that wait, those that are just about to be pushed included.
    fn waiting(&self) -> usize {
        // In this order, so that the difference is not below zero.
        let left = self.left.load(Ordering::Acquire);
        (self.ledger.books.accepted() - left) as usize
    }

    fn leave(&self, records: usize) {
        self.left.fetch_add(records as u64, Ordering::AcqRel);
    }

    /// Takes as many of the oldest chunk's rows as `fitting` says; the others are the oldest then.
    fn pop(&self, fitting: impl FnOnce(&Chunk) -> usize) -> Option<Chunk> {
        let mut chunk = self.split.pop().or_else(|| self.arrived.pop())?;
        if let Some(rest) = chunk.split_off(fitting(&chunk)) {
            self.split.push(rest);
        }
        Some(chunk)
    }

    fn note_oldest(&self, since: Instant) {
        let nanos = since.saturating_duration_since(self.start).as_nanos();
        self.oldest.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn oldest(&self) -> Instant {
        self.start + Duration::from_nanos(self.oldest.load(Ordering::Acquire))
    }

    /// Waits until enough waits, or the oldest has waited long enough, or more had no room, or the queue is
    /// closed.
    async fn due(&self, last: Option<Instant>) {
        let gap = if self.senders_wait { Duration::ZERO } else { GAP };
        while !self.is_closed() {
            let waiting = self.waiting();
            let due_age = Duration::from_nanos(self.pace.due_age.load(Ordering::Relaxed));
            if waiting >= self.pace.full_size.load(Ordering::Relaxed)
                || (waiting > 0 && self.pressed.load(Ordering::Acquire))
            {
                self.pressed.store(false, Ordering::Release);
                return;
            }
            let look = if waiting > 0 {
                let by_age = self.oldest() + due_age;
                let by_size = last.map_or(self.start, |last| last + gap);
                let is_large = waiting >= self.pace.due_size.load(Ordering::Relaxed);
                let due = if is_large { by_age.min(by_size) } else { by_age };
                if due <= Instant::now() {
                    return;
                }
                due
            } else {
                // Soon enough to find a record before it is due.
                Instant::now() + (due_age / 2).clamp(Duration::from_millis(1), IDLE_LOOK)
            };
            let _ = tokio::time::timeout_at(look, self.wake.notified()).await;
        }
    }

    /// Takes all that waits, up to the largest batch in records and bytes.
    fn collect(&self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let largest = self.pace.largest.load(Ordering::Relaxed);
        while records < largest && bytes < MAX_BATCH_BYTES {
            let room = |chunk: &Chunk| {
                let fitting = (largest - records).min(chunk.rows_within(MAX_BATCH_BYTES - bytes));
                if chunks.is_empty() { fitting.max(1) } else { fitting }
            };
            let Some(chunk) = self.pop(room) else { break };
            if chunk.len() == 0 {
                break;
            }
            if chunk.is_given_up() {
                // The sender will send it again, and it must not be there twice then. So it is given back, whatever the reason.
                self.leave(chunk.len());
                chunk.shed(DropReason::RetryExhausted);
                continue;
            }
            records += chunk.len();
            bytes += chunk.row_bytes();
            chunks.push(chunk);
        }
        if let Some(last) = chunks.last() {
            // What stays behind is not older than this. Whoever finds nothing waiting notes its own time.
            self.note_oldest(last.since());
            self.leave(records);
        }
        chunks
    }
}
