//! A listener whose connections are bounded in number.
//!
//! Where all are taken, one that has said nothing for long is asked to go, and the next one waits until one has gone;
//! those behind it wait in the listener's backlog.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{sleep, timeout};
use tracing::warn;

/// File descriptors for everything else.
const SPARE: u64 = 128;
/// Who was asked to go may be busy.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Accepts connections.
pub(super) struct Acceptor {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    most: u32,
    /// Told when there is no slot for a connection that is there. The connections hear it in turns, one at a time.
    crowded: Arc<Notify>,
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

impl Acceptor {
    /// At most `most` connections of `listener` at a time.
    pub(super) fn new(listener: TcpListener, most: usize) -> Self {
        let slots = Arc::new(Semaphore::new(most));
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Self { listener, slots, most, crowded: Arc::default() }
    }

    /// What tells idle connections that others wait for their slots.
    pub(super) fn crowded(&self) -> Arc<Notify> {
        self.crowded.clone()
    }

    /// Has each connection served by `serve` until `shutdown`; gives what waits for the last of them.
    pub(super) async fn run<F: Future<Output = ()> + Send + 'static>(
        self,
        serve: impl Fn(TcpStream) -> F,
        shutdown: impl Future<Output = ()>,
    ) -> impl Future<Output = ()> {
        tokio::pin!(shutdown);
        loop {
            let (stream, slot) = tokio::select! {
                () = &mut shutdown => break,
                accepted = self.accept() => accepted,
            };
            let served = serve(stream);
            TokioExecutor::new().execute(async move {
                served.await;
                drop(slot);
            });
        }
        let Self { listener, slots, most, .. } = self;
        // Who comes now should find nobody, rather than wait for an answer.
        drop(listener);
        async move {
            let _all = slots.acquire_many(most).await;
        }
    }

    async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        let stream = self.stream().await;
        (stream, self.slot().await)
    }

    async fn slot(&self) -> OwnedSemaphorePermit {
        match self.slots.clone().try_acquire_owned() {
            Err(TryAcquireError::NoPermits) => {}
            taken => return taken.expect("the semaphore is never closed"),
        }
        warn!(connections = self.most, "all connections are taken; new ones wait");
        loop {
            self.crowded.notify_one();
            if let Ok(slot) = timeout(ASK_AGAIN, self.slots.clone().acquire_owned()).await {
                // Where nobody has heard it, it is over now.
                self.crowded.notified().now_or_never();
                return slot.expect("the semaphore is never closed");
            }
        }
    }

    /// The next stream. No failure ends the listening: most pass, such as a lack of file descriptors.
    async fn stream(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are small and complete; waiting for more to send with them would only delay them.
                    let _ = stream.set_nodelay(true);
                    return stream;
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
