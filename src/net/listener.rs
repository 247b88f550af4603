//! Accepts connections, bounded in number, in all and from each address.
//!
//! Where all places are taken, an idle connection is asked to go, and the next one waits until one has gone; those behind
//! it wait in the listener's backlog.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::addresses::{Addresses, Visit};
use super::client::Client;
use super::{Port, Refused};

/// A connection that was asked to go may be busy.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const AFTER_FAILURE: Duration = Duration::from_millis(500);

impl Port {
    /// Has each connection to `listener` served by `serve` until the shutdown, and then those that are there to their
    /// ends. They end as well where this is dropped. `refused` hears of connections that find no place.
    pub async fn listen<F: Future<Output = ()> + Send + 'static>(
        &self,
        listener: TcpListener,
        refused: impl Fn(SocketAddr, Refused<'_>),
        serve: impl Fn(TcpStream, Client) -> F,
    ) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let addresses = Addresses::new(self.limits.connections_per_address);
        let mut connections = JoinSet::new();
        let mut ended = std::pin::pin!(self.ended());
        loop {
            tokio::select! {
                () = &mut ended => break,
                (stream, address, visit) = self.accept(&listener, &addresses, &refused) => {
                    let waits = || refused(address, Refused::PortFull(self.limits.connections));
                    let place = tokio::select! {
                        () = &mut ended => break,
                        place = self.place(&places, waits) => place,
                    };
                    let client = Client::new(address, &visit, self.crowd.clone());
                    let serving = serve(stream, client);
                    connections.spawn(async move {
                        serving.await;
                        drop((visit, place));
                    });
                }
            }
            while connections.try_join_next().is_some() {}
        }
        // A connection that comes now should find nobody, rather than wait for an answer.
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// The next connection that its address has a place for.
    async fn accept(
        &self,
        listener: &TcpListener,
        addresses: &Arc<Addresses>,
        refused: impl Fn(SocketAddr, Refused<'_>),
    ) -> (TcpStream, SocketAddr, Visit) {
        loop {
            let (stream, address) = stream(listener).await;
            match addresses.enter(address.ip()) {
                Some(visit) => return (stream, address, visit),
                None => refused(address, Refused::AddressFull(self.limits.connections_per_address)),
            }
        }
    }

    async fn place(&self, places: &Arc<Semaphore>, waits: impl Fn()) -> OwnedSemaphorePermit {
        match places.clone().try_acquire_owned() {
            Err(TryAcquireError::NoPermits) => waits(),
            taken => return taken.expect("the semaphore is never closed"),
        }
        loop {
            self.crowd.ask_one();
            if let Ok(place) = timeout(ASK_AGAIN, places.clone().acquire_owned()).await {
                self.crowd.ask_no_more();
                return place.expect("the semaphore is never closed");
            }
        }
    }
}

/// The next stream. No failure ends the listening: most pass, such as a lack of file descriptors.
async fn stream(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
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

/// Whether a client has gone away before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
