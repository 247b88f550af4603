//! The receiver's instruments: requests refused before their records could be counted, and records by transport and answer. Further
//! outcomes of records are in the buffer's books.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use strum::{IntoStaticStr, VariantArray};

use crate::otlp::Invalid;

/// Why a request was refused without its records being counted; in snake case it is the label `reason` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Unread {
    /// The other requests leave no memory for it.
    NoRoom,
    /// It is too large.
    TooLarge,
    /// It has too many resources or scopes.
    TooComplex,
    /// It did not arrive in time.
    TooSlow,
    /// Its compression is unknown.
    Encoding,
    /// Its frame, or its structure above the records, is not valid.
    Malformed,
}

/// The protocol that brought a request; in snake case it is the label `transport` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP, with protobuf or JSON.
    Http,
}

/// Records of answered requests, by transport.
#[derive(Debug, Default)]
pub(super) struct Answers([Records; Transport::VARIANTS.len()]);

#[derive(Debug, Default)]
struct Records {
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// The records of one request by the answer to its sender, counted when this is dropped. A sender that disconnects without an answer
/// retries them.
#[derive(Debug)]
pub(super) struct AnswerCount<'a> {
    counts: &'a Records,
    pub(super) accepted: usize,
    pub(super) refused: usize,
}

/// The number of refused requests by reason.
#[derive(Debug, Default)]
pub(super) struct UnreadRequests([AtomicU64; Unread::VARIANTS.len()]);

impl Unread {
    pub(super) fn of(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Malformed(_) => Self::Malformed,
            Invalid::TooComplex(_) => Self::TooComplex,
        }
    }
}

impl Answers {
    /// Begins the count of a request that came by `transport`.
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
                    for &transport in Transport::VARIANTS {
                        let labels = [
                            KeyValue::new("receiver", "otlp"),
                            KeyValue::new("transport", <&str>::from(transport)),
                        ];
                        observer
                            .observe(read(&answers.0[transport as usize]).load(Ordering::Relaxed), &labels);
                    }
                })
                .build();
        };
        let [accepted, refused] = ["Records accepted from senders.", "Records refused to senders."];
        counter("otelcol_receiver_accepted_log_records", accepted, |records| &records.accepted);
        counter("otelcol_receiver_refused_log_records", refused, |records| &records.refused);
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
                for &reason in Unread::VARIANTS {
                    observer.observe(requests.of(reason), &[KeyValue::new("reason", <&str>::from(reason))]);
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
        let labels: Vec<_> = Unread::VARIANTS.iter().map(<&str>::from).collect();
        assert_eq!(labels, ["no_room", "too_large", "too_complex", "too_slow", "encoding", "malformed"]);
        assert!(Transport::VARIANTS.iter().map(<&str>::from).eq(["grpc", "http"]));
    }
}
