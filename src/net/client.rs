//! The other end of one connection, and whether a request of its was admitted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::addresses::{Origin, Visit};
use super::crowd::Crowd;

/// The other end of one connection.
#[derive(Debug)]
pub struct Client {
    /// Where it is.
    pub address: SocketAddr,
    /// Its address as it is counted.
    pub origin: Origin,
    /// All connections of its port, and those of its address.
    crowds: [Arc<Crowd>; 2],
    standing: AtomicU8,
    /// Requests of a newcomer that were not admitted.
    denied: AtomicUsize,
    /// Told when one of these changes how its connection waits.
    changed: Notify,
}

/// No request of its was admitted yet.
const NEWCOMER: u8 = 0;
/// One was.
const KNOWN: u8 = 1;
/// Its connection ends, or has ended, before that.
const LEAVING: u8 = 2;

/// It may try a few credentials, and then again over a new connection.
const MOST_DENIED: usize = 8;

impl Client {
    /// A newcomer at `address`.
    pub(super) fn new(address: SocketAddr, visit: &Visit, port: Arc<Crowd>) -> Self {
        let crowds = [port, visit.crowd.clone()];
        crowds.iter().for_each(|crowd| crowd.newcomer_comes());
        Self {
            address,
            origin: visit.origin,
            crowds,
            standing: AtomicU8::new(NEWCOMER),
            denied: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == KNOWN
    }

    /// A request of its was admitted. It keeps its place as long as it is in use.
    pub fn admitted(&self) {
        if !self.is_known() && self.is_newcomer_no_more(KNOWN) {
            self.changed.notify_one();
        }
    }

    /// A request of its was not admitted. After some of these it has to go.
    pub fn denied(&self) {
        if !self.is_known() && self.denied.fetch_add(1, Ordering::Relaxed) + 1 == MOST_DENIED {
            self.changed.notify_one();
        }
    }

    /// Whether it has had its chances.
    pub(super) fn is_unwelcome(&self) -> bool {
        !self.is_known() && self.denied.load(Ordering::Relaxed) >= MOST_DENIED
    }

    /// Its connection ends.
    pub(super) fn leaves(&self) {
        self.is_newcomer_no_more(LEAVING);
    }

    /// Waits until it becomes known or unwelcome.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until its place is needed.
    pub(super) async fn asked_to_go(&self) {
        let is_newcomer = !self.is_known();
        let [port, address] = &self.crowds;
        tokio::select! {
            () = port.asked(is_newcomer) => {}
            () = address.asked(is_newcomer) => {}
        }
    }

    fn is_newcomer_no_more(&self, then: u8) -> bool {
        let was = self.standing.compare_exchange(NEWCOMER, then, Ordering::Relaxed, Ordering::Relaxed);
        if was.is_ok() {
            self.crowds.iter().for_each(|crowd| crowd.newcomer_goes());
        }
        was.is_ok()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leaves();
    }
}
