//! Connections that wait to be asked to go, while others wait for their places.
//!
//! A stranger, who has had no request admitted yet, goes first, and at once. Of those who are known, one is asked after
//! the other, and decides by what it has done since it was asked last.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use tokio::sync::Notify;

/// The connections of a port, or those of one address at it.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    strangers: AtomicUsize,
    stranger: Notify,
    known: Notify,
}

impl Crowd {
    /// Asks one of them: the stranger that has been there longest, or, where there is none, the next of the known.
    /// Gives whether it is a stranger, who goes for sure.
    pub(super) fn ask_one(&self) -> bool {
        let is_stranger = self.strangers.load(Ordering::Relaxed) > 0;
        if is_stranger { &self.stranger } else { &self.known }.notify_one();
        is_stranger
    }

    /// Nobody has to go any more. Where nobody has heard it, it is over now.
    pub(super) fn ask_no_more(&self) {
        self.stranger.notified().now_or_never();
        self.known.notified().now_or_never();
    }

    /// Waits until it is asked.
    pub(super) async fn asked(&self, is_stranger: bool) {
        if is_stranger { &self.stranger } else { &self.known }.notified().await;
    }

    pub(super) fn stranger_comes(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    /// One of the strangers is known now, or has gone.
    pub(super) fn stranger_goes(&self) {
        self.strangers.fetch_sub(1, Ordering::Relaxed);
    }
}
