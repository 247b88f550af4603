//! The life of one connection, from its first bytes to its end. Each part of it has a bound in time.
//!
//! A connection that has to go is asked to, so that requests under way are answered and the client sends the next ones
//! over another connection: by HTTP/2's GOAWAY, or by the end of HTTP/1's keep-alive. It is cut where it has not gone
//! within a grace.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderMap};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use super::activity::{Activity, UnderWay};
use super::answer::{Failure, Why};
use super::client::Client;
use super::crowd::Crowd;
use super::gate::Gate;
use super::listen::Newcomer;
use super::opening::Opened;
use super::ports::MAX_HEADERS;
use super::tls::Refused;
use super::turned_away::Reason;

/// What a connection may take of time.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// For the handshake of TLS, and then until it is known what it speaks.
    pub(super) opening: Duration,
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

/// What all connections of a port have in common.
pub(super) struct Terms {
    /// `None` where only HTTP/2 is spoken.
    pub(super) http1: Option<http1::Builder>,
    pub(super) http2: http2::Builder<TokioExecutor>,
    pub(super) times: Times,
    pub(super) gate: Gate,
    /// Asked again and again while a new connection waits for another one to go.
    pub(super) crowd: Arc<Crowd>,
    /// Its other side is dropped at the shutdown.
    pub(super) ended: watch::Receiver<()>,
}

/// What the ports have in common of [`Times`].
pub(super) const ARRIVAL: Duration = Duration::from_secs(30);
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Who has no request under way needs no longer than this to go, and less where others wait.
const IDLE_GRACE: Duration = Duration::from_secs(1);
const CROWDED_GRACE: Duration = Duration::from_millis(100);
/// By how much of itself an age varies, so that clients that came together do not all come back together.
const JITTER: f64 = 0.1;

/// For whoever speaks something else, mostly an exporter that is set to `http/protobuf` at the port of gRPC.
const NOT_HTTP2: &str = "HTTP/1.1 415 Unsupported Media Type\r\n\
     content-type: text/plain; charset=utf-8\r\n\
     connection: close\r\n\r\n\
     this port takes OTLP/gRPC only; set the exporter's protocol to grpc (OTEL_EXPORTER_OTLP_PROTOCOL=grpc), or its \
     endpoint to a port that takes OTLP/HTTP\n";
/// For whoever speaks neither TLS nor HTTP/2 to such a port with TLS.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\n\
     content-type: text/plain; charset=utf-8\r\n\
     connection: close\r\n\r\n\
     this port speaks TLS only; begin the exporter's endpoint with https://\n";
/// What a client that speaks plain text changes, and one that speaks TLS.
const SPEAK_TLS: &str = "begin the exporter's endpoint with https:// (and leave out `insecure`)";
const SPEAK_PLAIN_TEXT: &str =
    "begin the exporter's endpoint with http://, or give forebay a certificate by `tls` of this protocol";
const SPEAK_GRPC: &str = "set the exporter's protocol to grpc (OTEL_EXPORTER_OTLP_PROTOCOL=grpc), or its endpoint to a port that \
     takes OTLP/HTTP";
/// What is read of a request that was answered before its end, and for how long.
const MOST_UNREAD: u64 = 4 << 20;
const UNREAD: Duration = Duration::from_secs(5);
/// The same of a request that shares its connection with others.
const MOST_DISCARDED: usize = 1 << 20;
const DISCARDING: Duration = Duration::from_millis(100);

impl Terms {
    /// Serves a connection to its end, each request by `answer`, which gives back what it has not read of it, or by `deny`
    /// where it is not encrypted and should be.
    pub(super) async fn serve<A, F, B>(
        self: Arc<Self>,
        newcomer: Newcomer,
        answer: A,
        deny: fn(&HeaderMap, Failure) -> Response<B>,
    ) where
        A: Fn(Request<Incoming>, Arc<Client>) -> F,
        F: Future<Output = (Response<B>, Incoming)> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let Newcomer { stream, address, visit, slot: _slot } = newcomer;
        let client = Arc::new(Client::new(address, &visit, self.crowd.clone()));
        self.serve_client(stream, &client, answer, deny).await;
        client.leaves();
    }

    async fn serve_client<A, F, B>(
        &self,
        stream: TcpStream,
        client: &Arc<Client>,
        answer: A,
        deny: fn(&HeaderMap, Failure) -> Response<B>,
    ) where
        A: Fn(Request<Incoming>, Arc<Client>) -> F,
        F: Future<Output = (Response<B>, Incoming)> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let answer = |request| answer(request, client.clone());
        let Some(tls) = &self.gate.tls else {
            return self.serve_within(stream, client, NOT_HTTP2, answer).await;
        };
        // In boxes, so that connections without TLS take no memory for it.
        match self.opening(client, Box::pin(tls.accept(stream))).await {
            None => {}
            Some(Ok(Ok((stream, presented)))) => {
                presented.into_iter().for_each(|presented| drop(client.presented.set(presented)));
                Box::pin(self.serve_within(stream, client, NOT_HTTP2, answer)).await;
            }
            Some(Ok(Err(Refused::PlainText(stream)))) => {
                self.gate.turned_away.count(Reason::PlainText, Some(client.address), &SPEAK_TLS);
                let failure =
                    || Failure::new(Why::PlainText, format!("this port speaks TLS only; {SPEAK_TLS}"));
                let answer = |request: Request<Incoming>| {
                    std::future::ready((deny(request.headers(), failure()), request.into_body()))
                };
                Box::pin(self.serve_within(stream, client, NOT_TLS, answer)).await;
            }
            Some(Ok(Err(refused))) => self.gate.refused(&refused, Some(client.address)),
            Some(Err(_)) => {
                let given = format!("it has {:?}", self.times.opening);
                self.gate.turned_away.count(Reason::HandshakeTimeout, Some(client.address), &given);
            }
        }
    }

    /// What a client begins with, or that it takes too long; `None` where its place is needed before.
    async fn opening<T>(
        &self,
        client: &Client,
        beginning: impl Future<Output = T>,
    ) -> Option<Result<T, Elapsed>> {
        tokio::select! {
            begun = timeout(self.times.opening, beginning) => Some(begun),
            () = client.asked_to_go() => None,
            () = self.ended() => None,
        }
    }

    /// Serves what is inside of TLS, or where there is none. Whoever speaks nothing that is spoken here is told
    /// `otherwise`.
    async fn serve_within<S, A, F, B>(&self, stream: S, client: &Client, otherwise: &'static str, answer: A)
    where
        S: AsyncRead + AsyncWrite + Unpin,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = (Response<B>, Incoming)> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let Some(Ok(Ok(mut stream))) = self.opening(client, Opened::read(stream)).await else { return };
        if stream.is_like_tls() {
            // An answer that is not TLS is how its client knows that there is none here.
            self.gate.turned_away.count(Reason::Tls, Some(client.address), &SPEAK_PLAIN_TEXT);
        }
        let activity = Arc::new(Activity::new());
        let service = service_fn(|request| {
            let is_alone = request.version() != Version::HTTP_2;
            // It would be asked for its body by the first look at that.
            let waits_to_be_asked = request.headers().contains_key(EXPECT);
            let (one, answered) = (UnderWay::one_more(activity.clone()), answer(request));
            async move {
                let (mut response, mut rest) = answered.await;
                if !waits_to_be_asked {
                    let _ = timeout(DISCARDING, discard(&mut rest)).await;
                }
                if is_alone && !rest.is_end_stream() {
                    // There is no other request behind one whose end is not read, and the client is not to send one.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                drop(one);
                Ok::<_, Infallible>(response)
            }
        });
        if stream.is_like_http2() {
            let connection = self.http2.serve_connection(TokioIo::new(stream), service);
            self.run(connection, http2::Connection::graceful_shutdown, client, &activity).await;
            return;
        }
        let ended = match &self.http1 {
            Some(http1) => {
                let connection = http1.serve_connection(TokioIo::new(&mut stream), service);
                self.run(connection, http1::Connection::graceful_shutdown, client, &activity).await
            }
            None => {
                if otherwise == NOT_HTTP2 && !stream.is_like_tls() {
                    self.gate.turned_away.count(Reason::NotGrpc, Some(client.address), &SPEAK_GRPC);
                }
                timeout(UNREAD, stream.write_all(otherwise.as_bytes())).await.is_ok()
            }
        };
        if ended {
            self.hear_out(client, stream).await;
        }
    }

    /// Runs a connection until it ends by itself, or has to be cut; gives whether it has ended by itself.
    async fn run<C: Future<Output = hyper::Result<()>>>(
        &self,
        connection: C,
        ask_to_go: impl Fn(Pin<&mut C>),
        client: &Client,
        activity: &Activity,
    ) -> bool {
        let mut connection = pin!(connection);
        let grace = tokio::select! {
            result = connection.as_mut() => {
                let address = Some(client.address);
                match result {
                    Err(error) if error.is_parse_too_large() => {
                        let why = format!("its headers are larger than {} KiB", MAX_HEADERS >> 10);
                        self.gate.turned_away.count(Reason::HeadersTooLarge, address, &why);
                    }
                    Err(error) if error.is_parse() => {
                        let why = format!("{error}; where a load balancer is in front, its PROXY protocol has to be off");
                        self.gate.turned_away.count(Reason::NotHttp, address, &why);
                    }
                    _ => {}
                }
                return true;
            }
            () = old(self.times.age) => self.times.age_grace,
            grace = self.has_to_go(client, activity) => grace,
            () = self.distrusts(client) => IDLE_GRACE,
            () = self.ended() => self.times.grace,
        };
        client.leaves();
        ask_to_go(connection.as_mut());
        tokio::select! {
            _ = connection => true,
            () = sleep(grace) => false,
            () = self.cut() => false,
        }
    }

    /// Reads what the sender of a request that was answered before its end still sends. A connection that is closed on
    /// unread bytes is reset, and the sender may never see its answer.
    async fn hear_out(&self, client: &Client, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let reading = async {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(MOST_UNREAD), &mut tokio::io::sink()).await
        };
        tokio::select! {
            _ = timeout(UNREAD, reading) => {}
            () = client.asked_to_go() => {}
            () = self.ended() => {}
        }
    }

    /// Waits until no request has been under way for long enough; or, while new connections wait, for two turns of
    /// being asked, and, if none was ever admitted, until it is asked at all or has had its chances. Gives the grace.
    async fn has_to_go(&self, client: &Client, activity: &Activity) -> Duration {
        let mut asked = Instant::now();
        loop {
            if client.is_unwelcome() {
                return IDLE_GRACE;
            }
            let quiet = activity.quiet();
            let left = self.times.idle.saturating_sub(quiet.unwrap_or_default());
            if left.is_zero() && !self.times.idle.is_zero() {
                return IDLE_GRACE;
            }
            tokio::select! {
                () = after(left) => {}
                () = client.changed() => {}
                () = client.asked_to_go() => {
                    // A second chance, as page caches give it (CLOCK): who was used since the last time stays.
                    let is_quiet = || activity.quiet().is_some_and(|quiet| quiet >= asked.elapsed());
                    if !client.is_known() || is_quiet() {
                        return CROWDED_GRACE;
                    }
                    asked = Instant::now();
                }
            }
        }
    }

    /// Waits until the client's certificate is none that is taken any more.
    async fn distrusts(&self, client: &Client) {
        match self.gate.tls.as_ref().zip(client.presented.get()) {
            Some((tls, presented)) => tls.distrusts(presented).await,
            None => std::future::pending().await,
        }
    }

    /// Waits for the shutdown.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Waits until the time after the shutdown is over as well.
    async fn cut(&self) {
        self.ended().await;
        sleep(self.times.grace).await;
    }
}

/// Reads the rest of a request as far as it comes at once. HTTP/2 resets a request that is answered before its end, and a
/// connection with a thousand of these is ended, with all that others have under way on it.
async fn discard(rest: &mut Incoming) {
    let mut discarded = 0;
    while !rest.is_end_stream()
        && discarded < MOST_DISCARDED
        && let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut *rest).poll_frame(context)).await
    {
        discarded += frame.data_ref().map_or(0, Bytes::len);
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
