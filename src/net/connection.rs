//! The life of one connection, from its first bytes to its end. Each part of it has a bound in time.
//!
//! A connection that has to go is asked to, so that requests under way are answered and the client sends the next ones
//! over another connection: by HTTP/2's GOAWAY, or by the end of HTTP/1's keep-alive. It is cut where it has not gone
//! within a grace.

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

/// What is served on one connection.
pub trait Service: Sync {
    /// The body of answers.
    type Body: Body<Data = Bytes, Error = Infallible> + Send + 'static;

    /// Answers a request, and gives back what is not read of it.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = (Response<Self::Body>, Incoming)> + Send + 'static + use<Self>;

    /// Hears of what comes that is no request.
    fn refused(&self, _: Refused<'_>) {}

    /// The bytes that are sent to a client that speaks no protocol of the port, where HTTP/1 is none.
    fn otherwise(&self) -> &'static str {
        ""
    }

    /// Waits until the client is to go for a reason of the service's own.
    fn has_enough(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// Connections, and what comes on them, that get no further.
#[derive(Debug)]
pub enum Refused<'a> {
    /// One that waits, because all places of the port are taken, which are so many.
    PortFull(usize),
    /// One that is closed, because its address has as many as it may, which are so many.
    AddressFull(usize),
    /// It speaks TLS, where something else is expected.
    Tls,
    /// It does not speak HTTP/2, and nothing else is spoken.
    NotHttp2,
    /// The headers of a request are larger than [`super::MAX_HEADERS`].
    HeadersTooLarge,
    /// It speaks no HTTP/1.
    NotHttp(&'a hyper::Error),
}

/// A connection without a request under way needs no longer than this to go.
const IDLE_GRACE: Duration = Duration::from_secs(1);
/// By how much of itself an age varies, so that clients that came together do not all come back together.
const JITTER: f64 = 0.1;
/// What is read of a request that was answered before its end, and for how long.
const MOST_UNREAD: u64 = 4 << 20;
const UNREAD: Duration = Duration::from_secs(5);
/// The same of a request that shares its connection with others.
const MOST_DISCARDED: usize = 1 << 20;
const DISCARDING: Duration = Duration::from_millis(100);

impl Port {
    /// Waits for the beginning of a connection. The error is the time that it had; `None` where its place is needed before
    /// that, or at the shutdown.
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

    /// Serves `stream`, which is that of `client`, to its end.
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
            // An answer that is not TLS is how its client knows that there is none here.
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

    /// Runs a connection until it ends by itself, or has to be cut; gives whether it has ended by itself.
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
        let grace = tokio::select! {
            result = connection.as_mut() => {
                match result {
                    Err(error) if error.is_parse_too_large() => service.refused(Refused::HeadersTooLarge),
                    Err(error) if error.is_parse() => service.refused(Refused::NotHttp(&error)),
                    _ => {}
                }
                return true;
            }
            () = about(age) => age_grace,
            grace = self.has_to_go(client, activity) => grace,
            () = service.has_enough() => IDLE_GRACE,
            () = self.ended() => shutdown,
        };
        client.leaves();
        ask_to_go(connection.as_mut());
        tokio::select! {
            _ = connection => true,
            () = sleep(grace) => false,
            () = self.grace_is_over() => false,
        }
    }

    /// Closes a connection once the rest of what its client sends has been read. A connection that is closed on unread bytes is
    /// reset, and the sender of a request that was answered before its end may never see its answer.
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

    /// Waits until no request has been under way for long enough; or, while new connections wait, for two turns of
    /// being asked, and, if none was ever admitted, until it is asked at all or has had its chances. Gives the grace.
    async fn has_to_go(&self, client: &Client, activity: &Activity) -> Duration {
        let mut asked = Instant::now();
        loop {
            if client.is_unwelcome() {
                return IDLE_GRACE;
            }
            let Timeouts { first, idle, .. } = self.limits.timeouts;
            let idle = if activity.has_answered() { idle } else { first };
            let left = idle.saturating_sub(activity.idle().unwrap_or_default());
            if left.is_zero() && !idle.is_zero() {
                return IDLE_GRACE;
            }
            tokio::select! {
                () = elapsed(left) => {}
                () = client.changed() => {}
                () = client.asked_to_go() => {
                    // A second chance, as page caches give it (CLOCK): one that was used since the last time stays.
                    let is_idle = || activity.idle().is_some_and(|idle| idle >= asked.elapsed());
                    if !client.is_known() || is_idle() {
                        return self.limits.timeouts.crowded;
                    }
                    asked = Instant::now();
                }
            }
        }
    }

    /// Waits until the time after the shutdown is over as well.
    async fn grace_is_over(&self) {
        self.ended().await;
        sleep(self.limits.timeouts.shutdown).await;
    }
}

/// Has `service` answer a request, and reads the rest of that as far as it is there.
fn answered<A: Service>(
    service: &A,
    request: Request<Incoming>,
    activity: &Arc<Activity>,
) -> impl Future<Output = Result<Response<A::Body>, Infallible>> + Send + 'static + use<A> {
    let is_alone = request.version() != Version::HTTP_2;
    // It would be asked for its body by the first look at that.
    let waits_to_be_asked = request.headers().contains_key(EXPECT);
    let (in_flight, answer) = (InFlight::new(activity.clone()), service.answer(request));
    async move {
        let (mut response, mut rest) = answer.await;
        if !waits_to_be_asked {
            let _ = timeout(DISCARDING, discard(&mut rest)).await;
        }
        if is_alone && !rest.is_end_stream() {
            // There is no other request behind one whose end is not read, and the client is not to send one.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        drop(in_flight);
        Ok(response)
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

/// Waits for `time`, somewhat more or less; for ever where that is zero.
async fn about(time: Duration) {
    elapsed(time.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())).await;
}

/// Waits for `time`; for ever where that is zero.
async fn elapsed(time: Duration) {
    if time.is_zero() { pending().await } else { sleep(time).await }
}
