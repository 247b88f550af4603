//! The life of one connection, from its first bytes to its end. Each part of it has a bound in time.
//!
//! A connection that has to go is asked to, by HTTP/2's GOAWAY, so that requests under way are answered and the client
//! sends the next ones over another connection; it is cut where it has not gone within a grace.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, join, split};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{SPEAK_PLAIN_TEXT, SPEAK_TLS, speak_tls};
use super::gate::Gate;
use super::tls::{HANDSHAKE, Refused};
use super::turned_away::Reason;

/// What a connection may take of time.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// For the handshake of TLS, and then for HTTP/2's preface.
    pub(super) preface: Duration,
    /// From the headers of a request to its last byte.
    pub(super) arrival: Duration,
    /// Without a request, until it is asked to go; zero is for ever.
    pub(super) idle: Duration,
    /// From the beginning until it is asked to go, more or less; zero is for ever.
    pub(super) age: Duration,
    /// From being asked to go for its age until it is cut.
    pub(super) age_grace: Duration,
    /// From the shutdown until it is cut.
    pub(super) grace: Duration,
}

/// What all connections have in common.
pub(super) struct Terms {
    pub(super) http2: http2::Builder<TokioExecutor>,
    pub(super) times: Times,
    pub(super) gate: Gate,
    /// Told again and again while a new connection waits for another one to go.
    pub(super) crowded: Arc<Notify>,
    /// Its other side is dropped at the shutdown.
    pub(super) ended: watch::Receiver<()>,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Who has no request under way needs no longer than this to go, and less where others wait.
const IDLE_GRACE: Duration = Duration::from_secs(1);
const CROWDED_GRACE: Duration = Duration::from_millis(100);
/// By how much of itself an age varies, so that clients that came together do not all come back together.
const JITTER: f64 = 0.1;

const NOT_HTTP2: &str = "this port takes OTLP/gRPC only; set the exporter's protocol to grpc \
     (OTEL_EXPORTER_OTLP_PROTOCOL=grpc), or its endpoint to a port that takes OTLP/HTTP\n";
const NOT_TLS: &str = "this port speaks TLS only; begin the exporter's endpoint with https://\n";
/// What is read of a request that is not HTTP/2, and for how long.
const MOST_UNREAD: u64 = 4 << 20;
const UNREAD: Duration = Duration::from_secs(5);

impl Terms {
    /// Serves `stream` to its end, each request by `answer`.
    pub(super) async fn serve<A, F, B>(self: Arc<Self>, stream: TcpStream, answer: A)
    where
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Default + Send + 'static,
    {
        // Answers are small and complete; waiting for more to send with them would only delay them.
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().ok();
        let Some(tls) = &self.gate.tls else {
            return self.serve_within(stream, peer, NOT_HTTP2, answer).await;
        };
        match self.begun(tls.accept(stream)).await {
            None => {}
            Some(Ok(Ok(stream))) => self.serve_within(stream, peer, NOT_HTTP2, answer).await,
            Some(Ok(Err(Refused::PlainText(stream)))) => {
                self.gate.turned_away.count(Reason::PlainText, peer, &SPEAK_TLS);
                let answer = |_| std::future::ready(Ok(speak_tls().into_http::<B>()));
                self.serve_within(stream, peer, NOT_TLS, answer).await;
            }
            Some(Ok(Err(refused))) => self.gate.refused(&refused, peer),
            Some(Err(_)) => {
                let given = format!("it has {:?}", self.times.preface);
                self.gate.turned_away.count(Reason::HandshakeTimeout, peer, &given);
            }
        }
    }

    /// Serves what is inside of TLS, or where there is none. Whoever does not speak HTTP/2 is told `otherwise`.
    async fn serve_within<S, A, F, B>(
        &self,
        mut stream: S,
        peer: Option<SocketAddr>,
        otherwise: &str,
        answer: A,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let Some(Ok(Ok(begins))) = self.begun(begins(&mut stream)).await else { return };
        if begins == Begins::Http2 {
            return self.serve_http2(stream, answer).await;
        }
        if begins == Begins::Tls {
            // An answer that is not TLS is how its client knows that there is none here.
            self.gate.turned_away.count(Reason::Tls, peer, &SPEAK_PLAIN_TEXT);
        }
        tokio::select! {
            _ = timeout(UNREAD, tell(stream, otherwise)) => {}
            () = self.ended() => {}
        }
    }

    /// What a client begins with, or that it takes too long; `None` where its place is needed before.
    async fn begun<T>(&self, beginning: impl Future<Output = T>) -> Option<Result<T, Elapsed>> {
        tokio::select! {
            begun = timeout(self.times.preface, beginning) => Some(begun),
            () = self.crowded.notified() => None,
            () = self.ended() => None,
        }
    }

    async fn serve_http2<S, A, F, B>(&self, stream: S, answer: A)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let activity = Arc::new(Activity::new());
        let service = service_fn(|request| {
            let (one, answered) = (UnderWay::one_more(activity.clone()), answer(request));
            async move {
                let response = answered.await;
                drop(one);
                response
            }
        });
        let (read, write) = split(stream);
        let again = TokioIo::new(join(PREFACE.chain(read), write));
        let mut connection = pin!(self.http2.serve_connection(again, service));
        let grace = tokio::select! {
            _ = connection.as_mut() => return,
            () = old(self.times.age) => self.times.age_grace,
            grace = self.idle(&activity) => grace,
            () = self.ended() => self.times.grace,
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = sleep(grace) => {}
            () = self.cut() => {}
        }
    }

    /// Waits until no request has been under way for long enough, or, while new connections wait, for two turns of
    /// being asked. Gives the grace.
    async fn idle(&self, activity: &Activity) -> Duration {
        let mut asked = Instant::now();
        loop {
            let quiet = activity.quiet();
            let left = self.times.idle.saturating_sub(quiet.unwrap_or_default());
            if left.is_zero() && !self.times.idle.is_zero() {
                return IDLE_GRACE;
            }
            tokio::select! {
                () = after(left) => {}
                () = self.crowded.notified() => {
                    // A second chance, as page caches give it (CLOCK): who was used since the last time stays.
                    if activity.quiet().is_some_and(|quiet| quiet >= asked.elapsed()) {
                        return CROWDED_GRACE;
                    }
                    asked = Instant::now();
                }
            }
        }
    }

    async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Waits until the time after the shutdown is over as well.
    async fn cut(&self) {
        self.ended().await;
        sleep(self.times.grace).await;
    }
}

/// What goes on on a connection. Nobody is woken for it, since that would cost something with each request.
struct Activity {
    began: Instant,
    under_way: AtomicUsize,
    /// When a request was last answered, in microseconds since the beginning.
    answered: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { began: Instant::now(), under_way: AtomicUsize::new(0), answered: AtomicU64::new(0) }
    }

    /// How long no request has been under way; `None` while one is.
    fn quiet(&self) -> Option<Duration> {
        if self.under_way.load(Ordering::Acquire) > 0 {
            return None;
        }
        let answered = Duration::from_micros(self.answered.load(Ordering::Relaxed));
        Some(self.began.elapsed().saturating_sub(answered))
    }
}

/// A request that is under way on its connection.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn one_more(of: Arc<Activity>) -> Self {
        of.under_way.fetch_add(1, Ordering::Relaxed);
        Self(of)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let answered = self.0.began.elapsed().as_micros();
        self.0.answered.store(u64::try_from(answered).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

async fn old(age: Duration) {
    after(age.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())).await;
}

/// Waits for `time`; for ever where that is zero.
async fn after(time: Duration) {
    if time.is_zero() {
        std::future::pending().await
    } else {
        sleep(time).await;
    }
}

/// What a connection begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// HTTP/2's preface, which is taken off it.
    Http2,
    /// A handshake of TLS.
    Tls,
    Otherwise,
}

async fn begins(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Begins> {
    let mut bytes = [0; PREFACE.len()];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = stream.read(&mut bytes[filled..]).await?;
        filled += read;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes[..filled] != PREFACE[..filled] {
            return Ok(if bytes[0] == HANDSHAKE { Begins::Tls } else { Begins::Otherwise });
        }
    }
    Ok(Begins::Http2)
}

/// Answers whoever speaks something else, mostly an exporter that is set to `http/protobuf` at this port.
async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 415 Unsupported Media Type\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // A connection that is closed on unread bytes is reset, and the sender may never see the answer.
    tokio::io::copy(&mut stream.take(MOST_UNREAD), &mut tokio::io::sink()).await?;
    Ok(())
}
