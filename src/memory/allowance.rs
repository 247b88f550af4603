//! The memory that requests and buffer together may use until the next measurement of the process.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes allowed for the memory that is counted exactly: requests in progress and the buffer.
#[derive(Debug)]
pub struct Allowance(AtomicU64);

impl Default for Allowance {
    /// No bound.
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Allowance {
    /// Whether `counted` bytes are allowed.
    pub fn allows(&self, counted: u64) -> bool {
        counted <= self.0.load(Ordering::Relaxed)
    }

    /// Allows what is left of `limit` for counted memory. The process has `resident` bytes now, of which `counted` are counted.
    pub(super) fn renew(&self, limit: u64, resident: u64, counted: u64) {
        let others = resident.saturating_sub(counted);
        self.0.store(limit.saturating_sub(others), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_is_left_out_of_the_allowance() {
        let allowance = Allowance::default();
        assert!(allowance.allows(u64::MAX));
        // 70 of 100 are resident, 50 of them counted: the others take 20.
        allowance.renew(100, 70, 50);
        assert!(allowance.allows(80) && !allowance.allows(81));
        // Memory that is counted and was not touched yet.
        allowance.renew(100, 70, 90);
        assert!(allowance.allows(100) && !allowance.allows(101));
        allowance.renew(100, 300, 50);
        assert!(!allowance.allows(1) && allowance.allows(0));
    }
}
