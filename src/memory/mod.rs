//! The bound on what the process takes as a whole: above it, requests are refused until it takes less.
//!
//! What is held and what is being received have exact bounds of their own, in `buffer` and `receiver`. This is the
//! one for everything together, measured from outside by the resident set's size, as the Collector's memory_limiter
//! has it: from the soft limit on, requests are refused as something that passes; above the hard limit, what can be
//! given back is given back. Between two looks, the [`Allowance`] bounds what has exact bounds of its own: each
//! allocation for a request is held against it before it is made.

mod allowance;
pub mod config;
mod limiter;
mod total;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::Meter;

pub use allowance::Allowance;
pub use limiter::{Limiter, Pressure};

/// Shows how much memory the process may take: by `limiter`, or else by its control group or the machine.
pub fn observe(limiter: Option<Arc<Limiter>>, meter: &Meter) {
    meter
        .u64_observable_gauge("log_buffer_memory_limit")
        .with_description("The most memory that the process may take.")
        .with_unit("By")
        .with_callback(move |gauge| {
            let limit = limiter.as_deref().map(Limiter::most).or_else(total::total_bytes);
            limit.into_iter().for_each(|bytes| gauge.observe(bytes, &[]));
        })
        .build();
}

/// What the process may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    interval: Duration,
    /// From here on requests are refused.
    soft: u64,
    /// Above this, what can be given back is given back.
    hard: u64,
}
