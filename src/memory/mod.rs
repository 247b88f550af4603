//! The memory limit of the whole process: above it, requests are refused until the process uses less.
//!
//! Buffer and receiver have exact limits of their own. This limit covers everything, measured as the resident set size, as
//! the Collector's memory_limiter does: above the soft limit, requests are refused with a retry hint; above the hard limit,
//! memory is released as far as possible. Between two measurements the [`Allowance`] limits the memory that is counted
//! exactly: each allocation for a request is checked against it first.

mod allowance;
pub mod config;
mod limiter;
mod total;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::Meter;

pub use allowance::Allowance;
pub use limiter::{Limiter, Pressure};

/// Registers a gauge of the memory limit: that of `limiter`, or else of the control group or the machine.
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

/// The limits in bytes, and the time between two measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    interval: Duration,
    /// Above this, requests are refused.
    soft: u64,
    /// Above this, memory is released as far as possible.
    hard: u64,
}
