//! Asks open connections to close when new ones wait for room.
//!
//! A newcomer, a connection without an admitted request, is asked first and closes at once. Known connections are asked one after
//! the other; each closes if it was not used since it was last asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::sync::Notify;

/// The connections of a port, or of one address to a port.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    newcomers: Mutex<Newcomers>,
    known: Notify,
}

/// The newcomers that were not asked, by the order in which they were accepted: which of their tasks runs first says nothing
/// about their age.
#[derive(Debug, Default)]
struct Newcomers {
    accepted: u64,
    by_number: BTreeMap<u64, Arc<Newcomer>>,
}

/// A connection that is in the crowd of its port and in that of its address, and is asked once.
#[derive(Debug, Default)]
pub(super) struct Newcomer {
    is_asked: AtomicBool,
    asked: Notify,
}

impl Crowd {
    /// Asks one connection: the oldest newcomer, or without newcomers the next known one. Returns whether it is a newcomer, which
    /// is certain to close.
    pub(super) fn ask_one(&self) -> bool {
        let mut newcomers = self.newcomers();
        while let Some((_, newcomer)) = newcomers.by_number.pop_first() {
            if !newcomer.is_asked.swap(true, Ordering::Relaxed) {
                newcomer.asked.notify_one();
                return true;
            }
        }
        self.known.notify_one();
        false
    }

    /// Withdraws a request that no known connection has received yet.
    pub(super) fn ask_no_more(&self) {
        self.known.notified().now_or_never();
    }

    /// Waits until this crowd asks a known connection, and this is the next one.
    pub(super) async fn known_is_asked(&self) {
        self.known.notified().await;
    }

    /// Adds a newcomer. Returns its number, by which it goes again.
    pub(super) fn newcomer_comes(&self, newcomer: Arc<Newcomer>) -> u64 {
        let mut newcomers = self.newcomers();
        newcomers.accepted += 1;
        let number = newcomers.accepted;
        newcomers.by_number.insert(number, newcomer);
        number
    }

    /// Records that a newcomer has become known or has closed.
    pub(super) fn newcomer_goes(&self, number: u64) {
        self.newcomers().by_number.remove(&number);
    }

    fn newcomers(&self) -> MutexGuard<'_, Newcomers> {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newcomer {
    /// Waits until one of its crowds has asked it.
    pub(super) async fn is_asked(&self) {
        self.asked.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it was asked since the last look.
    fn asked(newcomer: &Newcomer) -> bool {
        newcomer.is_asked().now_or_never().is_some()
    }

    #[test]
    fn newcomers_are_asked_by_age_whoever_runs_first() {
        let crowd = Crowd::default();
        let [old, young] = [(); 2].map(|()| Arc::new(Newcomer::default()));
        crowd.newcomer_comes(old.clone());
        crowd.newcomer_comes(young.clone());
        assert!(!asked(&young) && crowd.ask_one());
        assert_eq!([asked(&young), asked(&old)], [false, true]);
        assert!(crowd.ask_one() && asked(&young));
        assert!(!crowd.ask_one(), "all were asked");
    }

    /// Else it would make two places.
    #[test]
    fn a_newcomer_of_two_crowds_is_asked_once() {
        let [port, address] = [(); 2].map(|()| Crowd::default());
        let [old, young] = [(); 2].map(|()| Arc::new(Newcomer::default()));
        for crowd in [&port, &address] {
            crowd.newcomer_comes(old.clone());
        }
        let number = address.newcomer_comes(young.clone());
        assert!(port.ask_one() && address.ask_one());
        assert!(asked(&old) && asked(&young));
        address.newcomer_goes(number);
        assert!(!address.ask_one() && !port.ask_one());
    }
}
