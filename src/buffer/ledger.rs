//! What all that is held shares: the bound, and the books of what became of it.

use super::books::Books;
use super::budget::Budget;

/// The budget and the books of one buffer.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) budget: Budget,
    pub(super) books: Books,
}

impl Ledger {
    /// Nothing is held, nothing has been counted.
    pub(super) fn new(max_records: usize, max_bytes: usize) -> Self {
        Self { budget: Budget::new(max_records, max_bytes), books: Books::default() }
    }
}
