//! The other end of one connection: where it is, what it may take, and whether it is known.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::crowd::Crowd;
use super::metrics::Transport;
use super::peers::{Origin, Peer, Visit};
use super::room::Room;
use super::tls::Presented;

/// The other end of one connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) origin: Origin,
    /// What it is known by, where it is asked for a certificate.
    pub(super) presented: OnceLock<Presented>,
    /// What its requests may take.
    pub(super) room: Arc<Room>,
    /// All of its port.
    port: Arc<Crowd>,
    /// All of its address.
    peer: Arc<Peer>,
    /// The port that it is at.
    transport: Transport,
    standing: AtomicU8,
    /// Requests of a stranger that were not admitted.
    denied: AtomicUsize,
    /// Told when one of these changes how its connection waits.
    changed: Notify,
}

/// No request of its was admitted yet.
const STRANGER: u8 = 0;
/// One was.
const KNOWN: u8 = 1;
/// Its connection ends, or has ended, before that.
const LEAVING: u8 = 2;

/// It may try a few credentials, and then again over a new connection.
const MOST_DENIED: usize = 8;

impl Client {
    /// A stranger at `address`.
    pub(super) fn new(address: SocketAddr, visit: &Visit, port: Arc<Crowd>) -> Self {
        let peer = visit.peer.clone();
        let transport = visit.transport();
        for crowd in [&*port, peer.crowd(transport)] {
            crowd.stranger_comes();
        }
        Self {
            address,
            origin: visit.origin,
            presented: OnceLock::new(),
            room: peer.room.part(),
            port,
            peer,
            transport,
            standing: AtomicU8::new(STRANGER),
            denied: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == KNOWN
    }

    /// A request of its was admitted.
    pub(super) fn admitted(&self) {
        if !self.is_known() && self.no_more_stranger(KNOWN) {
            self.changed.notify_one();
        }
    }

    /// A request of its was not admitted.
    pub(super) fn denied(&self) {
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
        self.no_more_stranger(LEAVING);
    }

    /// Waits until it becomes known or unwelcome.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until its place is needed.
    pub(super) async fn asked_to_go(&self) {
        let is_stranger = !self.is_known();
        tokio::select! {
            () = self.port.asked(is_stranger) => {}
            () = self.peer.crowd(self.transport).asked(is_stranger) => {}
        }
    }

    fn no_more_stranger(&self, then: u8) -> bool {
        let was = self.standing.compare_exchange(STRANGER, then, Ordering::Relaxed, Ordering::Relaxed);
        if was.is_ok() {
            self.port.stranger_goes();
            self.peer.crowd(self.transport).stranger_goes();
        }
        was.is_ok()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leaves();
    }
}
