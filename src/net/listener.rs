//! Accepts connections up to a limit, in all and from each address.
//!
//! At the limit, an idle connection is asked to close. The next connection waits for that, and further ones wait in the listen backlog.

use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
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

/// How long to wait before asking the next connection: the one that was asked may be busy.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const AFTER_FAILURE: Duration = Duration::from_millis(500);

impl Port {
    /// Accepts connections until the shutdown, runs `serve` for each, and then waits for the open ones to end. Dropping the future
    /// ends them. `refused` is called for connections beyond a limit.
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
        // A new connection should be refused rather than wait for an answer.
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// The next connection from an address below its limit.
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

/// The next stream. Errors do not end the listener: most are temporary, such as a lack of file descriptors.
async fn stream(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Answers are small and complete, so that Nagle's algorithm would only delay them.
                let _ = stream.set_nodelay(true);
                return (stream, address);
            }
            // The client has closed the connection before it was accepted.
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection; trying again");
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}
