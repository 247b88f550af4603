//! Runs expensive work that anybody can request: one piece at a time, within a share of one core, in turns by address.
//!
//! A client that guesses sends other credentials each time; one that knows a password sends the same again. So among the requests of an
//! address, repeated credentials go first. If too many wait, a request with new credentials, of the address with the most requests, is
//! refused.

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

/// Runs work for [`SHARE`] of the time in the long run.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    queue: Mutex<Queue>,
    /// The credentials of earlier requests.
    asked: Recent,
    /// Notified when the queue changes.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether work runs now.
    is_busy: bool,
    /// The addresses that had the last turns, the latest last.
    served: VecDeque<Origin>,
    pace: Pace,
    last: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: u64,
    origin: Origin,
    has_asked_before: bool,
}

#[derive(Debug)]
struct Pace {
    /// The time that may be used, in seconds; negative after using too much.
    credit: f64,
    at: Instant,
}

/// A place in the queue, or, once `begun`, the running work.
struct Place<'a> {
    verifier: &'a Verifier,
    number: u64,
    begun: Option<Instant>,
}

enum Turn {
    Now,
    /// Not before this time, or before the queue changes.
    Later(Option<Instant>),
    /// The place was given to another request.
    Never,
}

/// The credit per second, in seconds of work.
const SHARE: f64 = 0.05;
/// The most credit: enough to verify the passwords of a dozen names at once.
const MOST: f64 = 1.0;
/// The most waiting requests. This is the only bound on what HTTP/2 has read of their connections.
const MOST_WAITING: usize = 32;
/// The number of addresses whose turns are remembered.
const SERVED: usize = 64;

impl Verifier {
    /// The result of `known`, or else of `work`, which runs when a request from `origin` with this `digest` has its turn. `None` if
    /// it gets no turn.
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
    /// The number of a new place; `None` if all are taken by requests with at least the same right.
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

    /// The next request: one of the address whose last turn is the longest ago.
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
    /// How long until there is credit again.
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
    async fn work_whose_result_is_known_is_not_repeated() {
        let verifier = Verifier::default();
        assert_eq!(verifier.run(origin(1), [1; 32], || None, || 1).await, Some(1));
        let known = verifier.run(origin(1), [2; 32], || Some(2), || unreachable!("it is known")).await;
        assert_eq!(known, Some(2));
        assert!(!verifier.queue().is_busy && verifier.queue().waiting.is_empty());
    }

    /// Runs all waiting requests, and returns their addresses in order.
    fn turns(queue: &mut Queue) -> Vec<Origin> {
        let next = || {
            let next = queue.next()?;
            queue.begin(next);
            Some(next.origin)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn addresses_take_turns() {
        let mut queue = Queue::default();
        for last in [1, 1, 1, 1, 2, 3, 2] {
            queue.enter(origin(last), false).unwrap();
        }
        assert_eq!(turns(&mut queue), [1, 2, 3, 1, 2, 1, 1].map(origin));
    }

    #[test]
    fn repeated_credentials_go_before_guesses() {
        let mut queue = Queue::default();
        while queue.enter(origin(1), false).is_some() {}
        assert_eq!(queue.waiting.len(), MOST_WAITING);
        let sender = queue.enter(origin(1), true).expect("a guess makes room");
        assert_eq!(queue.next().unwrap().number, sender);
        assert_eq!(queue.waiting.len(), MOST_WAITING);
    }

    #[test]
    fn an_address_with_few_places_gets_more() {
        let mut queue = Queue::default();
        while queue.enter(origin(1), true).is_some() {}
        let places = (0..100).filter(|_| queue.enter(origin(2), false).is_some()).count();
        assert_eq!(places, MOST_WAITING / 2, "as many as the other");
        assert_eq!(queue.waiting.len(), MOST_WAITING);
    }

    #[tokio::test]
    async fn a_cancelled_request_leaves_the_queue() {
        let verifier = Verifier::default();
        let mut left = Box::pin(verifier.run(origin(1), [1; 32], || None, || ()));
        verifier.queue().is_busy = true;
        assert!(futures_util::poll!(&mut left).is_pending());
        drop(left);
        assert!(verifier.queue().waiting.is_empty());
    }
}
