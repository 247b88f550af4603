//! The limits of each port's connections, from the configuration.

use std::time::Duration;

use super::config::{GrpcConfig, HttpConfig};
use super::gate::Gate;
use crate::net::{Http1, Http2, Limits, Timeouts, most_connections, most_of_one_address};

/// Flow control: what a sender may have under way, by request and by connection, before it is read. Senders'
/// batches are some 100 KiB, and what is not read yet is not counted in the room.
const WINDOW: u32 = 1 << 20;
/// The same where requests wait for their passwords to be verified, unread.
const UNVERIFIED_WINDOW: u32 = 256 << 10;
/// From the shutdown until connections are cut.
const GRACE: Duration = Duration::from_secs(5);
/// For a connection without a request under way to take notice that it is to go.
const CROWDED: Duration = Duration::from_millis(100);

impl GrpcConfig {
    /// The limits of the port of gRPC, which is one of so many `ports` behind a `gate`.
    pub(super) fn limits(&self, ports: usize, gate: &Gate) -> Limits {
        let keepalive = &self.keepalive.server_parameters;
        let connections = most_connections(self.max_connections, ports);
        Limits {
            connections,
            connections_per_address: most_of_one_address(self.max_connections_per_address, connections),
            timeouts: Timeouts {
                opening: Duration::from_secs(10),
                first: keepalive.max_connection_idle.0,
                idle: keepalive.max_connection_idle.0,
                age: keepalive.max_connection_age.0,
                age_grace: keepalive.max_connection_age_grace.0,
                crowded: CROWDED,
                shutdown: GRACE,
            },
            http1: None,
            http2: Some(Http2 {
                window: window(gate),
                max_streams: self.max_concurrent_streams,
                ping_after: keepalive.time.0,
                ping_timeout: keepalive.timeout.0,
            }),
        }
    }
}

impl HttpConfig {
    /// The limits of the port of HTTP, which is one of so many `ports` behind a `gate`.
    pub(super) fn limits(&self, ports: usize, gate: &Gate) -> Limits {
        let connections = most_connections(self.max_connections, ports);
        Limits {
            connections,
            connections_per_address: most_of_one_address(self.max_connections_per_address, connections),
            timeouts: Timeouts {
                opening: self.read_header_timeout.0,
                first: self.idle_timeout.0,
                idle: self.idle_timeout.0,
                age: self.max_connection_age.0,
                age_grace: self.max_connection_age_grace.0,
                crowded: CROWDED,
                shutdown: GRACE,
            },
            http1: Some(Http1 {
                keep_alive: self.keep_alives_enabled,
                header_timeout: self.read_header_timeout.0,
            }),
            // The protocol has no keys for these.
            http2: Some(Http2 {
                window: window(gate),
                max_streams: 128,
                ping_after: Duration::from_secs(20),
                ping_timeout: Duration::from_secs(10),
            }),
        }
    }
}

fn window(gate: &Gate) -> u32 {
    if gate.keeps_waiting() { UNVERIFIED_WINDOW } else { WINDOW }
}
