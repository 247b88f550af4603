//! The limits of one port.

use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tracing::warn;

/// The limits of one port.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most connections at a time.
    pub connections: usize,
    /// The most of these from one address.
    pub connections_per_address: usize,
    /// The timeouts of each connection.
    pub timeouts: Timeouts,
    /// `None` turns HTTP/1 off.
    pub http1: Option<Http1>,
    /// `None` turns HTTP/2 off.
    pub http2: Option<Http2>,
}

/// The timeouts of one connection.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For the TLS handshake, and again for the first bytes, which tell the protocol.
    pub opening: Duration,
    /// Idle time before the first answer; zero is no limit, if `idle` is zero as well.
    pub first: Duration,
    /// Time without a request (with HTTP/1, also without the client reading a byte of an answer) until the connection is asked to
    /// close; zero is no limit.
    pub idle: Duration,
    /// Age at which the connection is asked to close, varied by a tenth; zero is no limit.
    pub age: Duration,
    /// Time from being asked to close because of `age` until the connection is cut.
    pub age_grace: Duration,
    /// Time from being asked to close for another connection until the connection is cut.
    pub crowded: Duration,
    /// Time from the shutdown until the connection is cut.
    pub shutdown: Duration,
}

/// The limits of HTTP/1.
#[derive(Clone, Debug)]
pub struct Http1 {
    /// Whether a connection stays open for further requests.
    pub keep_alive: bool,
    /// The longest wait for the headers of a request, from the start of the connection or the last answer.
    pub header_timeout: Duration,
}

/// The limits of HTTP/2.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// The flow control window of each request and each connection, in bytes.
    pub window: u32,
    /// The most requests in flight on one connection.
    pub max_streams: u32,
    /// Quiet time after which the connection is pinged.
    pub ping_after: Duration,
    /// How long to wait for the answer to a ping before closing the connection.
    pub ping_timeout: Duration,
}

/// The most bytes of a request's headers.
pub const MAX_HEADERS: usize = 16 << 10;
/// The most bytes that an HTTP/1 connection reads ahead.
const MAX_READ: usize = 64 << 10;
/// HTTP/2's default of 16 KiB splits a batch into a dozen frames, each with its own reads and bookkeeping.
const MAX_FRAME: u32 = 64 << 10;
/// File descriptors reserved for everything else.
const SPARE: u64 = 128;

impl Http1 {
    pub(super) fn builder(&self) -> http1::Builder {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .keep_alive(self.keep_alive)
            .header_read_timeout(self.header_timeout)
            .max_header_size(MAX_HEADERS)
            .max_buf_size(MAX_READ);
        http1
    }
}

impl Http2 {
    pub(super) fn builder(&self) -> http2::Builder<TokioExecutor> {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.window)
            .initial_connection_window_size(self.window)
            .max_frame_size(MAX_FRAME)
            .max_concurrent_streams(self.max_streams)
            .max_header_list_size(MAX_HEADERS as u32)
            .keep_alive_interval(self.ping_after)
            .keep_alive_timeout(self.ping_timeout);
        http2
    }
}

/// The most connections: `configured`, or, if that is 0, the number that the limit on open files allows each of `ports` ports, 10,000
/// at most.
pub fn most_connections(configured: usize, ports: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = usize::try_from(descriptors.saturating_sub(SPARE)).unwrap_or(usize::MAX).max(16) / ports;
    if configured > possible {
        warn!(configured, possible, "max_connections is more than the limit on open files leaves");
    }
    if configured == 0 { possible.min(10_000) } else { configured.min(possible) }
}

/// The most connections from one address, out of `all`: `configured`, or, if that is 0, three quarters, which leaves some for other
/// addresses. A limit that is not below `all` is no limit (`usize::MAX`).
pub fn most_of_one_address(configured: usize, all: usize) -> usize {
    let most = if configured == 0 { all - all / 4 } else { configured };
    if most < all { most } else { usize::MAX }
}

#[cfg(test)]
mod tests {
    use super::most_of_one_address;

    #[test]
    fn by_default_an_address_leaves_a_quarter_to_others() {
        for (configured, all, most) in [(0, 4, 3), (0, 200, 150), (10, 200, 10)] {
            assert_eq!(most_of_one_address(configured, all), most, "{configured} of {all}");
        }
        for (configured, all) in [(0, 1), (0, 3), (200, 200), (500, 200)] {
            assert_eq!(most_of_one_address(configured, all), usize::MAX, "{configured} of {all}");
        }
    }
}
