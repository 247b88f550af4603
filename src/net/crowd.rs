//! Asks open connections to close when new ones wait for room.
//!
//! A newcomer, a connection without an admitted request, is asked first and closes at once. Known connections are asked one after
//! the other; each closes if it was not used since it was last asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use tokio::sync::Notify;

/// The connections of a port, or of one address to a port.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    newcomers: AtomicUsize,
    newcomer: Notify,
    known: Notify,
}

impl Crowd {
    /// Asks one connection: the oldest newcomer, or without newcomers the next known one. Returns whether it is a newcomer, which
    /// is certain to close.
    pub(super) fn ask_one(&self) -> bool {
        let is_newcomer = self.newcomers.load(Ordering::Relaxed) > 0;
        if is_newcomer { &self.newcomer } else { &self.known }.notify_one();
        is_newcomer
    }

    /// Withdraws a request that no connection has received yet.
    pub(super) fn ask_no_more(&self) {
        self.newcomer.notified().now_or_never();
        self.known.notified().now_or_never();
    }

    pub(super) async fn asked(&self, is_newcomer: bool) {
        if is_newcomer { &self.newcomer } else { &self.known }.notified().await;
    }

    pub(super) fn newcomer_comes(&self) {
        self.newcomers.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that a newcomer has become known or has closed.
    pub(super) fn newcomer_goes(&self) {
        self.newcomers.fetch_sub(1, Ordering::Relaxed);
    }
}
