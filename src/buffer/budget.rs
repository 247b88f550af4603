//! The one bound, in records and in bytes, and the room in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much may be held, and how much is.
#[derive(Debug)]
pub struct Budget {
    records: AtomicUsize,
    bytes: AtomicUsize,
    max_records: usize,
    max_bytes: usize,
}

/// Room in a [`Budget`]. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    records: usize,
    bytes: usize,
}

impl Budget {
    /// An empty budget with these bounds.
    pub fn new(max_records: usize, max_bytes: usize) -> Self {
        Self { records: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_records, max_bytes }
    }

    /// Records that are held now.
    pub fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The most records that may be held.
    pub fn max_records(&self) -> usize {
        self.max_records
    }

    /// The most bytes that may be held.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

/// Takes up to `wanted` of what is free below `max`. The counters guard nothing but themselves, so that
/// relaxed ordering is enough.
fn take_up_to(held: &AtomicUsize, max: usize, wanted: usize) -> usize {
    let mut taken = 0;
    let _ = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
        taken = wanted.min(max.saturating_sub(held));
        (taken > 0).then(|| held + taken)
    });
    taken
}

impl Room {
    /// Room for up to `records` records of `bytes_each` bytes, as many as fit.
    pub(super) fn reserve(budget: &Arc<Budget>, records: usize, bytes_each: usize) -> Self {
        let mut room = Self { budget: budget.clone(), records: 0, bytes: 0 };
        room.grow(records, bytes_each);
        room
    }

    /// Room for up to `records` more records of `bytes_each` bytes, as many as fit.
    pub(super) fn grow(&mut self, records: usize, bytes_each: usize) {
        let budget = &self.budget;
        let records = take_up_to(&budget.records, budget.max_records, records);
        let bytes = take_up_to(&budget.bytes, budget.max_bytes, records * bytes_each);
        let fitting = bytes.checked_div(bytes_each).unwrap_or(records).min(records);
        self.records += fitting;
        self.bytes += fitting * bytes_each;
        budget.records.fetch_sub(records - fitting, Ordering::Relaxed);
        budget.bytes.fetch_sub(bytes - fitting * bytes_each, Ordering::Relaxed);
    }

    /// Makes this the room for `records` records (no more than now) and `bytes` bytes. Gives `false` where so
    /// many bytes are not to be had; this is then room for all those that are, and for as many records as before.
    pub(super) fn resize(&mut self, records: usize, bytes: usize) -> bool {
        debug_assert!(records <= self.records, "room for records only shrinks");
        let missing = bytes.saturating_sub(self.bytes);
        self.bytes += take_up_to(&self.budget.bytes, self.budget.max_bytes, missing);
        // No rows need no room, whatever their container takes.
        if self.bytes < bytes && records > 0 {
            return false;
        }
        self.free_records(self.records - records);
        self.budget.bytes.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes = self.bytes.min(bytes);
        true
    }

    /// Frees the room of `records` records, whose bytes are still held.
    pub(super) fn free_records(&mut self, records: usize) {
        self.records -= records;
        self.budget.records.fetch_sub(records, Ordering::Relaxed);
    }

    /// The records that this is room for.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// The bytes that this is room for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Splits this into the bytes, which stay, and the records, which whoever calls frees one by one.
    pub(super) fn into_bytes(mut self) -> (Room, Arc<Budget>) {
        self.records = 0;
        let budget = self.budget.clone();
        (self, budget)
    }
}

impl Budget {
    /// Frees the room of `records` records that [`Room::into_bytes`] let go of.
    pub(super) fn free_records(&self, records: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.records.fetch_sub(self.records, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(budget: &Budget) -> (usize, usize) {
        (budget.records(), budget.bytes())
    }

    #[test]
    fn room_is_granted_in_part_by_records_and_by_bytes() {
        let budget = Arc::new(Budget::new(10, 1000));
        let first = Room::reserve(&budget, 8, 50);
        assert_eq!((first.records(), held(&budget)), (8, (8, 400)));
        let by_records = Room::reserve(&budget, 5, 10);
        assert_eq!((by_records.records(), held(&budget)), (2, (10, 420)));
        drop(by_records);
        let by_bytes = Room::reserve(&budget, 2, 400);
        assert_eq!((by_bytes.records(), held(&budget)), (1, (9, 800)));
        drop((first, by_bytes));
        assert_eq!(held(&budget), (0, 0));
    }

    #[test]
    fn resizing_is_exact_and_refuses_what_is_not_there() {
        let budget = Arc::new(Budget::new(10, 1000));
        let mut room = Room::reserve(&budget, 5, 100);
        assert!(room.resize(4, 450));
        assert_eq!(held(&budget), (4, 450));
        assert!(room.resize(4, 1000));
        assert_eq!(held(&budget), (4, 1000));
        assert!(!room.resize(3, 1001));
        assert_eq!((room.records(), held(&budget)), (4, (4, 1000)), "nothing beyond the bound");
        assert!(room.resize(3, 200));
        assert_eq!(held(&budget), (3, 200));
        let other = Room::reserve(&budget, 1, 300);
        assert!(!room.resize(3, 701));
        assert_eq!((room.bytes(), held(&budget)), (700, (4, 1000)), "all that is to be had");
        drop((room, other));
        assert_eq!(held(&budget), (0, 0));
    }

    #[test]
    fn four_threads_never_exceed_the_bound_and_leave_nothing_behind() {
        let budget = Arc::new(Budget::new(100, 10_000));
        std::thread::scope(|scope| {
            for seed in 0..4usize {
                let budget = &budget;
                scope.spawn(move || {
                    for step in 0..20_000 {
                        let mut room = Room::reserve(budget, 1 + (seed + step) % 60, 150);
                        assert!(budget.records() <= 100 && budget.bytes() <= 10_000);
                        room.resize(room.records() / 2, room.bytes() + 10);
                    }
                });
            }
        });
        assert_eq!(held(&budget), (0, 0));
    }
}
