//! The other end of one connection, and whether one of its requests was admitted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::addresses::{Origin, Visit};
use super::crowd::{Crowd, Newcomer};

/// The other end of one connection.
#[derive(Debug)]
pub struct Client {
    /// Its address and port.
    pub address: SocketAddr,
    /// The address or network that its connections are counted under.
    pub origin: Origin,
    /// All connections of the port, and those of its address, with its number as a newcomer of each.
    crowds: [(Arc<Crowd>, u64); 2],
    newcomer: Arc<Newcomer>,
    standing: AtomicU8,
    /// Number of a newcomer's requests that were not admitted.
    denied: AtomicUsize,
    /// Notified when the client becomes known or unwelcome.
    changed: Notify,
}

/// No request was admitted yet.
const NEWCOMER: u8 = 0;
/// At least one request was admitted.
const KNOWN: u8 = 1;
/// The connection is closing, or has closed, and no request was admitted.
const LEAVING: u8 = 2;

/// A client may try a few credentials per connection.
const MOST_DENIED: usize = 8;

impl Client {
    pub(super) fn new(address: SocketAddr, visit: &Visit, port: Arc<Crowd>) -> Self {
        let newcomer = Arc::new(Newcomer::default());
        let crowds = [port, visit.crowd.clone()].map(|crowd| {
            let number = crowd.newcomer_comes(newcomer.clone());
            (crowd, number)
        });
        Self {
            address,
            origin: visit.origin,
            crowds,
            newcomer,
            standing: AtomicU8::new(NEWCOMER),
            denied: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == KNOWN
    }

    /// Records that a request was admitted. From then on the connection stays open while it is in use.
    pub fn admitted(&self) {
        if !self.is_known() && self.is_newcomer_no_more(KNOWN) {
            self.changed.notify_one();
        }
    }

    /// Records that a request was not admitted. After a few of these, a newcomer's connection is closed.
    pub fn denied(&self) {
        if !self.is_known() && self.denied.fetch_add(1, Ordering::Relaxed) + 1 == MOST_DENIED {
            self.changed.notify_one();
        }
    }

    /// Whether it is a newcomer that was denied too often.
    pub(super) fn is_unwelcome(&self) -> bool {
        !self.is_known() && self.denied.load(Ordering::Relaxed) >= MOST_DENIED
    }

    /// Records that the connection closes.
    pub(super) fn leaves(&self) {
        self.is_newcomer_no_more(LEAVING);
    }

    /// Waits until it becomes known or unwelcome.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until the connection should close to make room for another.
    pub(super) async fn asked_to_go(&self) {
        let standing = self.standing.load(Ordering::Relaxed);
        let [(port, _), (address, _)] = &self.crowds;
        // A closing connection counts as neither, and its place is as good as any.
        tokio::select! {
            () = self.newcomer.is_asked(), if standing != KNOWN => {}
            () = port.known_is_asked(), if standing != NEWCOMER => {}
            () = address.known_is_asked(), if standing != NEWCOMER => {}
        }
    }

    fn is_newcomer_no_more(&self, then: u8) -> bool {
        let was = self.standing.compare_exchange(NEWCOMER, then, Ordering::Relaxed, Ordering::Relaxed);
        if was.is_ok() {
            self.crowds.iter().for_each(|(crowd, number)| crowd.newcomer_goes(*number));
        }
        was.is_ok()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leaves();
    }
}
