//! The limits of each port, from the configuration.

use std::time::Duration;

use super::config::{GrpcConfig, HttpConfig};
use super::gate::Gate;
use crate::net::{Http1, Http2, Limits, Timeouts, most_connections, most_of_one_address};

/// The flow control window of each request and connection. Batches have some 100 KiB, and unread bytes are not charged to the request
/// memory.
const WINDOW: u32 = 1 << 20;
/// The window where requests wait unread for the verification of their passwords.
const UNVERIFIED_WINDOW: u32 = 256 << 10;
/// The time from the shutdown until connections are cut.
const GRACE: Duration = Duration::from_secs(5);
/// For a connection without a request under way to take notice that it is to go.
const CROWDED: Duration = Duration::from_millis(100);

impl GrpcConfig {
    /// The limits of the gRPC port, one of `ports` ports, behind `gate`.
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
    /// The limits of the HTTP port, one of `ports` ports, behind `gate`.
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
            // The Collector has no keys for these.
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
