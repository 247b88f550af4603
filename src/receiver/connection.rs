//! The life of one connection, from its first bytes to its end. Each part of it has a bound in time.
//!
//! A connection that has to go is asked to, so that requests under way are answered and the client sends the next ones
//! over another connection: by HTTP/2's GOAWAY, or by the end of HTTP/1's keep-alive. It is cut where it has not gone
//! within a grace.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::activity::{Activity, UnderWay};
use super::opening::Opened;

/// What a connection may take of time.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// From the beginning until it is known what it speaks.
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
    /// Told again and again while a new connection waits for another one to go.
    pub(super) crowded: Arc<Notify>,
    /// Its other side is dropped at the shutdown.
    pub(super) ended: watch::Receiver<()>,
}

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
/// What is read of a request that was answered before its end, and for how long.
const MOST_UNREAD: u64 = 4 << 20;
const UNREAD: Duration = Duration::from_secs(5);

impl Terms {
    /// Serves `stream` to its end, each request by `answer`.
    pub(super) async fn serve<S, A, F, B>(self: Arc<Self>, stream: S, answer: A)
    where
        S: AsyncRead + AsyncWrite + Unpin,
        A: Fn(Request<Incoming>) -> F,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let opened = tokio::select! {
            opened = timeout(self.times.opening, Opened::read(stream)) => opened,
            () = self.crowded.notified() => return,
            () = self.ended() => return,
        };
        let Ok(Ok(mut stream)) = opened else { return };
        let activity = Arc::new(Activity::new());
        let service = service_fn(|request| {
            let (one, answered) = (UnderWay::one_more(activity.clone()), answer(request));
            async move {
                let response = answered.await;
                drop(one);
                Ok::<_, Infallible>(response)
            }
        });
        if stream.is_like_http2() {
            let connection = self.http2.serve_connection(TokioIo::new(stream), service);
            self.run(connection, http2::Connection::graceful_shutdown, &activity).await;
            return;
        }
        let ended = match &self.http1 {
            Some(http1) => {
                let connection = http1.serve_connection(TokioIo::new(&mut stream), service);
                self.run(connection, http1::Connection::graceful_shutdown, &activity).await
            }
            None => timeout(UNREAD, stream.write_all(NOT_HTTP2.as_bytes())).await.is_ok(),
        };
        if ended {
            self.hear_out(stream).await;
        }
    }

    /// Runs a connection until it ends by itself, or has to be cut; gives whether it has ended by itself.
    async fn run<C: Future>(
        &self,
        connection: C,
        ask_to_go: impl Fn(Pin<&mut C>),
        activity: &Activity,
    ) -> bool {
        let mut connection = pin!(connection);
        let grace = tokio::select! {
            _ = connection.as_mut() => return true,
            () = old(self.times.age) => self.times.age_grace,
            grace = self.idle(activity) => grace,
            () = self.ended() => self.times.grace,
        };
        ask_to_go(connection.as_mut());
        tokio::select! {
            _ = connection => true,
            () = sleep(grace) => false,
            () = self.cut() => false,
        }
    }

    /// Reads what the sender of a request that was answered before its end still sends. A connection that is closed on
    /// unread bytes is reset, and the sender may never see its answer.
    async fn hear_out(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let reading = async {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(MOST_UNREAD), &mut tokio::io::sink()).await
        };
        tokio::select! {
            _ = timeout(UNREAD, reading) => {}
            () = self.crowded.notified() => {}
            () = self.ended() => {}
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
