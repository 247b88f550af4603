//! The bytes that requests may take in all while they are received, decompressed and made into rows.
//!
//! Nothing waits for room: what has none is sent back, to be sent again. Who may have how much is decided as switches
//! decide it for a buffer that ports share (Choudhury and Hahne, "Dynamic queue length thresholds", 1998): a request
//! may take as long as it has no more than twice of what is left then. One alone gets two thirds of the room; of many
//! large ones each gets less, so that some is left for the small ones, however many large ones there are.
//!
//! A peer's address has such a share of the whole room, and each of its connections one of that, so that neither many
//! small requests nor many connections take it all. Where hardly any is left, the requests that have been arriving
//! longest, and longer than [`PATIENCE`], are sent back: see [`RequestMemory::pushed_out`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::buffer::Buffer;
use crate::memory::Allowance;

/// The room, as one connection, or one address, may have it.
#[derive(Debug)]
pub(super) struct RequestMemory {
    most: usize,
    /// Whose it is a part of, the whole first, and itself last.
    levels: Vec<Arc<Level>>,
    /// What is taken here and held in the buffer is within the allowance.
    outer: Option<(Arc<Allowance>, Arc<Buffer>)>,
    /// For work that keeps a processor for long.
    turns: Arc<Semaphore>,
}

/// What is taken by all requests, by those from one address, or by those of one connection.
#[derive(Debug, Default)]
struct Level {
    taken: AtomicUsize,
    /// Requests that are arriving hear it in turns, one at a time.
    scarce: Notify,
}

/// What one request has of the room; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<RequestMemory>,
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

/// What a request may have however little the process may take.
const SMALL: usize = 64 << 10;
/// A request may have this many times what is left to its connection.
const FAIR: usize = 2;
/// An address may have so many times what it leaves to the others, a connection what it leaves to its address.
const FAIR_LEVELS: [usize; 2] = [15, 7];
/// The memory is scarce if less than this part of it is left.
const SCARCE: usize = 32;
/// So many are told at once, which have a batch's room or more.
const AT_ONCE: usize = 16;
/// How long a request may arrive while room is scarce. Batches are there at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Of a message that is only just announced, this much is allocated.
const AT_FIRST: usize = 256 << 10;

/// The threads that take requests, a large one on all but one of them: as many as there are processors, and two at least.
pub fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2))
}

impl RequestMemory {
    /// A room of `most` bytes.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self::of(most, None))
    }

    /// The same, where what is taken and what `buffer` holds are within `allowance`.
    pub(super) fn within(most: usize, allowance: Arc<Allowance>, buffer: Arc<Buffer>) -> Arc<Self> {
        Arc::new(Self::of(most, Some((allowance, buffer))))
    }

    fn of(most: usize, outer: Option<(Arc<Allowance>, Arc<Buffer>)>) -> Self {
        let turns = Arc::new(Semaphore::new(worker_threads() - 1));
        Self { most, levels: vec![Arc::default()], outer, turns }
    }

    /// The turns of requests that are much work, one fewer than there are threads.
    pub(super) fn turns(&self) -> &Semaphore {
        &self.turns
    }

    /// A part of it: for an address that of the whole room, for a connection that of its address.
    pub(super) fn part(&self) -> Arc<Self> {
        let levels = self.levels.iter().cloned().chain([Arc::default()]).collect();
        Arc::new(Self { most: self.most, levels, outer: self.outer.clone(), turns: self.turns.clone() })
    }

    /// Takes `bytes`, for the beginning of a request.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Share, NoRoom> {
        let mut share = Share { room: self.clone(), bytes: 0 };
        share.grow(bytes)?;
        Ok(share)
    }

    /// Waits until room is scarce, and it is the turn of the one that has waited for long.
    pub(super) async fn pushed_out(&self) {
        let since = Instant::now();
        loop {
            let scarce = self.levels.iter().map(|level| Box::pin(level.scarce.notified()));
            futures_util::future::select_all(scarce).await;
            if since.elapsed() >= PATIENCE {
                return;
            }
        }
    }

    /// What is taken, by all.
    pub(super) fn taken(&self) -> usize {
        self.levels[0].taken()
    }

    /// What is left at each level, from the whole to its own.
    fn left(&self) -> impl Iterator<Item = usize> {
        let mut left = self.most;
        self.levels.iter().enumerate().map(move |(depth, level)| {
            left = match depth.checked_sub(1) {
                None => left.saturating_sub(level.taken()),
                Some(depth) => part(depth, left, level.taken()),
            };
            left
        })
    }

    /// What a request could have if there were no other.
    fn alone(&self) -> usize {
        let left = (0..self.levels.len() - 1).fold(self.most, |left, depth| part(depth, left, 0));
        left / (FAIR + 1) * FAIR
    }

    /// Whether a request that has `has` may take `more`.
    fn allows(&self, has: usize, more: usize) -> Result<(), NoRoom> {
        let wants = has.saturating_add(more);
        if wants > self.alone() {
            return Err(NoRoom::Ever);
        }
        // What is small is let in, so that it is counted as what it is.
        if wants > SMALL && !self.is_allowed(more) {
            return Err(NoRoom::Now);
        }
        let left = self.left().last().unwrap_or_default();
        let then = left.checked_sub(more).ok_or(NoRoom::Now)?;
        if wants <= then.saturating_mul(FAIR) { Ok(()) } else { Err(NoRoom::Now) }
    }

    /// Whether what is taken, `more` besides, and what the buffer holds are within the allowance.
    pub(super) fn is_allowed(&self, more: usize) -> bool {
        self.outer.as_ref().is_none_or(|(allowance, buffer)| {
            allowance.allows((self.taken() + more + buffer.budget().bytes()) as u64)
        })
    }

    /// Tells some of those who are arriving where room is scarce for them.
    fn tell_scarce(&self) {
        for (left, level) in self.left().zip(&self.levels) {
            if left < self.most / SCARCE {
                (0..AT_ONCE).for_each(|_| level.scarce.notify_one());
            }
        }
    }
}

/// What is left to one that has `taken` and may have its times what is left in all: it may take until then.
fn part(depth: usize, left: usize, taken: usize) -> usize {
    let times = FAIR_LEVELS[depth];
    left.saturating_mul(times).saturating_sub(taken) / (times + 1)
}

impl Level {
    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Share {
    /// The room that it is of.
    pub(super) fn room(&self) -> &Arc<RequestMemory> {
        &self.room
    }

    /// Takes `more`. Where that fails, what it has stays.
    pub(super) fn grow(&mut self, more: usize) -> Result<(), NoRoom> {
        if more == 0 {
            return Ok(());
        }
        let taken = self.room.allows(self.bytes, more).and_then(|()| {
            let [whole, parts @ ..] = &self.room.levels[..] else { return Ok(()) };
            let fits = |taken: usize| taken.checked_add(more).filter(|taken| *taken <= self.room.most);
            let took = whole.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
            took.map_err(|_| NoRoom::Now)?;
            for part in parts {
                part.taken.fetch_add(more, Ordering::Relaxed);
            }
            self.bytes += more;
            Ok(())
        });
        self.room.tell_scarce();
        taken
    }

    /// Whether it could take `more` now.
    pub(super) fn could_grow(&self, more: usize) -> Result<(), NoRoom> {
        self.room.allows(self.bytes, more)
    }

    /// Allocates for `more` bytes in a message of `most` at most, and takes room for that.
    pub(super) fn extend(&mut self, message: &mut Vec<u8>, more: usize, most: usize) -> Result<(), NoRoom> {
        let (needed, old) = (message.len() + more, message.capacity());
        if needed > old {
            let capacity = step(needed, most);
            // The old memory is there until its bytes are copied.
            self.grow(capacity)?;
            message.reserve_exact(capacity - message.len());
            self.give_back(old);
        }
        Ok(())
    }

    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.give_back(self.bytes.saturating_sub(bytes));
    }

    /// Gives back `bytes` of what it has.
    pub(super) fn give_back(&mut self, bytes: usize) {
        for level in &self.room.levels {
            level.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.bytes -= bytes;
    }
}

/// How much is allocated for `needed` bytes of a message of `most` at most: all of it, a quarter, a quarter of that. What has been
/// copied is not given back to the system at once, so that a message is copied seldom.
fn step(needed: usize, most: usize) -> usize {
    let mut step = most.max(needed);
    while step / 4 >= needed.max(AT_FIRST) {
        step = step.div_ceil(4);
    }
    step
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
        let room = RequestMemory::new(300);
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
        let room = RequestMemory::new(300);
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
        let room = RequestMemory::new(128 << 20);
        let mut greedy: Vec<_> = (0..100).map(|_| room.take(0).unwrap()).collect();
        // All of them take 16 KiB in turns until none gets any more.
        while greedy.iter_mut().filter_map(|share| share.grow(16 << 10).ok()).count() > 0 {}
        assert!(room.taken() <= 128 << 20);
        let batches: Vec<_> = (0..3).map(|_| room.take(100 << 10).expect("room for a batch")).collect();
        assert!(batches.len() * (100 << 10) < room.most - room.taken(), "and for more of them");
    }

    #[test]
    fn many_threads_keep_the_bound() {
        let room = RequestMemory::new(1000);
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

    #[test]
    fn an_address_and_a_connection_leave_some_to_the_others() {
        let whole = RequestMemory::new(128 << 20);
        let (greedy, other) = (whole.part(), whole.part());
        // A hundred connections with as many small requests as there may be.
        let connections: Vec<_> = (0..100).map(|_| greedy.part()).collect();
        let mut taken: Vec<Share> = Vec::new();
        let small = |connection: &Arc<RequestMemory>| connection.take(8 << 10).ok();
        while let all = connections.iter().filter_map(small).collect::<Vec<_>>()
            && !all.is_empty()
        {
            taken.extend(all);
        }
        assert!(whole.taken() > 100 << 20, "alone it has most of the room: {}", whole.taken());
        assert!(greedy.part().take(100 << 10).is_ok(), "another connection from there finds room");
        assert!(other.part().take(4 << 20).is_ok(), "another address finds more");
        assert!(taken.iter_mut().all(|share| share.grow(8 << 10).is_err()));
        drop(taken);
        assert!(whole.levels.iter().chain(&greedy.levels).all(|level| level.taken() == 0));
        assert!(greedy.part().take(64 << 20).is_ok(), "the largest request by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn who_arrives_longest_goes_where_room_is_scarce() {
        use futures_util::FutureExt;
        let room = RequestMemory::new(1 << 20).part();
        let mut waiting: Vec<_> = (0..AT_ONCE + 2).map(|_| Box::pin(room.pushed_out())).collect();
        let mut who_goes = || waiting.iter_mut().filter_map(|one| one.as_mut().now_or_never()).count();
        assert_eq!(who_goes(), 0);
        let mut held = Vec::new();
        while room.left().last().unwrap() >= (1 << 20) / SCARCE {
            held.push(room.take(1 << 10).unwrap());
        }
        assert_eq!(who_goes(), 0, "they have only just come");
        tokio::time::sleep(PATIENCE).await;
        held.push(room.take(1 << 10).unwrap());
        assert_eq!(who_goes(), AT_ONCE, "some for each that comes");
        waiting.retain(|_| false);
        held.clear();
        let mut late = Box::pin(room.pushed_out());
        tokio::time::sleep(PATIENCE).await;
        held.push(room.take(1 << 10).unwrap());
        assert!(late.as_mut().now_or_never().is_none(), "there is room");
    }
}
