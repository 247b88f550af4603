//! The space of the queue on disk that senders share, as the writer knew it last.
//!
//! Segments are removed as a whole. One whose records are all stored is removed when space is needed, and so counts as free.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes on disk. They are read by whoever admits records, without a lock.
#[derive(Debug)]
pub(super) struct Space {
    used: AtomicU64,
    free: AtomicU64,
    /// The bytes that the file system had to spare.
    spare: AtomicU64,
}

impl Space {
    /// The space of an empty queue for `most` bytes.
    pub(super) fn new(most: u64) -> Self {
        Self { used: AtomicU64::new(0), free: AtomicU64::new(most), spare: AtomicU64::new(u64::MAX) }
    }

    /// The file system has so many bytes to spare.
    pub(super) fn spares(&self, bytes: u64) {
        self.spare.store(bytes, Ordering::Relaxed);
    }

    /// Notes that a queue for `most` bytes has `used` of them in segments with records that are not stored, and `stored` in others.
    pub(super) fn measure(&self, most: u64, used: u64, stored: u64) {
        let spare = self.spare.load(Ordering::Relaxed).saturating_add(stored);
        self.used.store(used, Ordering::Relaxed);
        self.free.store(most.saturating_sub(used).min(spare), Ordering::Relaxed);
    }

    /// The bytes that are used, and those that are free.
    pub(super) fn now(&self) -> (u64, u64) {
        (self.used.load(Ordering::Relaxed), self.free.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_bound_is_what_is_free_and_stored_segments_are_free() {
        let space = Space::new(1000);
        assert_eq!(space.now(), (0, 1000));
        space.measure(1000, 300, 200);
        assert_eq!(space.now(), (300, 700), "max_size");
        space.spares(100);
        space.measure(1000, 300, 200);
        assert_eq!(space.now(), (300, 300), "the file system");
        space.measure(1000, 1001, 0);
        assert_eq!(space.now(), (1001, 0));
    }
}
