//! Bounds the memory of all requests while they are received, decompressed and made into rows.
//!
//! Nothing waits for memory: a request without any is refused and can be retried. Shares follow the rule of switches for a buffer shared
//! by ports (Choudhury and Hahne, "Dynamic queue length thresholds", 1998): a request may grow as long as it has at most twice what is
//! left then. A single request gets two thirds. Of many large ones each gets less, so that some is always left for small ones.
//!
//! By the same rule, each address has a share of the whole, and each connection a share of that, so that neither many small requests
//! nor many connections take everything. When memory is scarce, the requests that have been arriving longest, and longer than
//! [`PATIENCE`], are refused: see [`RequestMemory::pushed_out`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::buffer::Buffer;
use crate::memory::Allowance;

/// The memory of all requests, or the part of it for one address or one connection.
#[derive(Debug)]
pub(super) struct RequestMemory {
    most: usize,
    /// From the whole to this part.
    levels: Vec<Arc<Level>>,
    /// Bounds the memory of requests and buffer together.
    outer: Option<(Arc<Allowance>, Arc<Buffer>)>,
    /// For work that occupies a processor for long.
    turns: Arc<Semaphore>,
}

/// The memory taken by all requests, by those from one address, or by those of one connection.
#[derive(Debug, Default)]
struct Level {
    taken: AtomicUsize,
    /// Wakes arriving requests, the longest waiting first.
    scarce: Notify,
}

/// The memory of one request, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<RequestMemory>,
    bytes: usize,
}

/// There is no memory for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// There may be enough a little later.
    #[error("too much is being received; send the request again a little later")]
    Now,
    /// Even an empty memory would not be enough.
    #[error(
        "the request, with its rows, needs more memory than a single request may have; send smaller batches, or raise \
         `receivers.otlp.admission.request_limit_mib`"
    )]
    Ever,
}

/// A request up to this size is not checked against the process's allowance.
const SMALL: usize = 64 << 10;
/// A request may have this many times what is left to its connection.
const FAIR: usize = 2;
/// An address may have the first number of times what it leaves to the others, a connection the second.
const FAIR_LEVELS: [usize; 2] = [15, 7];
/// Memory is scarce if less than this part of it is left.
const SCARCE: usize = 32;
/// The number of requests woken at once; together they free a batch's memory or more.
const AT_ONCE: usize = 16;
/// How long a request may take to arrive while memory is scarce. Batches arrive at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// The bytes allocated for a message of which hardly anything has arrived.
const AT_FIRST: usize = 256 << 10;

/// The number of worker threads: as many as processors, and at least two. Large requests occupy all but one.
pub fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2))
}

impl RequestMemory {
    /// A memory of `most` bytes.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self::of(most, None))
    }

    /// The same, with `allowance` as the bound of requests and `buffer` together.
    pub(super) fn within(most: usize, allowance: Arc<Allowance>, buffer: Arc<Buffer>) -> Arc<Self> {
        Arc::new(Self::of(most, Some((allowance, buffer))))
    }

    fn of(most: usize, outer: Option<(Arc<Allowance>, Arc<Buffer>)>) -> Self {
        let turns = Arc::new(Semaphore::new(worker_threads() - 1));
        Self { most, levels: vec![Arc::default()], outer, turns }
    }

    /// The turns of large requests, one fewer than threads.
    pub(super) fn turns(&self) -> &Semaphore {
        &self.turns
    }

    /// The part of an address in the whole, or of a connection in that of its address.
    pub(super) fn part(&self) -> Arc<Self> {
        let levels = self.levels.iter().cloned().chain([Arc::default()]).collect();
        Arc::new(Self { most: self.most, levels, outer: self.outer.clone(), turns: self.turns.clone() })
    }

    /// Takes `bytes` for a new request.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Share, NoRoom> {
        let mut share = Share { room: self.clone(), bytes: 0 };
        share.grow(bytes)?;
        Ok(share)
    }

    /// Waits until memory is scarce and this request, after [`PATIENCE`], is among the longest waiting.
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

    /// The bytes taken by all requests.
    pub(super) fn taken(&self) -> usize {
        self.levels[0].taken()
    }

    /// The bytes left at each level, from the whole to this part.
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

    /// The most bytes of a request without others.
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
        // A small request is read, so that its records are counted.
        if wants > SMALL && !self.is_allowed(more) {
            return Err(NoRoom::Now);
        }
        let left = self.left().last().unwrap_or_default();
        let then = left.checked_sub(more).ok_or(NoRoom::Now)?;
        if wants <= then.saturating_mul(FAIR) { Ok(()) } else { Err(NoRoom::Now) }
    }

    /// Whether requests, with `more` bytes, and the buffer are within the allowance.
    pub(super) fn is_allowed(&self, more: usize) -> bool {
        self.outer.as_ref().is_none_or(|(allowance, buffer)| {
            allowance.allows((self.taken() + more + buffer.budget().bytes()) as u64)
        })
    }

    /// Wakes some arriving requests where memory is scarce.
    fn tell_scarce(&self) {
        for (left, level) in self.left().zip(&self.levels) {
            if left < self.most / SCARCE {
                (0..AT_ONCE).for_each(|_| level.scarce.notify_one());
            }
        }
    }
}

/// The bytes left to a part that has `taken`, and may have its number of times what the others then have `left`.
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
    pub(super) fn room(&self) -> &Arc<RequestMemory> {
        &self.room
    }

    /// Takes `more` bytes. A failure changes nothing.
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

    /// Whether it could take `more` bytes now.
    pub(super) fn could_grow(&self, more: usize) -> Result<(), NoRoom> {
        self.room.allows(self.bytes, more)
    }

    /// Takes and allocates memory for `more` bytes in a message of at most `most`.
    pub(super) fn extend(&mut self, message: &mut Vec<u8>, more: usize, most: usize) -> Result<(), NoRoom> {
        let (needed, old) = (message.len() + more, message.capacity());
        if needed > old {
            let capacity = step(needed, most);
            // The old memory is in use until its bytes are copied.
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

/// The capacity for `needed` bytes of a message of at most `most`: all of it, a quarter, a quarter of that, and so on. The steps are
/// large, because freed memory does not return to the system at once.
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
        assert_eq!(room.take(67).unwrap_err(), NoRoom::Now, "it is more than twice what would be left");
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
    async fn the_longest_arriving_requests_are_refused_when_memory_is_scarce() {
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
