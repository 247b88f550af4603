//! Connections that wait to be asked to go, while others wait for their places.
//!
//! A newcomer, who has had no request admitted yet, goes first, and at once. Of those who are known, one is asked after
//! the other, and decides by what it has done since it was asked last.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use tokio::sync::Notify;

/// The connections of a port, or those of one address at it.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    newcomers: AtomicUsize,
    newcomer: Notify,
    known: Notify,
}

impl Crowd {
    /// Asks one of them: the newcomer that has been there longest, or, where there is none, the next of the known.
    /// Gives whether it is a newcomer, who goes for sure.
    pub(super) fn ask_one(&self) -> bool {
        let is_newcomer = self.newcomers.load(Ordering::Relaxed) > 0;
        if is_newcomer { &self.newcomer } else { &self.known }.notify_one();
        is_newcomer
    }

    /// Nobody has to go any more. Where nobody has heard it, it is over now.
    pub(super) fn ask_no_more(&self) {
        self.newcomer.notified().now_or_never();
        self.known.notified().now_or_never();
    }

    /// Waits until it is asked.
    pub(super) async fn asked(&self, is_newcomer: bool) {
        if is_newcomer { &self.newcomer } else { &self.known }.notified().await;
    }

    pub(super) fn newcomer_comes(&self) {
        self.newcomers.fetch_add(1, Ordering::Relaxed);
    }

    /// One of the newcomers is known now, or has gone.
    pub(super) fn newcomer_goes(&self) {
        self.newcomers.fetch_sub(1, Ordering::Relaxed);
    }
}
