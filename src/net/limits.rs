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
    /// What connections may take of time.
    pub timeouts: Timeouts,
    /// `None` where HTTP/1 is not spoken.
    pub http1: Option<Http1>,
    /// `None` where HTTP/2 is not spoken.
    pub http2: Option<Http2>,
}

/// What one connection may take of time.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For the handshake of TLS, and then until it is known which protocol is spoken.
    pub opening: Duration,
    /// Until a first request is answered, while none is under way; zero is for ever, where `idle` is as well.
    pub first: Duration,
    /// Without a request, and by HTTP/1 without a byte of an answer that is taken, until it is asked to go; zero is for
    /// ever.
    pub idle: Duration,
    /// From its beginning until it is asked to go, more or less; zero is for ever.
    pub age: Duration,
    /// From being asked to go for its age until it is cut.
    pub age_grace: Duration,
    /// From being asked to go for the sake of another connection until it is cut.
    pub crowded: Duration,
    /// From the shutdown until it is cut.
    pub shutdown: Duration,
}

/// The limits of HTTP/1.
#[derive(Clone, Debug)]
pub struct Http1 {
    /// Whether a connection is kept for further requests.
    pub keep_alive: bool,
    /// The longest wait for the headers of a request, from the beginning of its connection or the last answer on it.
    pub header_timeout: Duration,
}

/// The limits of HTTP/2.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Flow control: the bytes that a client may have under way before they are read, by request and by connection.
    pub window: u32,
    /// The most requests under way on one connection.
    pub max_streams: u32,
    /// A quiet connection is pinged after this long.
    pub ping_after: Duration,
    /// A ping that is not answered within this ends the connection.
    pub ping_timeout: Duration,
}

/// The most bytes of a request's headers.
pub const MAX_HEADERS: usize = 16 << 10;
/// The most bytes that a connection of HTTP/1 reads ahead.
const MAX_READ: usize = 64 << 10;
/// HTTP/2's default of 16 KiB cuts a batch into a dozen frames, each with reads and bookkeeping of its own.
const MAX_FRAME: u32 = 64 << 10;
/// File descriptors for everything else.
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

/// The most connections: `configured`, or, where that is 0, what this process can have at each of `ports` ports.
pub fn most_connections(configured: usize, ports: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = usize::try_from(descriptors.saturating_sub(SPARE)).unwrap_or(usize::MAX).max(16) / ports;
    if configured > possible {
        warn!(configured, possible, "max_connections is more than the limit on open files leaves");
    }
    if configured == 0 { possible.min(10_000) } else { configured.min(possible) }
}

/// The most connections from one address, of `all`: `configured`, or, where that is 0, three quarters, so that other
/// addresses find places. There is no such limit where it is not below `all`.
pub fn most_of_one_address(configured: usize, all: usize) -> usize {
    let most = if configured == 0 { all - all / 4 } else { configured };
    if most < all { most } else { usize::MAX }
}

#[cfg(test)]
mod tests {
    use super::most_of_one_address;

    #[test]
    fn an_address_leaves_a_quarter_to_others_where_nothing_else_is_said() {
        for (configured, all, most) in [(0, 4, 3), (0, 200, 150), (10, 200, 10)] {
            assert_eq!(most_of_one_address(configured, all), most, "{configured} of {all}");
        }
        for (configured, all) in [(0, 1), (0, 3), (200, 200), (500, 200)] {
            assert_eq!(most_of_one_address(configured, all), usize::MAX, "{configured} of {all}");
        }
    }
}
