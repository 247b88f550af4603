//! A listener whose connections are bounded in number, in the time to their first request, and in the time
//! that they may go on after the shutdown.
//!
//! The server waits for its connections to end, so that what bounds them bounds the shutdown as well.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;
use tracing::warn;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at a time; the next one waits in the listener's backlog.
    pub(super) connections: usize,
    /// From the beginning to the end of HTTP/2's preface.
    pub(super) preface: Duration,
    /// From the shutdown to the end of all connections.
    pub(super) grace: Duration,
}

/// A stream that fails once one of its times is over.
pub(super) struct Connection {
    stream: TcpStream,
    preface: Option<Preface>,
    /// `None` once it has been.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _slot: OwnedSemaphorePermit,
}

/// HTTP/2's preface, which has not arrived in full yet.
struct Preface {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

struct Acceptor {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    ended: watch::Receiver<()>,
    limits: Limits,
}

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const AFTER_FAILURE: Duration = Duration::from_millis(500);

impl Limits {
    /// The limits of a server: connections leave some file descriptors for everything else.
    pub(super) fn of_this_process() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = descriptors.saturating_sub(128).clamp(16, 10_000) as usize;
        Self { connections, preface: Duration::from_secs(10), grace: Duration::from_secs(5) }
    }
}

/// The connections of `listener`, until the other side of `ended` is dropped and the grace is over.
pub(super) fn connections(
    listener: TcpListener,
    limits: Limits,
    ended: watch::Receiver<()>,
) -> impl Stream<Item = io::Result<Connection>> {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let acceptor = Acceptor { listener, slots, ended, limits };
    stream::unfold(acceptor, async |acceptor| Some((Ok(acceptor.accept().await), acceptor)))
}

impl Acceptor {
    async fn accept(&self) -> Connection {
        let slot = self.slot().await;
        let stream = self.stream().await;
        // Answers are small and complete; waiting for more to send with them would only delay them.
        let _ = stream.set_nodelay(true);
        let (mut ended, Limits { preface, grace, .. }) = (self.ended.clone(), self.limits);
        let cut = async move {
            while ended.changed().await.is_ok() {}
            sleep(grace).await;
        };
        let preface = Preface { missing: PREFACE, deadline: Box::pin(sleep(preface)) };
        Connection { stream, preface: Some(preface), cut: Some(Box::pin(cut)), _slot: slot }
    }

    async fn slot(&self) -> OwnedSemaphorePermit {
        match self.slots.clone().try_acquire_owned() {
            Err(TryAcquireError::NoPermits) => {
                warn!(connections = self.limits.connections, "all connections are taken; new ones wait");
            }
            taken => return taken.expect("the semaphore is never closed"),
        }
        self.slots.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// The next stream. No failure ends the listening: most pass, such as a lack of file descriptors.
    async fn stream(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
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

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(context).is_ready()) {
            self.cut = None;
        }
        let late = |preface: &mut Preface| preface.deadline.as_mut().poll(context).is_ready();
        if self.cut.is_none() || self.preface.as_mut().is_some_and(late) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(preface) = &mut self.preface {
            preface.missing = preface.missing.saturating_sub(buffer.filled().len() - before);
            if preface.missing == 0 {
                self.preface = None;
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
