//! The limit and the books that everything in a buffer shares.

use super::books::Books;
use super::budget::Budget;
use super::config::QueueConfig;
use super::share::Shares;

/// The budget and the books of one buffer.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) budget: Budget,
    pub(super) books: Books,
    pub(super) shares: Shares,
}

impl Ledger {
    /// A new ledger, which lives as long as the process, as a buffer does. Records may outlive their buffer, and a reference
    /// count would be one more word for which all cores contend at each put.
    pub(super) fn new(config: &QueueConfig) -> &'static Self {
        Box::leak(Box::new(Self {
            budget: Budget::new(config.queue_size, config.max_bytes.bytes()),
            books: Books::default(),
            shares: Shares::new(&config.fairness, &config.overflow_weights),
        }))
    }

    /// One with these limits.
    #[cfg(test)]
    pub(super) fn of(max_records: usize, max_bytes: usize) -> &'static Self {
        let max_bytes = crate::values::size::ByteSize(max_bytes as u64);
        Self::new(&QueueConfig { queue_size: max_records, max_bytes, ..QueueConfig::default() })
    }
}
