//! One connection, from its first bytes to its end. Each phase has a timeout.
//!
//! A connection that has to close is first asked to, by GOAWAY (HTTP/2) or `connection: close` (HTTP/1), so that requests in flight
//! are answered and the client opens another connection. After a grace period it is cut.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::activity::{Activity, InFlight};
use super::client::Client;
use super::opening::Opened;
use super::{Port, Timeouts};

/// Answers the requests of one connection.
pub trait Service: Sync {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error = Infallible> + Send + 'static;

    /// Answers a request, and returns the unread rest of its body.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = (Response<Self::Body>, Incoming)> + Send + 'static + use<Self>;

    /// Called when a client sends something that is not a request.
    fn refused(&self, _: Refused<'_>) {}

    /// The bytes to send to a client that speaks none of the port's protocols, on a port without HTTP/1.
    fn otherwise(&self) -> &'static str {
        ""
    }

    /// Waits until the service wants the connection to close.
    fn has_enough(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// Why a connection or its bytes are not served.
#[derive(Debug)]
pub enum Refused<'a> {
    /// The port is at its limit, given here; the connection waits.
    PortFull(usize),
    /// The address is at its limit, given here; the connection is closed.
    AddressFull(usize),
    /// The client speaks TLS to a port without TLS.
    Tls,
    /// The client does not speak HTTP/2, the only protocol of the port.
    NotHttp2,
    /// The headers of a request are larger than [`super::MAX_HEADERS`].
    HeadersTooLarge,
    /// The client does not speak HTTP/1.
    NotHttp(&'a hyper::Error),
}

/// The grace period of a connection without a request in flight.
const IDLE_GRACE: Duration = Duration::from_secs(1);
/// The part by which `age` varies, so that clients that connected together do not reconnect together.
const JITTER: f64 = 0.1;
/// How many bytes are read of a request that was answered early, and for how long.
const MOST_UNREAD: u64 = 4 << 20;
const UNREAD: Duration = Duration::from_secs(5);
/// The same for a request that shares its connection with others.
const MOST_DISCARDED: usize = 1 << 20;
const DISCARDING: Duration = Duration::from_millis(100);

impl Port {
    /// Waits for the beginning of a connection. The error is the timeout that has passed; `None` if the connection has to close
    /// earlier, to make room or for the shutdown.
    pub async fn opening<T>(
        &self,
        client: &Client,
        beginning: impl Future<Output = T>,
    ) -> Option<Result<T, Duration>> {
        let opening = self.limits.timeouts.opening;
        tokio::select! {
            begun = timeout(opening, beginning) => Some(begun.map_err(|_| opening)),
            () = client.asked_to_go() => None,
            () = self.ended() => None,
        }
    }

    /// Serves the `stream` of `client` until it ends.
    pub async fn serve<S, A>(&self, stream: S, client: &Client, service: &A)
    where
        S: AsyncRead + AsyncWrite + Unpin,
        A: Service,
    {
        let activity = Arc::new(Activity::new());
        if let Some(Ok(Ok(stream))) = self.opening(client, Opened::read(stream)).await {
            self.serve_opened(stream, client, service, activity).await;
        }
        client.leaves();
    }

    async fn serve_opened<S, A>(
        &self,
        mut stream: Opened<S>,
        client: &Client,
        service: &A,
        activity: Arc<Activity>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
        A: Service,
    {
        if stream.is_like_tls() {
            // The client notices by an answer that is not TLS.
            service.refused(Refused::Tls);
        }
        let answer = service_fn(|request| answered(service, request, &activity));
        if let Some(http2) = self.http2.as_ref().filter(|_| stream.is_like_http2()) {
            let connection = http2.serve_connection(TokioIo::new(stream), answer);
            self.run(connection, http2::Connection::graceful_shutdown, client, service, &activity).await;
            return;
        }
        let ended = match &self.http1 {
            Some(http1) => {
                stream.tell(activity.clone());
                let connection = http1.serve_connection(TokioIo::new(&mut stream), answer);
                self.run(connection, http1::Connection::graceful_shutdown, client, service, &activity).await
            }
            None => {
                if !stream.is_like_tls() {
                    service.refused(Refused::NotHttp2);
                }
                timeout(UNREAD, stream.write_all(service.otherwise().as_bytes())).await.is_ok()
            }
        };
        if ended {
            self.linger(client, stream).await;
        }
    }

    /// Runs a connection until it ends by itself (`true`) or has to be cut (`false`).
    async fn run<C: Future<Output = hyper::Result<()>>>(
        &self,
        connection: C,
        ask_to_go: impl Fn(Pin<&mut C>),
        client: &Client,
        service: &impl Service,
        activity: &Activity,
    ) -> bool {
        let Timeouts { age, age_grace, shutdown, .. } = self.limits.timeouts;
        let mut connection = pin!(connection);
        // A place that others wait for is not kept for the sake of a client that may still send.
        let (grace, lingers) = tokio::select! {
            result = connection.as_mut() => {
                match result {
                    Err(error) if error.is_parse_too_large() => service.refused(Refused::HeadersTooLarge),
                    Err(error) if error.is_parse() => service.refused(Refused::NotHttp(&error)),
                    _ => {}
                }
                return true;
            }
            () = about(age) => (age_grace, true),
            gone = self.has_to_go(client, activity) => gone,
            () = service.has_enough() => (IDLE_GRACE, true),
            () = self.ended() => (shutdown, true),
        };
        client.leaves();
        ask_to_go(connection.as_mut());
        tokio::select! {
            _ = connection => lingers,
            () = sleep(grace) => false,
            () = self.grace_is_over() => false,
        }
    }

    /// Closes a connection after reading the rest of what its client sends. Closing with unread bytes resets the connection, and
    /// the sender of a request that was answered early may never see the answer.
    async fn linger(&self, client: &Client, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
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

    /// Waits until the connection has to close, and returns its grace period and whether the rest of its input is read then. It has to close once it is idle for too long, or, while
    /// other connections wait, if it was not used between two requests to close. A newcomer has to close at the first such request,
    /// or when it was denied too often.
    async fn has_to_go(&self, client: &Client, activity: &Activity) -> (Duration, bool) {
        let mut asked = Instant::now();
        loop {
            if client.is_unwelcome() {
                return (IDLE_GRACE, true);
            }
            let Timeouts { first, idle, .. } = self.limits.timeouts;
            let idle = if activity.has_answered() { idle } else { first };
            let left = idle.saturating_sub(activity.idle().unwrap_or_default());
            if left.is_zero() && !idle.is_zero() {
                return (IDLE_GRACE, true);
            }
            tokio::select! {
                () = elapsed(left) => {}
                () = client.changed() => {}
                () = client.asked_to_go() => {
                    // The CLOCK algorithm of page caches: a connection that was used since the last time stays.
                    let is_idle = || activity.idle().is_some_and(|idle| idle >= asked.elapsed());
                    if !client.is_known() || is_idle() {
                        return (self.limits.timeouts.crowded, false);
                    }
                    asked = Instant::now();
                }
            }
        }
    }

    /// Waits for the shutdown and the grace period after it.
    async fn grace_is_over(&self) {
        self.ended().await;
        sleep(self.limits.timeouts.shutdown).await;
    }
}

/// Has `service` answer a request, and reads the part of its rest that has already arrived.
fn answered<A: Service>(
    service: &A,
    request: Request<Incoming>,
    activity: &Arc<Activity>,
) -> impl Future<Output = Result<Response<A::Body>, Infallible>> + Send + 'static + use<A> {
    let is_alone = request.version() != Version::HTTP_2;
    // Reading the body would send `100 Continue`.
    let waits_to_be_asked = request.headers().contains_key(EXPECT);
    let (in_flight, answer) = (InFlight::new(activity.clone()), service.answer(request));
    async move {
        let (mut response, mut rest) = answer.await;
        if !waits_to_be_asked {
            let _ = timeout(DISCARDING, discard(&mut rest)).await;
        }
        if is_alone && !rest.is_end_stream() {
            // The next request cannot be found behind an unread body, so the client must not send one.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        drop(in_flight);
        Ok(response)
    }
}

/// Reads the part of a body that arrives at once. HTTP/2 resets a request that is answered before its end, and a connection with a
/// thousand resets is closed together with the requests of others on it.
async fn discard(rest: &mut Incoming) {
    let mut discarded = 0;
    while !rest.is_end_stream()
        && discarded < MOST_DISCARDED
        && let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut *rest).poll_frame(context)).await
    {
        discarded += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Waits for `time`, varied by [`JITTER`]; forever if it is zero.
async fn about(time: Duration) {
    elapsed(time.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())).await;
}

/// Waits for `time`; forever if it is zero.
async fn elapsed(time: Duration) {
    if time.is_zero() { pending().await } else { sleep(time).await }
}
