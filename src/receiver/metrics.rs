//! The receiver's instrument: requests that were refused before anybody knew which records are in them. What becomes of
//! records is in the buffer's books.

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
