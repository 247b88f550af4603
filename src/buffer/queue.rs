//! The queue of waiting records, which decides when a batch is due.
//!
//! Pushing takes a few atomic operations and never waits. One lane at a time takes: it waits until a batch is due, then
//! takes all waiting records, up to the largest batch.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::{Batch, Chunk};
use super::config::BatchConfig;
use super::ledger::Ledger;
use super::reason::DropReason;

/// The most bytes of rows in one batch (a larger single row is still written): short transactions do not delay vacuum,
/// and a retry costs little.
pub(super) const MAX_BATCH_BYTES: usize = 8 << 20;
/// The least time between two batches that are due by their size. A transaction costs PostgreSQL as much as some hundreds
/// of rows, so at a high rate fewer and larger batches are worth the wait.
const GAP: Duration = Duration::from_millis(10);
/// The number of records that are worth a transaction without a wait.
const FULL_SIZE: usize = 2000;
/// The longest time after which an idle lane checks the queue.
const IDLE_LOOK: Duration = Duration::from_millis(500);

/// Chunks in the order of their arrival. Their number is bounded by the budget, since each has a record.
#[derive(Debug)]
pub(super) struct Queue {
    arrived: SegQueue<Chunk>,
    /// The rest of chunks that were taken in part. They are older than all of `arrived`.
    split: SegQueue<Chunk>,
    /// Its count of accepted records, minus `left`, is the number of waiting records.
    ledger: &'static Ledger,
    /// Records that are no longer in `arrived` and `split`. It is raised after a pop.
    left: AtomicU64,
    /// When the oldest waiting record was enqueued, or somewhat before, in nanoseconds since `start`.
    oldest: AtomicU64,
    start: Instant,
    wake: Notify,
    /// For the lane whose turn it is; holds the time of the last take.
    turn: tokio::sync::Mutex<Option<Instant>>,
    /// Records did not fit, so that waiting for a larger batch would only drop more.
    pressed: AtomicBool,
    closed: AtomicBool,
    pace: Pace,
    /// Senders wait for the result, so that a batch is due as soon as it has a record.
    senders_wait: bool,
}

/// When a batch is due, and how large it grows. The values are independent, so that they may change one by one.
#[derive(Debug, Default)]
struct Pace {
    due_size: AtomicUsize,
    /// In nanoseconds.
    due_age: AtomicU64,
    /// This many are due at once, however short the gap.
    full_size: AtomicUsize,
    largest: AtomicUsize,
}

impl Queue {
    /// An empty queue.
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

    /// Changes when batches are due, and how large they are.
    pub(super) fn set_pace(&self, batch: &BatchConfig) {
        let capacity = self.ledger.budget.max_records();
        let due_size = if self.senders_wait { 1 } else { batch.send_batch_size };
        let largest = match batch.send_batch_max_size {
            0 => capacity,
            size => size,
        };
        // A full queue is due, however large batches should be.
        let due_size = due_size.min(capacity);
        // A fifth: two lanes are writing as much as well, and records that arrive meanwhile need room.
        let full_size = FULL_SIZE.min(capacity / 5).min(largest).max(due_size);
        let due_age = u64::try_from(batch.timeout.0.as_nanos()).unwrap_or(u64::MAX);
        self.pace.due_size.store(due_size, Ordering::Relaxed);
        self.pace.due_age.store(due_age, Ordering::Relaxed);
        self.pace.full_size.store(full_size, Ordering::Relaxed);
        self.pace.largest.store(largest, Ordering::Relaxed);
        // A lane that waits by the old values checks again.
        self.wake.notify_one();
    }

    /// Accepts `chunk`, for which there is room, and appends it.
    pub(super) fn push(&self, chunk: Chunk) {
        let len = chunk.len();
        let accepted = self.ledger.books.accept(len);
        // Records accepted after these may have left before them.
        let before = accepted.saturating_sub(self.left.load(Ordering::Acquire)) as usize;
        if before == 0 {
            self.note_oldest(chunk.since());
        }
        self.arrived.push(chunk);
        // Waking a lane costs a sender more than the rest of a put, so it is done once per batch, when enough records wait.
        // An idle lane checks by itself for first records.
        let reaches = |size| before < size && before + len >= size;
        let Pace { due_size, full_size, .. } = &self.pace;
        if [due_size, full_size].into_iter().any(|size| reaches(size.load(Ordering::Relaxed))) {
            self.wake.notify_one();
        }
    }

    /// The most records in one batch.
    pub(super) fn largest(&self) -> usize {
        self.pace.largest.load(Ordering::Relaxed)
    }

    /// Whether records wait.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting() > 0
    }

    /// Makes the waiting records due.
    pub(super) fn press(&self) {
        if self.has_waiting() {
            self.pressed.store(true, Ordering::Release);
            // Every time: a lane may have used up an earlier wake-up for records that it took anyway.
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

    /// Takes the oldest chunks that share their memory with nobody, until they have `wanted` bytes; none at all if that is less
    /// than `least`. A chunk that a lane is writing a part of stays.
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

    /// Has `thin` remove rows of the oldest chunks, until one has lost some, of `most` chunks. Returns the number of these rows.
    ///
    /// Chunks that were looked at are behind the others of `split`. Therefore those of `arrived` come first, and no call begins with the
    /// chunks in which an earlier one has found nothing.
    pub(super) fn thin_oldest(&self, most: usize, thin: impl Fn(&mut Chunk) -> usize) -> usize {
        let (mut thinned, mut passed) = (0, Vec::new());
        while thinned == 0
            && passed.len() < most
            && let Some(mut chunk) = self.arrived.pop().or_else(|| self.split.pop())
        {
            thinned = thin(&mut chunk);
            passed.push(chunk);
        }
        self.leave(thinned);
        passed.into_iter().filter(|chunk| chunk.len() > 0).for_each(|chunk| self.split.push(chunk));
        thinned
    }

    /// Makes everything due, now and later.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The number of waiting records, including those just about to be pushed.
    fn waiting(&self) -> usize {
        // `left` is read first, so that the difference is not negative.
        let left = self.left.load(Ordering::Acquire);
        (self.ledger.books.accepted() - left) as usize
    }

    fn leave(&self, records: usize) {
        self.left.fetch_add(records as u64, Ordering::AcqRel);
    }

    /// Takes `fitting` rows of the oldest chunk; its other rows are then the oldest.
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

    /// Waits until enough records wait, the oldest has waited long enough, records did not fit, or the queue is closed.
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

    /// Takes all waiting records, up to the largest batch in records and bytes.
    fn collect(&self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let largest = self.largest();
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
                // The sender will send it again, and it must not be stored twice. So it counts as rejected.
                self.leave(chunk.len());
                chunk.shed(DropReason::RetryExhausted);
                continue;
            }
            records += chunk.len();
            bytes += chunk.row_bytes();
            chunks.push(chunk);
        }
        if let Some(last) = chunks.last() {
            // The remaining records are not older than this. A push into an empty queue notes its own time.
            self.note_oldest(last.since());
            self.leave(records);
        }
        chunks
    }
}
