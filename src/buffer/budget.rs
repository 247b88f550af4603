//! The buffer's limit, in records and in bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// The most that may be buffered, and the current level.
#[derive(Debug)]
pub struct Budget {
    /// Records and bytes in one word, so that both are reserved in one atomic step.
    held: AtomicU64,
    max_records: usize,
    max_bytes: usize,
}

/// The bits of the word that count bytes; the ones above them count records.
const BYTES_BITS: u32 = 40;
/// The largest limit in records.
pub const MOST_RECORDS: usize = (1 << (u64::BITS - BYTES_BITS)) - 1;
/// The largest limit in bytes: a terabyte.
pub const MOST_BYTES: usize = (1 << BYTES_BITS) - 1;

fn pack(records: usize, bytes: usize) -> u64 {
    ((records as u64) << BYTES_BITS) + bytes as u64
}

fn unpack(held: u64) -> (usize, usize) {
    ((held >> BYTES_BITS) as usize, (held & MOST_BYTES as u64) as usize)
}

impl Budget {
    /// An empty budget with these limits, which are lowered to [`MOST_RECORDS`] and [`MOST_BYTES`].
    pub fn new(max_records: usize, max_bytes: usize) -> Self {
        Self {
            held: AtomicU64::new(0),
            max_records: max_records.min(MOST_RECORDS),
            max_bytes: max_bytes.min(MOST_BYTES),
        }
    }

    /// Records buffered now.
    pub fn records(&self) -> usize {
        self.held().0
    }

    /// Bytes buffered now.
    pub fn bytes(&self) -> usize {
        self.held().1
    }

    /// The most records that may be buffered.
    pub fn max_records(&self) -> usize {
        self.max_records
    }

    /// The most bytes that may be buffered.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    // The word guards no other memory, so that relaxed ordering is enough everywhere.

    /// Records and bytes that are free.
    pub(super) fn free_now(&self) -> (usize, usize) {
        let (records, bytes) = self.held();
        (self.max_records - records, self.max_bytes - bytes)
    }

    pub(super) fn held(&self) -> (usize, usize) {
        unpack(self.held.load(Ordering::Relaxed))
    }

    /// Takes the records and bytes that `wanted` returns for the free ones.
    pub(super) fn take(&self, wanted: impl Fn(usize, usize) -> (usize, usize)) -> (usize, usize) {
        let mut taken = (0, 0);
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            let (records, bytes) = unpack(held);
            taken = wanted(self.max_records - records, self.max_bytes - bytes);
            (taken != (0, 0)).then(|| held + pack(taken.0, taken.1))
        });
        taken
    }

    pub(super) fn free(&self, records: usize, bytes: usize) {
        if (records, bytes) != (0, 0) {
            self.held.fetch_sub(pack(records, bytes), Ordering::Relaxed);
        }
    }
}
