//! Connections and requests that are turned away, counted by reason, and logged in few lines however many there are.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use strum::{IntoStaticStr, VariantArray};
use tracing::warn;

/// Why a client or request is turned away; in snake case it is the label `reason` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum TurnedAwayReason {
    /// Plain text at a port with TLS.
    PlainText,
    /// TLS at a port without.
    Tls,
    /// No client certificate, or one that is not trusted.
    ClientCertificate,
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// The TLS handshake failed in another way.
    Handshake,
    NoCredentials,
    WrongCredentials,
    /// The credentials cannot be verified now.
    VerifierBusy,
    /// The address is at its limit of connections.
    TooManyConnections,
    Traces,
    Metrics,
    UnknownPath,
    /// Not POST.
    WrongMethod,
    /// The media type is not one of OTLP's.
    UnknownType,
    /// Something other than gRPC at its port.
    NotGrpc,
    HeadersTooLarge,
    NotHttp,
}

/// The counts of one port.
#[derive(Debug)]
pub(super) struct TurnedAway {
    transport: &'static str,
    begun: Instant,
    counts: [Count; TurnedAwayReason::VARIANTS.len()],
}

#[derive(Debug, Default)]
struct Count {
    times: AtomicU64,
    /// The number, from 1 on, of the pause in which it was last logged.
    logged: AtomicU64,
}

impl TurnedAwayReason {
    /// The reason for a request to `path`, which is not that of logs.
    pub(super) fn of_path(path: &str) -> Self {
        let has = |name: &str| path.split(['/', '.']).any(|step| step.eq_ignore_ascii_case(name));
        match () {
            () if has("traces") || has("TraceService") => Self::Traces,
            () if has("metrics") || has("MetricsService") => Self::Metrics,
            () => Self::UnknownPath,
        }
    }

    /// The seconds in which it is logged once. A misconfigured exporter sends for as long as it runs.
    fn pause(self) -> u64 {
        if self as usize >= Self::Traces as usize { 3600 } else { 1 }
    }

    fn words(self) -> &'static str {
        match self {
            Self::PlainText => "a client speaks plain text to a port with TLS; ",
            Self::Tls => "a client speaks TLS to a port without; ",
            Self::ClientCertificate => "a client has no valid certificate: ",
            Self::HandshakeTimeout => "a TLS handshake took too long; ",
            Self::Handshake => "a TLS handshake failed: ",
            Self::Traces => "a client sends traces: ",
            Self::Metrics => "a client sends metrics: ",
            Self::NotGrpc => "a client does not speak gRPC: ",
            Self::NotHttp => "a client does not speak HTTP: ",
            Self::NoCredentials
            | Self::WrongCredentials
            | Self::UnknownPath
            | Self::WrongMethod
            | Self::UnknownType
            | Self::HeadersTooLarge => "a request is refused: ",
            Self::VerifierBusy => "a request has to be retried: ",
            Self::TooManyConnections => "one address has too many connections; ",
        }
    }
}

impl TurnedAway {
    pub(super) fn new(transport: &'static str) -> Self {
        Self { transport, begun: Instant::now(), counts: Default::default() }
    }

    /// Counts one from `peer`. Not every one is logged, because a log line costs more than the refusal.
    pub(super) fn count(&self, reason: TurnedAwayReason, peer: Option<SocketAddr>, why: &dyn Display) {
        let count = &self.counts[reason as usize];
        let so_far = count.times.fetch_add(1, Ordering::Relaxed) + 1;
        let now = self.begun.elapsed().as_secs() / reason.pause() + 1;
        if count.logged.swap(now, Ordering::Relaxed) != now {
            let peer = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
            let (transport, label) = (self.transport, <&str>::from(reason));
            warn!(transport, reason = label, peer, so_far, "{}{why}", reason.words());
        }
    }

    #[cfg(test)]
    pub(super) fn times(&self, reason: TurnedAwayReason) -> u64 {
        self.counts[reason as usize].times.load(Ordering::Relaxed)
    }
}

/// Registers the counter of all ports.
pub(super) fn observe(ports: [Arc<TurnedAway>; 2], meter: &Meter) {
    meter
        .u64_observable_counter("log_receiver_turned_away")
        .with_description(
            "Connections and requests turned away by TLS, authentication or their path, by reason.",
        )
        .with_callback(move |observer| {
            for port in &ports {
                for (&reason, count) in TurnedAwayReason::VARIANTS.iter().zip(&port.counts) {
                    let labels = [
                        KeyValue::new("transport", port.transport),
                        KeyValue::new("reason", <&str>::from(reason)),
                    ];
                    observer.observe(count.times.load(Ordering::Relaxed), &labels);
                }
            }
        })
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_closed_set() {
        let labels: Vec<_> = TurnedAwayReason::VARIANTS.iter().map(<&str>::from).collect();
        let expected = "plain_text tls client_certificate handshake_timeout handshake no_credentials \
            wrong_credentials verifier_busy too_many_connections traces metrics unknown_path wrong_method \
            unknown_type not_grpc headers_too_large not_http";
        assert_eq!(labels.join(" "), expected);
    }
}
