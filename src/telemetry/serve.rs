//! Serving a page over HTTP/1 with a bound on everything a client could take: connections, time and the end.
//!
//! Where there are too many connections, the oldest one goes, so that those who say nothing keep nobody from asking. A
//! connection has a deadline, set anew whenever a part of an answer has gone out: a request that has not arrived in full by
//! then, or an answer that is not taken, ends it. After the shutdown all are cut when the grace is over.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::pages::Page;

const LIMITS: Limits = Limits {
    connections: 64,
    first: Duration::from_secs(5),
    quiet: Duration::from_secs(30),
    grace: Duration::from_secs(2),
};
/// Most failures to accept pass, such as a lack of file descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Serves `page` on `listener` until `shutdown`, and then for the requests under way, two seconds at most.
pub async fn serve(listener: TcpListener, page: Page, shutdown: impl Future<Output = ()>) {
    serve_within(LIMITS, listener, page, shutdown).await;
}

#[derive(Clone, Copy)]
struct Limits {
    /// Connections at a time.
    connections: usize,
    /// From the beginning to the first byte answered.
    first: Duration,
    /// From the last byte answered to the next one.
    quiet: Duration,
    /// From the shutdown to the end of all connections.
    grace: Duration,
}

async fn serve_within(limits: Limits, listener: TcpListener, page: Page, shutdown: impl Future<Output = ()>) {
    let (running, ended) = watch::channel(());
    // The connections hear it in turns, the oldest first.
    let crowded = Notify::new();
    let mut connections = FuturesUnordered::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            stream = accept(&listener) => {
                if connections.len() >= limits.connections {
                    crowded.notify_one();
                }
                connections.push(serve_one(limits, stream, &page, &crowded, ended.clone()));
            }
            Some(()) = connections.next() => {}
        }
    }
    drop((listener, running));
    let _ = timeout(limits.grace, connections.collect::<()>()).await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => sleep(AFTER_FAILURE).await,
        }
    }
}

/// Serves one connection until it ends, another one needs its place, or the shutdown.
async fn serve_one(
    limits: Limits,
    stream: TcpStream,
    page: &Page,
    crowded: &Notify,
    mut ended: watch::Receiver<()>,
) {
    let stream = Timed { stream, quiet: limits.quiet, deadline: Box::pin(sleep(limits.first)) };
    let answer = service_fn(|request| std::future::ready(Ok::<_, Infallible>(page.answer(&request))));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = crowded.notified() => return,
        // It ends where its other side is dropped.
        _ = ended.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// A stream that fails once its deadline has passed.
struct Timed {
    stream: TcpStream,
    quiet: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Timed {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Timed {
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
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::telemetry::{Health, Metrics, StoreTrouble};

    const LONG: Duration = Duration::from_secs(600);
    const PATIENT: Limits = Limits { connections: 8, first: LONG, quiet: LONG, grace: LONG };

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn start(limits: Limits, page: Page) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            let shutdown = async move {
                let _ = stopped.await;
            };
            Self { address, stop, task: tokio::spawn(serve_within(limits, listener, page, shutdown)) }
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
            soon(self.task).await.unwrap();
        }
    }

    /// A page at a path that nobody asks for.
    fn nothing() -> Page {
        Page::health(Health::new(), "/nobody-asks-for-it")
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
        let server = Server::start(PATIENT, Page::metrics(Metrics::new().unwrap())).await;
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
        let server = Server::start(PATIENT, Page::health(health.clone(), "/{health")).await;
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
        let limits = Limits { first: Duration::from_millis(50), ..PATIENT };
        let server = Server::start(limits, nothing()).await;
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        assert_eq!(rest(stream).await, "");
        server.stop().await;
    }

    #[tokio::test]
    async fn half_a_request_does_not_hold_the_shutdown() {
        let limits = Limits { grace: Duration::from_millis(50), ..PATIENT };
        let server = Server::start(limits, nothing()).await;
        let mut half = server.connect().await;
        half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        // By this answer the connection before it has been accepted.
        assert!(server.ask("GET /").await.starts_with("HTTP/1.1 404 "));
        server.stop().await;
        assert_eq!(rest(half).await, "");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_with_the_shutdown_at_once() {
        let server = Server::start(PATIENT, nothing()).await;
        let mut idle = server.connect().await;
        idle.write_all(b"GET / HTTP/1.1\r\nhost: forebay\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        idle.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 404");
        server.stop().await;
        rest(idle).await;
    }

    #[tokio::test]
    async fn the_oldest_makes_place_for_the_next() {
        let limits = Limits { connections: 2, ..PATIENT };
        let server = Server::start(limits, nothing()).await;
        let oldest = server.connect().await;
        let _other = server.connect().await;
        assert!(server.ask("GET /").await.starts_with("HTTP/1.1 404 "));
        assert_eq!(rest(oldest).await, "");
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(server.connect().await);
        }
        assert!(server.ask("GET /").await.starts_with("HTTP/1.1 404 "));
        server.stop().await;
    }
}
