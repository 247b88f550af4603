//! The limit and the books that everything in a buffer shares.

use super::books::Books;
use super::budget::Budget;

/// The budget and the books of one buffer.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) budget: Budget,
    pub(super) books: Books,
}

impl Ledger {
    /// A new ledger, which lives as long as the process, as a buffer does. Records may outlive their buffer, and a reference
    /// count would be one more word for which all cores contend at each put.
    pub(super) fn new(max_records: usize, max_bytes: usize) -> &'static Self {
        Box::leak(Box::new(Self { budget: Budget::new(max_records, max_bytes), books: Books::default() }))
    }
}
