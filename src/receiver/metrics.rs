//! The receiver's instruments: requests that were refused before anybody knew which records are in them, and records by the
//! transport that brought them and the answer to their sender. Their further outcomes are in the buffer's books.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::otlp::Invalid;

/// Why a request was refused without its records being counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The requests under way leave no room for it.
    NoRoom,
    /// It is larger than any request may be.
    TooLarge,
    /// It has more resources or scopes than any request may have.
    TooComplex,
    /// It did not arrive in time.
    TooSlow,
    /// It is compressed in a way that is not known.
    Encoding,
    /// It is not what the protocol says, from its frame down to where its records begin.
    Malformed,
}

/// The protocol that brought a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP, of protobuf or JSON.
    Http,
}

/// Records of answered requests, by transport.
#[derive(Debug, Default)]
pub(super) struct Answers([Records; Transport::ALL.len()]);

#[derive(Debug, Default)]
struct Records {
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// The records of one request by what its sender is told, counted when this is dropped. A sender that goes away
/// without an answer sends them again.
#[derive(Debug)]
pub(super) struct AnswerCount<'a> {
    counts: &'a Records,
    pub(super) accepted: usize,
    pub(super) refused: usize,
}

/// How many there were.
#[derive(Debug, Default)]
pub(super) struct UnreadRequests([AtomicU64; Unread::ALL.len()]);

impl Unread {
    /// For a request whose records cannot be counted.
    pub(super) fn of(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Malformed(_) => Self::Malformed,
            Invalid::TooComplex(_) => Self::TooComplex,
        }
    }

    /// All of them, each at its own index.
    const ALL: [Self; 6] =
        [Self::NoRoom, Self::TooLarge, Self::TooComplex, Self::TooSlow, Self::Encoding, Self::Malformed];

    const fn label(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::TooLarge => "too_large",
            Self::TooComplex => "too_complex",
            Self::TooSlow => "too_slow",
            Self::Encoding => "encoding",
            Self::Malformed => "malformed",
        }
    }
}

impl Transport {
    /// Both, each at its own index.
    const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    const fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

impl Answers {
    /// Counts what becomes of a request that came by `transport`.
    pub(super) fn begin(&self, transport: Transport) -> AnswerCount<'_> {
        AnswerCount { counts: &self.0[transport as usize], accepted: 0, refused: 0 }
    }

    /// Registers them with `meter`, under the Collector's names.
    pub(super) fn observe(self: &Arc<Self>, meter: &Meter) {
        let counter = |name, description, read: fn(&Records) -> &AtomicU64| {
            let answers = self.clone();
            meter
                .u64_observable_counter(name)
                .with_description(description)
                .with_callback(move |observer| {
                    for transport in Transport::ALL {
                        let labels = [
                            KeyValue::new("receiver", "otlp"),
                            KeyValue::new("transport", transport.label()),
                        ];
                        observer
                            .observe(read(&answers.0[transport as usize]).load(Ordering::Relaxed), &labels);
                    }
                })
                .build();
        };
        counter("otelcol_receiver_accepted_log_records", "Records taken from their sender.", |records| {
            &records.accepted
        });
        counter("otelcol_receiver_refused_log_records", "Records given back to their sender.", |records| {
            &records.refused
        });
    }
}

impl Drop for AnswerCount<'_> {
    fn drop(&mut self) {
        self.counts.accepted.fetch_add(self.accepted as u64, Ordering::Relaxed);
        self.counts.refused.fetch_add(self.refused as u64, Ordering::Relaxed);
    }
}

impl UnreadRequests {
    pub(super) fn count(&self, reason: Unread) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were for one reason.
    pub(super) fn of(&self, reason: Unread) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// Registers them with `meter`.
    pub(super) fn observe(self: &Arc<Self>, meter: &Meter) {
        let requests = self.clone();
        meter
            .u64_observable_counter("log_buffer_unread_requests")
            .with_description("Requests refused before their records could be counted, by reason.")
            .with_callback(move |observer| {
                for reason in Unread::ALL {
                    observer.observe(requests.of(reason), &[KeyValue::new("reason", reason.label())]);
                }
            })
            .build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_closed_set() {
        let labels = Unread::ALL.map(Unread::label);
        assert_eq!(labels, ["no_room", "too_large", "too_complex", "too_slow", "encoding", "malformed"]);
        for (index, reason) in Unread::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
