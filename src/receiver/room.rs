//! The bytes that requests may take in all while they are received, decompressed and made into rows.
//!
//! Nothing waits for room: what has none is sent back, to be sent again. Who may have how much is decided as switches
//! decide it for a buffer that ports share (Choudhury and Hahne, "Dynamic queue length thresholds", 1998): a request
//! may take as long as it has no more than twice of what is left then. One alone gets two thirds of the room; of many
//! large ones each gets less, so that some is left for the small ones, however many large ones there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::buffer::Buffer;
use crate::memory::Allowance;

/// The room.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    taken: AtomicUsize,
    /// What is taken here and held in the buffer is within the allowance.
    outer: Option<(Arc<Allowance>, Arc<Buffer>)>,
    /// For work that keeps a processor for long.
    turns: Semaphore,
}

/// What one request has of the room; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    bytes: usize,
}

/// There is no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// There may be some a little later.
    #[error("too much is being received; send the request again a little later")]
    Now,
    /// There would not be enough if all of it were free.
    #[error(
        "the request, with what is made of it, takes more than one may have of what requests may take in all; send smaller \
         batches, or raise `receivers.otlp.admission.request_limit_mib`"
    )]
    Ever,
}

/// A request may have this many times what is left.
const FAIR: usize = 2;

impl Room {
    /// A room of `most` bytes.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self::of(most, None))
    }

    /// The same, where what is taken and what `buffer` holds are within `allowance`.
    pub(super) fn within(most: usize, allowance: Arc<Allowance>, buffer: Arc<Buffer>) -> Arc<Self> {
        Arc::new(Self::of(most, Some((allowance, buffer))))
    }

    fn of(most: usize, outer: Option<(Arc<Allowance>, Arc<Buffer>)>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { most, taken: AtomicUsize::new(0), outer, turns: Semaphore::new(processors) }
    }

    /// The turns of requests that are much work, as many as there are processors. Each has a thread of its own then.
    pub(super) fn turns(&self) -> &Semaphore {
        &self.turns
    }

    /// Takes `bytes`, for the beginning of a request.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Share, NoRoom> {
        let mut share = Share { room: self.clone(), bytes: 0 };
        share.grow(bytes)?;
        Ok(share)
    }

    /// What is taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// What `taken` becomes when a request that has `has` takes `more`.
    fn with(&self, taken: usize, has: usize, more: usize) -> Result<usize, NoRoom> {
        let wants = has.saturating_add(more);
        if wants > self.most / (FAIR + 1) * FAIR {
            return Err(NoRoom::Ever);
        }
        let taken = taken + more;
        let left = self.most.saturating_sub(taken);
        if more > 0 && !self.is_allowed(taken) {
            return Err(NoRoom::Now);
        }
        if taken <= self.most && wants <= left.saturating_mul(FAIR) { Ok(taken) } else { Err(NoRoom::Now) }
    }
}

impl Room {
    fn is_allowed(&self, taken: usize) -> bool {
        self.outer
            .as_ref()
            .is_none_or(|(allowance, buffer)| allowance.allows((taken + buffer.budget().bytes()) as u64))
    }
}

impl Share {
    /// The room that it is of.
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Takes `more`. Where that fails, what it has stays.
    pub(super) fn grow(&mut self, more: usize) -> Result<(), NoRoom> {
        let mut taken = self.room.taken.load(Ordering::Relaxed);
        loop {
            let with = self.room.with(taken, self.bytes, more)?;
            match self.room.taken.compare_exchange_weak(taken, with, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => taken = now,
            }
        }
        self.bytes += more;
        Ok(())
    }

    /// Whether it could take `more` now.
    pub(super) fn could_grow(&self, more: usize) -> Result<(), NoRoom> {
        self.room.with(self.room.taken.load(Ordering::Relaxed), self.bytes, more).map(drop)
    }

    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.give_back(self.bytes.saturating_sub(bytes));
    }

    /// Gives back `bytes` of what it has.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.room.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let room = Room::new(300);
        let mut share = room.take(10).unwrap();
        share.grow(50).unwrap();
        assert_eq!(room.taken(), 60);
        assert_eq!(share.grow(150), Err(NoRoom::Ever), "what fails takes nothing");
        share.shrink_to(20);
        assert_eq!(room.taken(), 20);
        share.shrink_to(200);
        assert_eq!(room.taken(), 20, "shrinking is not growing");
        drop(share);
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn one_alone_gets_two_thirds() {
        let room = Room::new(300);
        assert_eq!(room.take(201).unwrap_err(), NoRoom::Ever);
        assert_eq!(room.take(usize::MAX).unwrap_err(), NoRoom::Ever);
        let large = room.take(200).unwrap();
        assert_eq!(room.take(101).unwrap_err(), NoRoom::Now);
        assert_eq!(room.take(67).unwrap_err(), NoRoom::Now, "that is more than twice of what would be left");
        let small = room.take(66).unwrap();
        assert_eq!(small.could_grow(1), Err(NoRoom::Now));
        drop(large);
        assert_eq!(small.could_grow(1), Ok(()));
        assert_eq!(room.taken(), 66, "asking takes nothing");
    }

    #[test]
    fn the_greedy_leave_some_for_the_small() {
        let room = Room::new(128 << 20);
        let mut greedy: Vec<_> = (0..100).map(|_| room.take(0).unwrap()).collect();
        // All of them take 16 KiB in turns until none gets any more.
        while greedy.iter_mut().filter_map(|share| share.grow(16 << 10).ok()).count() > 0 {}
        assert!(room.taken() <= 128 << 20);
        let batches: Vec<_> = (0..3).map(|_| room.take(100 << 10).expect("room for a batch")).collect();
        assert!(batches.len() * (100 << 10) < room.most - room.taken(), "and for more of them");
    }

    #[test]
    fn many_threads_keep_the_bound() {
        let room = Room::new(1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for bytes in 1..2000 {
                        let share = room.take(bytes % 300);
                        assert!(room.taken() <= 1000);
                        drop(share);
                    }
                });
            }
        });
        assert_eq!(room.taken(), 0);
    }
}
