//! The bound on what the process takes as a whole: above it, requests are refused until it takes less.
//!
//! What is held and what is being received have exact bounds of their own, in `buffer` and `receiver`. This is the
//! one for everything together, measured from outside by the resident set's size, as the Collector's memory_limiter
//! has it: from the soft limit on, requests are refused as something that passes; above the hard limit, what can be
//! given back is given back. Whoever takes requests reads one flag.

pub mod config;
mod limiter;
mod total;

use std::time::Duration;

pub use limiter::{Limiter, Pressure};

/// What the process may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    interval: Duration,
    /// From here on requests are refused.
    soft: u64,
    /// Above this, what can be given back is given back.
    hard: u64,
}
