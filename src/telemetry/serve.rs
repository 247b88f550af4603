//! Serving a page over HTTP/1 with a bound on everything a client could take: connections, time and the end.
//!
//! A connection has a deadline, set anew whenever a part of an answer has gone out: a request that has not arrived
//! in full by then, or an answer that is not taken, ends it. After the shutdown every connection is cut when the
//! grace is over, so that the server's own wait for them ends too and no task is left behind.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};

const LIMITS: Limits =
    Limits { connections: 64, quiet: Duration::from_secs(30), grace: Duration::from_secs(2) };

/// Serves `router` on `listener` until `shutdown`, and then for the requests under way, two seconds at most.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_within(LIMITS, listener, router, shutdown).await
}

#[derive(Clone, Copy)]
struct Limits {
    /// Connections at a time; the next one waits in the listener's backlog.
    connections: usize,
    /// From the beginning or the last byte answered to the next one.
    quiet: Duration,
    /// From the shutdown to the end of all connections.
    grace: Duration,
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (running, ended) = watch::channel(());
    let slots = Arc::new(Semaphore::new(limits.connections));
    let listener = Bounded { listener, slots, ended, limits };
    let shutdown = async move {
        shutdown.await;
        // Its end is the signal that the connections wait for.
        drop(running);
    };
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

/// A listener whose connections are bounded.
struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    ended: watch::Receiver<()>,
    limits: Limits,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let (mut ended, Limits { quiet, grace, .. }) = (self.ended.clone(), self.limits);
        let cut = async move {
            while ended.changed().await.is_ok() {}
            sleep(grace).await;
        };
        let deadline = Box::pin(sleep(quiet));
        (Connection { stream, quiet, deadline, cut: Some(Box::pin(cut)), _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream that fails once its deadline has passed or it has been cut.
struct Connection {
    stream: TcpStream,
    quiet: Duration,
    deadline: Pin<Box<Sleep>>,
    /// `None` once it has been.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(context).is_ready()) {
            self.cut = None;
        }
        if self.cut.is_none() || self.deadline.as_mut().poll(context).is_ready() {
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(_)) = written {
            let next = Instant::now() + self.quiet;
            self.deadline.as_mut().reset(next);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::telemetry::pages::{health_router, metrics_router};
    use crate::telemetry::{Health, Metrics, StoreTrouble};

    const LONG: Duration = Duration::from_secs(600);
    const PATIENT: Limits = Limits { connections: 8, quiet: LONG, grace: LONG };

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<io::Result<()>>,
    }

    impl Server {
        async fn start(limits: Limits, router: Router) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            let shutdown = async move {
                let _ = stopped.await;
            };
            Self { address, stop, task: tokio::spawn(serve_within(limits, listener, router, shutdown)) }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn ask(&self, head: &str) -> String {
            let mut stream = self.connect().await;
            let request = format!("{head} HTTP/1.1\r\nhost: forebay\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            soon(stream.read_to_string(&mut answer)).await.unwrap();
            answer
        }

        async fn stop(self) {
            self.stop.send(()).unwrap();
            soon(self.task).await.unwrap().unwrap();
        }
    }

    /// Makes a wait without an end a failure.
    async fn soon<F: Future>(wait: F) -> F::Output {
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("this should have ended")
    }

    /// What the server sends until it ends the connection, by a close or a reset.
    async fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = soon(stream.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn the_metrics_are_at_metrics() {
        let server = Server::start(PATIENT, metrics_router(Metrics::new().unwrap())).await;
        let page = server.ask("GET /metrics").await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        assert!(page.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
        assert!(page.contains("\notelcol_process_uptime_seconds_total "), "{page}");
        let page = server.ask("GET /").await;
        assert!(page.starts_with("HTTP/1.1 404 ") && page.contains("/metrics"), "{page}");
        assert!(server.ask("POST /metrics").await.starts_with("HTTP/1.1 405 "));
        server.stop().await;
    }

    #[tokio::test]
    async fn the_health_is_at_its_path() {
        let health = Health::new();
        // A path that is no pattern for a route.
        let server = Server::start(PATIENT, health_router(health.clone(), "/{health")).await;
        health.store_unavailable(StoreTrouble::DatabaseUnreachable, "connection refused");
        let page = server.ask("GET /{health").await;
        assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
        assert!(page.contains("\"reason\":\"database_unreachable\""), "{page}");
        health.store_ready();
        let page = server.ask("GET /{health").await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        assert!(page.contains("\r\ncontent-type: application/json\r\n"), "{page}");
        assert!(page.contains("\"status\":\"Server available\""), "{page}");
        let page = server.ask("HEAD /{health").await;
        assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with("\r\n\r\n"), "{page}");
        server.stop().await;
    }

    #[tokio::test]
    async fn half_a_request_is_cut_at_the_deadline() {
        let limits = Limits { quiet: Duration::from_millis(50), ..PATIENT };
        let server = Server::start(limits, Router::new()).await;
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        assert_eq!(rest(stream).await, "");
        server.stop().await;
    }

    #[tokio::test]
    async fn half_a_request_does_not_hold_the_shutdown() {
        let limits = Limits { grace: Duration::from_millis(50), ..PATIENT };
        let server = Server::start(limits, Router::new()).await;
        let mut half = server.connect().await;
        half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        // By this answer the connection before it has been accepted.
        assert!(server.ask("GET /").await.starts_with("HTTP/1.1 404 "));
        server.stop().await;
        assert_eq!(rest(half).await, "");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_with_the_shutdown_at_once() {
        let server = Server::start(PATIENT, Router::new()).await;
        let mut idle = server.connect().await;
        idle.write_all(b"GET / HTTP/1.1\r\nhost: forebay\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        idle.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 404");
        server.stop().await;
        rest(idle).await;
    }

    #[tokio::test]
    async fn a_connection_too_many_waits_for_its_turn() {
        let limits = Limits { connections: 1, quiet: Duration::from_millis(50), ..PATIENT };
        let server = Server::start(limits, Router::new()).await;
        let first = server.connect().await;
        assert!(server.ask("GET /").await.starts_with("HTTP/1.1 404 "));
        // It was answered only because the first one's time was up.
        assert_eq!(rest(first).await, "");
        server.stop().await;
    }
}
