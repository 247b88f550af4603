//! Connections and requests that come no further, counted by why, and told of in a few lines however many they are.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use tracing::warn;

/// Why somebody comes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
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
}

/// What was turned away at one port.
#[derive(Debug)]
pub(super) struct TurnedAway {
    transport: &'static str,
    begun: Instant,
    counts: [Count; Reason::ALL.len()],
}

#[derive(Debug, Default)]
struct Count {
    times: AtomicU64,
    /// The second in which it was told of last, from 1 on.
    told: AtomicU64,
}

impl Reason {
    pub(super) const ALL: [Self; 9] = [
        Self::PlainText,
        Self::Tls,
        Self::ClientCertificate,
        Self::HandshakeTimeout,
        Self::Handshake,
        Self::NoCredentials,
        Self::WrongCredentials,
        Self::VerifierBusy,
        Self::TooManyConnections,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::PlainText => "plain_text",
            Self::Tls => "tls",
            Self::ClientCertificate => "client_certificate",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Handshake => "handshake",
            Self::NoCredentials => "no_credentials",
            Self::WrongCredentials => "wrong_credentials",
            Self::VerifierBusy => "verifier_busy",
            Self::TooManyConnections => "too_many_connections",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::PlainText => "a client speaks plain text to a port with TLS; ",
            Self::Tls => "a client speaks TLS to a port without; ",
            Self::ClientCertificate => "a client has no certificate that is taken: ",
            Self::HandshakeTimeout => "a TLS handshake took too long; ",
            Self::Handshake => "a TLS handshake failed: ",
            Self::NoCredentials | Self::WrongCredentials => "a request is refused: ",
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
    pub(super) fn count(&self, reason: Reason, peer: Option<SocketAddr>, why: &dyn Display) {
        let count = &self.counts[reason as usize];
        let so_far = count.times.fetch_add(1, Ordering::Relaxed) + 1;
        let second = self.begun.elapsed().as_secs() + 1;
        if count.told.swap(second, Ordering::Relaxed) != second {
            let peer = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
            let (transport, label) = (self.transport, reason.label());
            warn!(transport, reason = label, peer, so_far, "{}{why}", reason.words());
        }
    }

    /// How many there have been.
    #[cfg(test)]
    pub(super) fn times(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].times.load(Ordering::Relaxed)
    }
}

/// Shows the counts of all ports.
pub(super) fn observe(ports: [Arc<TurnedAway>; 2], meter: &Meter) {
    meter
        .u64_observable_counter("log_receiver_turned_away")
        .with_description(
            "Connections and requests that came no further than TLS and authentication, by reason.",
        )
        .with_callback(move |observer| {
            for (port, reason) in ports.iter().flat_map(|port| Reason::ALL.map(|reason| (port, reason))) {
                let labels =
                    [KeyValue::new("transport", port.transport), KeyValue::new("reason", reason.label())];
                observer.observe(port.counts[reason as usize].times.load(Ordering::Relaxed), &labels);
            }
        })
        .build();
}
