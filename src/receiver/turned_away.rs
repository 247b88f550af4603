//! Connections and requests that come no further, counted by why, and told of in a few lines however many they are.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use strum::{IntoStaticStr, VariantArray};
use tracing::warn;

/// Why somebody comes no further; in snake case it is the label `reason` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum TurnedAwayReason {
    /// It speaks plain text at a port with TLS.
    PlainText,
    /// It speaks TLS at a port without.
    Tls,
    /// It has no certificate, or not a good one.
    ClientCertificate,
    /// It has not finished its handshake in time.
    HandshakeTimeout,
    /// Its handshake has failed in another way.
    Handshake,
    /// Its request does not say who sends.
    NoCredentials,
    /// Its request says so, and nobody is known by that.
    WrongCredentials,
    /// What its request says cannot be verified now.
    VerifierBusy,
    /// Its address has as many connections as it may.
    TooManyConnections,
    /// It sends traces.
    Traces,
    /// It sends metrics.
    Metrics,
    /// There is nothing at its path.
    UnknownPath,
    /// It is no POST.
    WrongMethod,
    /// Its media type is not OTLP's.
    UnknownType,
    /// It does not speak gRPC, at the port of that.
    NotGrpc,
    /// Its headers are too large.
    HeadersTooLarge,
    /// What it sends is no HTTP.
    NotHttp,
}

/// What was turned away at one port.
#[derive(Debug)]
pub(super) struct TurnedAway {
    transport: &'static str,
    begun: Instant,
    counts: [Count; TurnedAwayReason::VARIANTS.len()],
}

#[derive(Debug, Default)]
struct Count {
    times: AtomicU64,
    /// The pause in which it was told of last, from 1 on.
    told: AtomicU64,
}

impl TurnedAwayReason {
    /// For a request to `path`, which is not that of logs.
    pub(super) fn of_path(path: &str) -> Self {
        let has = |name: &str| path.split(['/', '.']).any(|step| step.eq_ignore_ascii_case(name));
        match () {
            () if has("traces") || has("TraceService") => Self::Traces,
            () if has("metrics") || has("MetricsService") => Self::Metrics,
            () => Self::UnknownPath,
        }
    }

    /// A message says it once in so many seconds. An exporter that is set wrongly sends for as long as it runs.
    fn pause(self) -> u64 {
        if self as usize >= Self::Traces as usize { 3600 } else { 1 }
    }

    fn words(self) -> &'static str {
        match self {
            Self::PlainText => "a client speaks plain text to a port with TLS; ",
            Self::Tls => "a client speaks TLS to a port without; ",
            Self::ClientCertificate => "a client has no certificate that is taken: ",
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
            Self::VerifierBusy => "a request is sent back: ",
            Self::TooManyConnections => "one address has too many connections; ",
        }
    }
}

impl TurnedAway {
    /// Nothing yet, at the port of `transport`.
    pub(super) fn new(transport: &'static str) -> Self {
        Self { transport, begun: Instant::now(), counts: Default::default() }
    }

    /// Counts one from `peer`. Not every one is told of: to make a line of each would cost more than to refuse it.
    pub(super) fn count(&self, reason: TurnedAwayReason, peer: Option<SocketAddr>, why: &dyn Display) {
        let count = &self.counts[reason as usize];
        let so_far = count.times.fetch_add(1, Ordering::Relaxed) + 1;
        let now = self.begun.elapsed().as_secs() / reason.pause() + 1;
        if count.told.swap(now, Ordering::Relaxed) != now {
            let peer = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
            let (transport, label) = (self.transport, <&str>::from(reason));
            warn!(transport, reason = label, peer, so_far, "{}{why}", reason.words());
        }
    }

    /// How many there have been.
    #[cfg(test)]
    pub(super) fn times(&self, reason: TurnedAwayReason) -> u64 {
        self.counts[reason as usize].times.load(Ordering::Relaxed)
    }
}

/// Shows the counts of all ports.
pub(super) fn observe(ports: [Arc<TurnedAway>; 2], meter: &Meter) {
    meter
        .u64_observable_counter("log_receiver_turned_away")
        .with_description(
            "Connections and requests that came no further than TLS, authentication and their path, by reason.",
        )
        .with_callback(move |observer| {
            for port in &ports {
                for (&reason, count) in TurnedAwayReason::VARIANTS.iter().zip(&port.counts) {
                    let labels =
                        [KeyValue::new("transport", port.transport), KeyValue::new("reason", <&str>::from(reason))];
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
