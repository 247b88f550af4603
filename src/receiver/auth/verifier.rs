//! Work that anybody can ask for: one at a time, for a share of one core, in turns by the addresses that ask.
//!
//! Who guesses asks for something else each time, and who knows a password asks for the same again and again. So of those
//! who wait at one address, the one who has asked before comes first; and where too many wait, one who has not, of the address
//! of which most do, is sent back.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::keyed::Digest;
use super::recent::Recent;
use crate::net::Origin;
use crate::receiver::work::run_blocking;

/// Runs what takes long, for a twentieth of the time in the long run.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    queue: Mutex<Queue>,
    /// What has been asked for.
    asked: Recent,
    /// Somebody has left the queue, or is done.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// One has its turn.
    is_busy: bool,
    /// The addresses that had the last turns, the latest last.
    served: VecDeque<Origin>,
    pace: Pace,
    last: u64,
}

/// One that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: u64,
    origin: Origin,
    has_asked_before: bool,
}

#[derive(Debug)]
struct Pace {
    /// The time that may be taken, in seconds; below 0 it is owed.
    credit: f64,
    at: Instant,
}

/// A place in the queue, or the turn.
struct Place<'a> {
    verifier: &'a Verifier,
    number: u64,
    /// When its turn began.
    begun: Option<Instant>,
}

/// Whether it is one's turn.
enum Turn {
    Now,
    /// Not before then, or before something has moved.
    Later(Option<Instant>),
    /// Another one has the place.
    Never,
}

/// What is gained in a second.
const SHARE: f64 = 0.05;
/// What is gained at most: the passwords of a dozen names at once.
const MOST: f64 = 1.0;
/// Requests that wait; what HTTP/2 has read of their connections is not bounded otherwise.
const MOST_WAITING: usize = 32;
/// Addresses whose turns are remembered.
const SERVED: usize = 64;

impl Verifier {
    /// Gives what `known` gives, or else what `work` does, when it is the turn of `origin`, which asks for the `digest`.
    /// `None` where it has no turn.
    pub(super) async fn run<T>(
        &self,
        origin: Origin,
        digest: Digest,
        known: impl Fn() -> Option<T>,
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        let mut place = self.take_place(origin, digest)?;
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if let Some(known) = known() {
                return Some(known);
            }
            match place.turn() {
                Turn::Now => return Some(run_blocking(work)),
                Turn::Never => return None,
                Turn::Later(None) => moved.await,
                Turn::Later(Some(then)) => tokio::select! {
                    () = moved => {}
                    () = sleep_until(then) => {}
                },
            }
        }
    }

    fn take_place(&self, origin: Origin, digest: Digest) -> Option<Place<'_>> {
        let has_asked_before = self.asked.put(digest);
        let mut queue = self.queue();
        let number = queue.enter(origin, has_asked_before)?;
        drop(queue);
        self.moved.notify_waiters();
        Some(Place { verifier: self, number, begun: None })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// The number of a new place; `None` where all are taken, and none by somebody who has less right to it.
    fn enter(&mut self, origin: Origin, has_asked_before: bool) -> Option<u64> {
        if self.waiting.len() >= MOST_WAITING {
            let of = |origin| self.waiting.iter().filter(|other| other.origin == origin).count();
            let least_right =
                |one: &&Waiting| (Reverse(of(one.origin)), one.has_asked_before, Reverse(one.number));
            let last = *self.waiting.iter().min_by_key(least_right)?;
            let is_fairer = of(last.origin) > of(origin) + 1;
            let is_better = has_asked_before && !last.has_asked_before;
            if !is_fairer && !is_better {
                return None;
            }
            self.leave(last.number);
        }
        self.last += 1;
        self.waiting.push(Waiting { number: self.last, origin, has_asked_before });
        Some(self.last)
    }

    fn leave(&mut self, number: u64) {
        self.waiting.retain(|one| one.number != number);
    }

    /// Who comes next: of the address whose last turn is the longest ago.
    fn next(&self) -> Option<Waiting> {
        let served = |origin| self.served.iter().rposition(|one| *one == origin).map_or(0, |at| at + 1);
        let order = |one: &&Waiting| (served(one.origin), !one.has_asked_before, one.number);
        self.waiting.iter().min_by_key(order).copied()
    }

    fn begin(&mut self, one: Waiting) {
        self.is_busy = true;
        self.leave(one.number);
        if self.served.len() == SERVED {
            self.served.pop_front();
        }
        self.served.push_back(one.origin);
    }
}

impl Place<'_> {
    fn turn(&mut self) -> Turn {
        let mut queue = self.verifier.queue();
        if queue.waiting.iter().all(|one| one.number != self.number) {
            return Turn::Never;
        }
        if queue.is_busy {
            return Turn::Later(None);
        }
        let owed = queue.pace.owed();
        if !owed.is_zero() {
            return Turn::Later(Some(Instant::now() + owed));
        }
        match queue.next() {
            Some(next) if next.number == self.number => {
                queue.begin(next);
                self.begun = Some(Instant::now());
                Turn::Now
            }
            _ => Turn::Later(None),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.verifier.queue();
        match self.begun {
            Some(begun) => {
                queue.is_busy = false;
                queue.pace.spend(begun.elapsed());
            }
            None => queue.leave(self.number),
        }
        drop(queue);
        self.verifier.moved.notify_waiters();
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { credit: MOST, at: Instant::now() }
    }
}

impl Pace {
    /// How long until nothing is owed.
    fn owed(&mut self) -> Duration {
        let now = Instant::now();
        self.credit = (self.credit + SHARE * (now - self.at).as_secs_f64()).min(MOST);
        self.at = now;
        Duration::from_secs_f64((-self.credit / SHARE).max(0.0))
    }

    fn spend(&mut self, time: Duration) {
        self.credit -= time.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn origin(last: u8) -> Origin {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[tokio::test(start_paused = true)]
    async fn work_has_a_share_of_the_time() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        let mut done = 0;
        // Each takes half a second of the clock that is paused here.
        while begun.elapsed() < Duration::from_secs(1000) {
            tokio::time::sleep(pace.owed()).await;
            pace.spend(Duration::from_millis(500));
            done += 1;
        }
        let taken = f64::from(done) * 0.5;
        assert!((50.0..=53.0).contains(&taken), "{taken} s of 1000");
    }

    #[tokio::test]
    async fn what_is_known_by_then_is_not_done_again() {
        let verifier = Verifier::default();
        assert_eq!(verifier.run(origin(1), [1; 32], || None, || 1).await, Some(1));
        let known = verifier.run(origin(1), [2; 32], || Some(2), || unreachable!("it is known")).await;
        assert_eq!(known, Some(2));
        assert!(!verifier.queue().is_busy && verifier.queue().waiting.is_empty());
    }

    /// Has each have its turn that waits; gives the addresses.
    fn turns(queue: &mut Queue) -> Vec<Origin> {
        let next = || {
            let next = queue.next()?;
            queue.begin(next);
            Some(next.origin)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn addresses_have_their_turns() {
        let mut queue = Queue::default();
        for last in [1, 1, 1, 1, 2, 3, 2] {
            queue.enter(origin(last), false).unwrap();
        }
        assert_eq!(turns(&mut queue), [1, 2, 3, 1, 2, 1, 1].map(origin));
    }

    #[test]
    fn who_asks_again_comes_before_who_guesses() {
        let mut queue = Queue::default();
        while queue.enter(origin(1), false).is_some() {}
        assert_eq!(queue.waiting.len(), MOST_WAITING);
        let sender = queue.enter(origin(1), true).expect("a guess makes place");
        assert_eq!(queue.next().unwrap().number, sender);
        assert_eq!(queue.waiting.len(), MOST_WAITING);
    }

    #[test]
    fn who_has_few_places_gets_one() {
        let mut queue = Queue::default();
        while queue.enter(origin(1), true).is_some() {}
        let places = (0..100).filter(|_| queue.enter(origin(2), false).is_some()).count();
        assert_eq!(places, MOST_WAITING / 2, "as many as the other");
        assert_eq!(queue.waiting.len(), MOST_WAITING);
    }

    #[tokio::test]
    async fn who_has_left_is_in_nobodys_way() {
        let verifier = Verifier::default();
        let mut left = Box::pin(verifier.run(origin(1), [1; 32], || None, || ()));
        verifier.queue().is_busy = true;
        assert!(futures_util::poll!(&mut left).is_pending());
        drop(left);
        assert!(verifier.queue().waiting.is_empty());
    }
}
