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
    ///
    /// It lives as long as the process, as a buffer does. What is held may outlive its buffer, and to count the users
    /// of the ledger would take one more word for which all cores contend at each put.
    pub(super) fn new(max_records: usize, max_bytes: usize) -> &'static Self {
        Box::leak(Box::new(Self { budget: Budget::new(max_records, max_bytes), books: Books::default() }))
    }
}
