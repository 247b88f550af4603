//! A server on its own port, or one connection in memory, and clients that send any bytes.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, interval, sleep};

use super::addresses::Addresses;
use super::{Client, Http1, Limits, Port, Service, Timeouts, serve};

const LONG: Duration = Duration::from_secs(600);
const PATIENT: Limits = Limits {
    connections: 8,
    connections_per_address: usize::MAX,
    timeouts: Timeouts {
        opening: LONG,
        first: LONG,
        idle: LONG,
        age: Duration::ZERO,
        age_grace: Duration::ZERO,
        crowded: Duration::from_millis(100),
        shutdown: LONG,
    },
    http1: Some(Http1 { keep_alive: true, header_timeout: LONG }),
    http2: None,
};

pub(crate) struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(limits: Limits, service: impl Service + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        Self { address, stop, task: tokio::spawn(serve(limits, listener, service, shutdown)) }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn ask(&self, head: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{head} HTTP/1.1\r\nhost: forebay\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.task).await.unwrap();
    }
}

/// Answers every request with 404.
struct Nothing;

impl Service for Nothing {
    type Body = String;

    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = (Response<String>, Incoming)> + Send + 'static + use<> {
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::NOT_FOUND;
        ready((response, request.into_body()))
    }
}

/// Answers every request with these numbers of bytes, one every `every`, and no end.
struct Pieces {
    pieces: &'static [usize],
    every: Duration,
}

struct Stream {
    pieces: std::slice::Iter<'static, usize>,
    every: Interval,
}

impl Service for Pieces {
    type Body = Stream;

    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = (Response<Stream>, Incoming)> + Send + 'static + use<> {
        let stream = Stream { pieces: self.pieces.iter(), every: interval(self.every) };
        ready((Response::new(stream), request.into_body()))
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::ready!(self.every.poll_tick(context));
        match self.pieces.next() {
            Some(length) => Poll::Ready(Some(Ok(Frame::data(vec![b'x'; *length].into())))),
            None => Poll::Pending,
        }
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: forebay\r\n\r\n";
const SECOND: Duration = Duration::from_secs(1);

fn within(timeouts: Timeouts) -> Limits {
    Limits { timeouts, ..PATIENT }
}

/// A connection in memory and the task that serves it.
fn in_memory(timeouts: Timeouts, service: impl Service + Send + 'static) -> (DuplexStream, JoinHandle<()>) {
    let (client, stream) = duplex(1000);
    let (running, ended) = watch::channel(());
    let port = Port::new(within(timeouts), ended);
    let connection = async move {
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let visit = Addresses::new(1).enter(address.ip()).unwrap();
        port.serve(stream, &Client::new(address, &visit, Arc::default()), &service).await;
        drop(running);
    };
    (client, tokio::spawn(connection))
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
async fn half_a_request_does_not_hold_the_shutdown() {
    let limits = within(Timeouts { shutdown: Duration::from_millis(50), ..PATIENT.timeouts });
    let server = Server::start(limits, Nothing).await;
    let mut half = server.connect().await;
    half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    // The answer shows that the connection before it was accepted.
    assert!(server.ask("GET /").await.starts_with("HTTP/1.1 404 "));
    server.stop().await;
    assert_eq!(rest(half).await, "");
}

#[tokio::test]
async fn an_idle_connection_ends_with_the_shutdown_at_once() {
    let server = Server::start(PATIENT, Nothing).await;
    let mut idle = server.connect().await;
    idle.write_all(REQUEST).await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 404");
    server.stop().await;
    rest(idle).await;
}

#[tokio::test]
async fn the_oldest_connection_makes_room_for_the_next() {
    let limits = Limits { connections: 2, ..PATIENT };
    let server = Server::start(limits, Nothing).await;
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

const TIMEOUTS: Timeouts = Timeouts {
    opening: Duration::from_secs(5),
    first: Duration::from_secs(8),
    idle: Duration::from_secs(30),
    ..PATIENT.timeouts
};

/// Asserts that a connection has not ended a second before `seconds` have passed, and has a second after that.
async fn assert_ends_after(seconds: u64, connection: JoinHandle<()>) {
    sleep(Duration::from_secs(seconds) - SECOND).await;
    assert!(!connection.is_finished(), "after {} s", seconds - 1);
    sleep(2 * SECOND).await;
    assert!(connection.is_finished(), "after {} s", seconds + 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_timeouts_to_begin_and_to_send_a_request() {
    for (sent, ends) in [
        ("", 5),
        // A connection that is asked to close in the middle of a request has a second.
        ("GET / HTTP/1.1\r\nhost:", 8 + 1),
        ("GET / HTTP/1.1\r\nhost: forebay\r\n\r\n", 30),
    ] {
        let (mut client, _) = in_memory(TIMEOUTS, Nothing);
        client.write_all(sent.as_bytes()).await.unwrap();
        let began = Instant::now();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), ends, "{sent}");
    }
}

/// Scenario: an answer is larger than the buffers between both ends, and the client reads some of it, then nothing. Promise: each
/// read restarts the timeout, which then ends the connection.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_ends_its_connection() {
    let (mut client, connection) = in_memory(TIMEOUTS, Pieces { pieces: &[100_000], every: SECOND });
    client.write_all(REQUEST).await.unwrap();
    for _ in 0..5 {
        sleep(20 * SECOND).await;
        client.read_exact(&mut [0; 1000]).await.unwrap();
    }
    assert_ends_after(30 + 1, connection).await;
}

/// Scenario: an answer is a stream of events (SSE) that takes longer than the idle timeout. Promise: it goes on as long as events
/// come and are read.
#[tokio::test(start_paused = true)]
async fn a_stream_of_events_lasts_as_long_as_it_is_read() {
    let pieces = Pieces { pieces: &[10; 20], every: 20 * SECOND };
    let (mut client, connection) = in_memory(TIMEOUTS, pieces);
    client.write_all(REQUEST).await.unwrap();
    let mut taken = Vec::new();
    while taken.iter().filter(|byte| **byte == b'x').count() < 20 * 10 {
        client.read_buf(&mut taken).await.unwrap();
    }
    assert_ends_after(30 + 1, connection).await;
}
