//! What waits, and when a batch of it is due.
//!
//! Pushing takes a few atomic operations and never waits. Taking is for one lane at a time: it waits until a
//! batch is due, then takes all that waits, up to the largest batch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::{Batch, Chunk};

/// The most bytes of rows in one batch (a larger single row still goes): short transactions hold back no
/// vacuum, and a retry costs little.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// How often an idle lane looks, at the least often.
const IDLE_LOOK: Duration = Duration::from_millis(500);

/// Chunks in the order of their arrival.
#[derive(Debug)]
pub(super) struct Queue {
    arrived: ArrayQueue<Chunk>,
    /// What was taken out of `arrived` to be looked at or split, and is older than all of it.
    front: Mutex<VecDeque<Chunk>>,
    /// Records in `arrived` and `front`. It is raised before a push and lowered after a pop.
    waiting: AtomicUsize,
    wake: Notify,
    turn: tokio::sync::Mutex<()>,
    /// Something had no room, so that waiting for a larger batch would only shed more.
    pressed: AtomicBool,
    closed: AtomicBool,
    due_size: usize,
    due_age: Duration,
    largest: usize,
}

impl Queue {
    /// An empty queue for up to `capacity` records.
    pub(super) fn new(capacity: usize, due_size: usize, due_age: Duration, largest: usize) -> Self {
        Self {
            // A chunk has at least one record, so that there are never more chunks than records.
            arrived: ArrayQueue::new(capacity.max(1)),
            front: Mutex::default(),
            waiting: AtomicUsize::new(0),
            wake: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            pressed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            // A full queue is due, however large batches should be.
            due_size: due_size.min(capacity),
            due_age,
            largest,
        }
    }

    /// Appends `chunk`, for which there is room.
    pub(super) fn push(&self, chunk: Chunk) {
        let len = chunk.len();
        let before = self.waiting.fetch_add(len, Ordering::AcqRel);
        if let Err(chunk) = self.arrived.push(chunk) {
            // The budget admits no more records than there are places. Dropping the chunk counts it.
            debug_assert!(false, "the queue has a place for each record of the budget");
            drop(chunk);
            self.waiting.fetch_sub(len, Ordering::AcqRel);
        }
        // Waking a lane costs a sender more than all the rest of a put, so it is done once a batch: when enough waits.
        // An idle lane looks by itself whether something has begun to wait.
        if before < self.due_size && before + len >= self.due_size {
            self.wake.notify_one();
        }
    }

    /// Makes what waits due.
    pub(super) fn press(&self) {
        if self.waiting.load(Ordering::Acquire) > 0 && !self.pressed.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// The next batch, as soon as one is due; `None` once the queue is closed and empty.
    pub(super) async fn take(&self) -> Option<Batch> {
        let _turn = self.turn.lock().await;
        loop {
            self.due().await;
            let chunks = self.collect();
            if !chunks.is_empty() {
                return Some(Batch::new(chunks));
            }
            if self.is_closed() && self.waiting.load(Ordering::Acquire) == 0 {
                return None;
            }
            // A producer has raised the count and is about to push.
            tokio::task::yield_now().await;
        }
    }

    /// Takes up to `most` records of the oldest chunk.
    pub(super) fn pop_oldest(&self, most: usize) -> Option<Chunk> {
        let mut front = self.front();
        let mut chunk = front.pop_front().or_else(|| self.arrived.pop())?;
        if let Some(rest) = chunk.split_off(most) {
            front.push_front(rest);
        }
        self.waiting.fetch_sub(chunk.len(), Ordering::AcqRel);
        Some(chunk)
    }

    /// Nothing waits any longer for a full batch.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn front(&self) -> MutexGuard<'_, VecDeque<Chunk>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until enough waits, or the oldest has waited long enough, or more had no room, or the queue is
    /// closed.
    async fn due(&self) {
        while !self.is_closed() {
            let waiting = self.waiting.load(Ordering::Acquire);
            if waiting >= self.due_size || (waiting > 0 && self.pressed.load(Ordering::Acquire)) {
                self.pressed.store(false, Ordering::Release);
                return;
            }
            match self.oldest() {
                Some(since) if since.elapsed() >= self.due_age => return,
                Some(since) => {
                    let _ = tokio::time::timeout_at(since + self.due_age, self.wake.notified()).await;
                }
                // Soon enough to find a record before it is due.
                None if waiting == 0 => {
                    let look = (self.due_age / 2).clamp(Duration::from_millis(1), IDLE_LOOK);
                    let _ = tokio::time::timeout(look, self.wake.notified()).await;
                }
                // A producer has raised the count and is about to push.
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// When the oldest chunk was enqueued.
    fn oldest(&self) -> Option<Instant> {
        let mut front = self.front();
        if front.is_empty() {
            front.extend(self.arrived.pop());
        }
        front.front().map(Chunk::since)
    }

    /// Takes all that waits, up to the largest batch in records and bytes.
    fn collect(&self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        while records < self.largest && bytes < MAX_BATCH_BYTES {
            let mut front = self.front();
            let Some(mut chunk) = front.pop_front().or_else(|| self.arrived.pop()) else {
                break;
            };
            let mut fitting = (self.largest - records).min(chunk.rows_within(MAX_BATCH_BYTES - bytes));
            if chunks.is_empty() {
                fitting = fitting.max(1);
            }
            if let Some(rest) = chunk.split_off(fitting) {
                front.push_front(rest);
            }
            drop(front);
            if chunk.len() == 0 {
                break;
            }
            self.waiting.fetch_sub(chunk.len(), Ordering::AcqRel);
            records += chunk.len();
            bytes += chunk.row_bytes();
            chunks.push(chunk);
        }
        chunks
    }
}
