//! A listener whose connections are bounded in number, in all and from each address.
//!
//! Where all places are taken, one that has said nothing for long is asked to go, and the next one waits until one has gone;
//! those behind it wait in the listener's backlog.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::crowd::Crowd;
use super::peers::{Doorway, Visit};
use super::turned_away::{Reason, TurnedAway};

/// File descriptors for everything else.
const SPARE: u64 = 128;
/// Who was asked to go may be busy.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Accepts connections.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    /// The most connections at a time.
    pub(super) most: usize,
    pub(super) peers: Doorway,
    pub(super) turned_away: Arc<TurnedAway>,
    /// Asked when there is no place for a connection that is there.
    pub(super) crowd: Arc<Crowd>,
}

/// A connection that has come, and its place.
pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) visit: Visit,
    pub(super) slot: OwnedSemaphorePermit,
}

/// The most connections: `configured`, or, where that is 0, what this process can have at each of `ports` ports.
pub(super) fn most_connections(configured: usize, ports: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = usize::try_from(descriptors.saturating_sub(SPARE)).unwrap_or(usize::MAX).max(16) / ports;
    if configured > possible {
        warn!(configured, possible, "max_connections is more than the limit on open files leaves");
    }
    if configured == 0 { possible.min(10_000) } else { configured.min(possible) }
}

/// The most connections from one address, of `all`: `configured`, or, where that is 0, three quarters, so that other
/// addresses find places. There is no such limit where it is not below `all`.
pub(super) fn most_of_one_address(configured: usize, all: usize) -> usize {
    let most = if configured == 0 { all - all / 4 } else { configured };
    if most < all { most } else { usize::MAX }
}

impl Acceptor {
    /// Has each connection served by `serve` until `shutdown`; gives what waits for the last of them. They end as well
    /// where that is dropped.
    pub(super) async fn run<F: Future<Output = ()> + Send + 'static>(
        self,
        serve: impl Fn(Newcomer) -> F,
        shutdown: impl Future<Output = ()>,
    ) -> impl Future<Output = ()> {
        let slots = Arc::new(Semaphore::new(self.most));
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = self.accept(&slots) => {
                    connections.spawn(serve(accepted));
                }
            }
            while connections.try_join_next().is_some() {}
        }
        // Who comes now should find nobody, rather than wait for an answer.
        drop(self.listener);
        async move { while connections.join_next().await.is_some() {} }
    }

    async fn accept(&self, slots: &Arc<Semaphore>) -> Newcomer {
        loop {
            let (stream, address) = self.stream().await;
            let Some(visit) = self.peers.enter(address.ip()) else {
                let why = format!("there are {} of it", self.peers.most());
                self.turned_away.count(Reason::TooManyConnections, Some(address), &why);
                continue;
            };
            return Newcomer { stream, address, visit, slot: self.slot(slots).await };
        }
    }

    async fn slot(&self, slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        match slots.clone().try_acquire_owned() {
            Err(TryAcquireError::NoPermits) => {}
            taken => return taken.expect("the semaphore is never closed"),
        }
        warn!(connections = self.most, "all connections are taken; new ones wait");
        loop {
            self.crowd.ask_one();
            if let Ok(slot) = timeout(ASK_AGAIN, slots.clone().acquire_owned()).await {
                self.crowd.ask_no_more();
                return slot.expect("the semaphore is never closed");
            }
        }
    }

    /// The next stream. No failure ends the listening: most pass, such as a lack of file descriptors.
    async fn stream(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Answers are small and complete; waiting for more to send with them would only delay them.
                    let _ = stream.set_nodelay(true);
                    return (stream, address);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    warn!(%error, "cannot accept a connection; trying again");
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }
}

/// Whether a client has gone away before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::most_of_one_address;

    #[test]
    fn an_address_leaves_a_quarter_to_others_where_nothing_else_is_said() {
        for (configured, all, most) in [(0, 4, 3), (0, 200, 150), (10, 200, 10)] {
            assert_eq!(most_of_one_address(configured, all), most, "{configured} of {all}");
        }
        for (configured, all) in [(0, 1), (0, 3), (200, 200), (500, 200)] {
            assert_eq!(most_of_one_address(configured, all), usize::MAX, "{configured} of {all}");
        }
    }
}
