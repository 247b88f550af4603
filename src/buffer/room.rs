//! Reserved room in the buffer, which belongs to the rows that it is for.

use super::ledger::Ledger;

/// Room in the budget of a [`Ledger`]. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Room {
    ledger: &'static Ledger,
    records: usize,
    bytes: usize,
}

impl Room {
    /// Reserves room for up to `records` records of `bytes_each` bytes, as many as fit.
    pub(super) fn reserve(ledger: &'static Ledger, records: usize, bytes_each: usize) -> Self {
        let mut room = Self { ledger, records: 0, bytes: 0 };
        room.grow(records, bytes_each);
        room
    }

    /// Adds room for up to `records` records of `bytes_each` bytes, as many as fit.
    pub(super) fn grow(&mut self, records: usize, bytes_each: usize) {
        let (records, bytes) = self.ledger.budget.take(|free_records, free_bytes| {
            let fitting = free_bytes.checked_div(bytes_each).unwrap_or(records);
            let fitting = fitting.min(free_records).min(records);
            (fitting, fitting * bytes_each)
        });
        self.records += records;
        self.bytes += bytes;
    }

    /// Adds room for `records` records of `bytes` bytes together, if at most half of the budget is taken then. Returns `false` if not.
    pub(super) fn grow_while_half_is_free(&mut self, records: usize, bytes: usize) -> bool {
        let budget = &self.ledger.budget;
        let (most_records, most_bytes) = (budget.max_records() / 2, budget.max_bytes() / 2);
        self.grow_if(records, bytes, |free_records, free_bytes| {
            records + budget.max_records() - free_records <= most_records
                && bytes + budget.max_bytes() - free_bytes <= most_bytes
        })
    }

    /// Adds room for one record of `bytes` bytes, if it is free and `allows` holds for what is free. Returns `false` if not.
    pub(super) fn grow_by_one(&mut self, bytes: usize, allows: impl Fn(usize, usize) -> bool) -> bool {
        self.grow_if(1, bytes, |free_records, free_bytes| {
            free_records > 0 && free_bytes >= bytes && allows(free_records, free_bytes)
        })
    }

    fn grow_if(&mut self, records: usize, bytes: usize, fits: impl Fn(usize, usize) -> bool) -> bool {
        let wanted =
            |records_free, bytes_free| if fits(records_free, bytes_free) { (records, bytes) } else { (0, 0) };
        let taken = self.ledger.budget.take(wanted);
        self.records += taken.0;
        self.bytes += taken.1;
        taken == (records, bytes)
    }

    /// Grows to `bytes` bytes as far as possible; returns how many are missing.
    pub(super) fn fill(&mut self, bytes: usize) -> usize {
        let missing = bytes.saturating_sub(self.bytes);
        let taken = self.ledger.budget.take(|_, free| (0, missing.min(free))).1;
        self.bytes += taken;
        missing - taken
    }

    /// Takes one record out of this room, with so many bytes: free ones, and of this room those that are missing.
    pub(super) fn split(&mut self, bytes: usize) -> Option<Self> {
        let records = self.records.checked_sub(1)?;
        let mut part = Self { ledger: self.ledger, records: 0, bytes: 0 };
        let missing = part.fill(bytes);
        let left = self.bytes.checked_sub(missing)?;
        (self.records, self.bytes) = (records, left);
        (part.records, part.bytes) = (1, bytes);
        Some(part)
    }

    /// Changes to `records` records (no more than now) and `bytes` bytes. Returns `false` if there are not that many bytes;
    /// then this has as many as there are, and its records as before.
    pub(super) fn resize(&mut self, records: usize, bytes: usize) -> bool {
        debug_assert!(records <= self.records, "room for records only shrinks");
        // Without rows no room is needed, whatever their container takes.
        if self.fill(bytes) > 0 && records > 0 {
            return false;
        }
        self.ledger.budget.free(self.records - records, self.bytes.saturating_sub(bytes));
        self.records = records;
        self.bytes = self.bytes.min(bytes);
        true
    }

    /// The records that this is room for.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// The bytes that this is room for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The ledger that it is counted in.
    pub(super) fn ledger(&self) -> &'static Ledger {
        self.ledger
    }

    /// Keeps only the bytes; the caller frees the records by [`free_records`].
    pub(super) fn keep_bytes(&mut self) {
        self.records = 0;
    }
}

/// Frees the room of `records` records, left by [`Room::keep_bytes`].
pub(super) fn free_records(ledger: &Ledger, records: usize) {
    ledger.budget.free(records, 0);
}

impl Drop for Room {
    fn drop(&mut self) {
        self.ledger.budget.free(self.records, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::budget::{MOST_BYTES, MOST_RECORDS};

    fn held(ledger: &Ledger) -> (usize, usize) {
        ledger.budget.held()
    }

    #[test]
    fn room_is_granted_in_part_by_records_and_by_bytes() {
        let ledger = Ledger::of(10, 1000);
        let first = Room::reserve(ledger, 8, 50);
        assert_eq!((first.records(), held(ledger)), (8, (8, 400)));
        let by_records = Room::reserve(ledger, 5, 10);
        assert_eq!((by_records.records(), held(ledger)), (2, (10, 420)));
        drop(by_records);
        let by_bytes = Room::reserve(ledger, 2, 400);
        assert_eq!((by_bytes.records(), held(ledger)), (1, (9, 800)));
        drop((first, by_bytes));
        assert_eq!(held(ledger), (0, 0));
    }

    #[test]
    fn resizing_is_exact_and_refuses_what_is_not_there() {
        let ledger = Ledger::of(10, 1000);
        let mut room = Room::reserve(ledger, 5, 100);
        assert!(room.resize(4, 450));
        assert_eq!(held(ledger), (4, 450));
        assert!(room.resize(4, 1000));
        assert_eq!(held(ledger), (4, 1000));
        assert!(!room.resize(3, 1001));
        assert_eq!((room.records(), held(ledger)), (4, (4, 1000)), "nothing beyond the bound");
        assert!(room.resize(3, 200));
        assert_eq!(held(ledger), (3, 200));
        let other = Room::reserve(ledger, 1, 300);
        assert!(!room.resize(3, 701));
        assert_eq!((room.bytes(), held(ledger)), (700, (4, 1000)), "all that is to be had");
        drop((room, other));
        assert_eq!(held(ledger), (0, 0));
    }

    #[test]
    fn a_part_of_a_room_takes_free_bytes_first() {
        let ledger = Ledger::of(10, 1000);
        let mut room = Room::reserve(ledger, 2, 450);
        assert!(room.split(1001).is_none());
        assert_eq!((room.records(), room.bytes(), held(ledger)), (2, 900, (2, 900)), "nothing has changed");
        let part = room.split(300).unwrap();
        assert_eq!((part.records(), part.bytes()), (1, 300));
        assert_eq!((room.records(), room.bytes(), held(ledger)), (1, 700, (2, 1000)));
        drop((room, part));
        assert_eq!(held(ledger), (0, 0));
    }

    #[test]
    fn four_threads_never_exceed_the_bound_and_leave_nothing_behind() {
        let ledger = Ledger::of(100, 10_000);
        std::thread::scope(|scope| {
            for seed in 0..4usize {
                scope.spawn(move || {
                    for step in 0..20_000 {
                        let mut room = Room::reserve(ledger, 1 + (seed + step) % 60, 150);
                        let (records, bytes) = held(ledger);
                        assert!(records <= 100 && bytes <= 10_000);
                        room.resize(room.records() / 2, room.bytes() + 10);
                    }
                });
            }
        });
        assert_eq!(held(ledger), (0, 0));
    }

    #[test]
    fn the_bounds_are_those_that_the_word_can_count() {
        let ledger = Ledger::of(usize::MAX, usize::MAX);
        let room = Room::reserve(ledger, usize::MAX, MOST_BYTES / MOST_RECORDS);
        assert_eq!(room.records(), MOST_RECORDS);
        assert_eq!(Room::reserve(ledger, 1, 0).records(), 0);
        drop(room);
        let room = Room::reserve(ledger, 1, MOST_BYTES);
        assert_eq!(held(ledger), (1, MOST_BYTES));
        assert_eq!(Room::reserve(ledger, 1, 1).records(), 0);
        drop(room);
        assert_eq!(held(ledger), (0, 0));
    }
}
