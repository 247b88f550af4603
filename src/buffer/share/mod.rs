//! Fair shares of the buffer, by sender and severity.
//!
//! The rule is the dynamic threshold of switch buffers with loss priorities: a record is admitted while what its sender holds in its
//! band is at most `weight[band]` times what is free, in records and in bytes. A sender that floods INFO gets at most four fifths so,
//! ten of them get equal parts, and one that holds little always finds room. Nothing is listed or searched: the rule compares two
//! numbers.

mod band;
mod counted;
mod senders;

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use self::band::BANDS;
pub use self::band::Band;
pub(super) use self::counted::Counted;
use self::senders::{SENDERS, Senders};
use super::config::{Fairness, Weights};
use crate::table::{Resource, Rows};

/// The shares of all senders.
#[derive(Debug)]
pub struct Shares {
    senders: Senders,
    held: Box<[[Held; BANDS]]>,
    weights: [AtomicU32; BANDS],
}

/// The records and bytes that a sender holds in a band. They are compared one by one, and so they need not change together.
#[derive(Debug, Default)]
struct Held {
    records: AtomicU64,
    bytes: AtomicU64,
}

/// Records and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// The records.
    pub records: u64,
    /// The bytes of their rows.
    pub bytes: u64,
}

/// A sender that holds records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: String,
    /// The amount that it holds.
    pub held: Amount,
}

impl Shares {
    /// Nobody holds anything.
    pub(super) fn new(fairness: &Fairness, weights: &Weights) -> Self {
        let shares = Self {
            senders: Senders::new(&fairness.by),
            held: (0..SENDERS).map(|_| Default::default()).collect(),
            weights: Default::default(),
        };
        shares.set_weights(weights);
        shares
    }

    /// Changes the weights of the bands.
    pub(super) fn set_weights(&self, weights: &Weights) {
        let Weights { debug, info, warn, error } = *weights;
        for (weight, value) in self.weights.iter().zip([debug, info, warn, error]) {
            weight.store(value, Ordering::Relaxed);
        }
    }

    /// The number of the sender of records of `resource`.
    #[inline]
    pub(super) fn sender(&self, resource: &Resource) -> usize {
        self.senders.number(resource)
    }

    /// Counts `more` for a sender; returns all that it holds in this band then.
    pub(super) fn add(&self, sender: usize, band: Band, more: Amount) -> Amount {
        let held = &self.held[sender][band as usize];
        let records = held.records.fetch_add(more.records, Ordering::Relaxed) + more.records;
        Amount { records, bytes: held.bytes.fetch_add(more.bytes, Ordering::Relaxed) + more.bytes }
    }

    /// Gives `less` back.
    pub(super) fn sub(&self, sender: usize, band: Band, less: Amount) {
        let held = &self.held[sender][band as usize];
        held.records.fetch_sub(less.records, Ordering::Relaxed);
        held.bytes.fetch_sub(less.bytes, Ordering::Relaxed);
    }

    /// The rule: whether a sender may hold `held` in `band` where `free` is free before its last record.
    pub(super) fn allows(&self, band: Band, held: Amount, free: Amount) -> bool {
        let weight = u64::from(self.weights[band as usize].load(Ordering::Relaxed));
        held.records <= weight.saturating_mul(free.records) && held.bytes <= weight.saturating_mul(free.bytes)
    }

    /// Counts `range` of `rows` for their senders; all rows keep `bytes` bytes together.
    pub(super) fn hold(&self, rows: &Rows, range: Range<usize>, bytes: usize) {
        self.portions(rows, range, bytes, |sender, band, amount| {
            self.add(sender, band, amount);
        });
    }

    /// Gives back [`Shares::hold`], of all rows or of some.
    pub(super) fn release(&self, rows: &Rows, range: Range<usize>, bytes: usize) {
        self.portions(rows, range, bytes, |sender, band, amount| self.sub(sender, band, amount));
    }

    /// Calls `each` for the amounts of each sender in each band. The memory beside the bytes of rows belongs to all rows equally.
    pub(super) fn portions(
        &self,
        rows: &Rows,
        range: Range<usize>,
        bytes: usize,
        mut each: impl FnMut(usize, Band, Amount),
    ) {
        let beside = bytes.saturating_sub(rows.bytes().len()) / rows.len().max(1);
        let mut each_band = |sender: usize, sums: [Amount; BANDS]| {
            let sums = Band::ALL.into_iter().zip(sums).filter(|(_, sum)| sum.records > 0);
            sums.for_each(|(band, sum)| each(sender, band, sum));
        };
        // Severities alternate, senders seldom do.
        let mut current: Option<(usize, [Amount; BANDS])> = None;
        for (resource, severity, records, bytes) in rows.runs(range) {
            let sender = self.sender(resource);
            if current.as_ref().is_none_or(|(last, _)| *last != sender)
                && let Some((last, sums)) = current.replace((sender, Default::default()))
            {
                each_band(last, sums);
            }
            let bytes = (bytes + records * beside) as u64;
            if let Some((_, sums)) = &mut current {
                sums[Band::of(severity) as usize] += Amount { records: records as u64, bytes };
            }
        }
        if let Some((last, sums)) = current {
            each_band(last, sums);
        }
    }

    /// Everything that is held in `band`.
    pub(super) fn held_in(&self, band: Band) -> Amount {
        self.held.iter().map(|bands| bands[band as usize].get()).fold(Amount::default(), |mut sum, held| {
            sum += held;
            sum
        })
    }

    /// The number of senders that hold more than their share in any band, where `free` is free.
    pub(super) fn over(&self, free: Amount) -> usize {
        let is_over = |bands: &&[Held; BANDS]| {
            Band::ALL.into_iter().zip(*bands).any(|(band, held)| !self.allows(band, held.get(), free))
        };
        self.held.iter().filter(is_over).count()
    }

    /// The `most` senders that hold the most bytes, the largest first.
    pub fn largest(&self, most: usize) -> Vec<Holder> {
        let sum = |bands: &[Held; BANDS]| {
            bands.iter().fold(Amount::default(), |mut sum, held| {
                sum += held.get();
                sum
            })
        };
        let mut all: Vec<_> = self.held.iter().map(sum).enumerate().collect();
        all.retain(|(_, held)| held.records > 0);
        all.sort_by_key(|(_, held)| std::cmp::Reverse(held.bytes));
        all.truncate(most);
        let named = |(number, held)| Holder { name: self.senders.name(number).to_owned(), held };
        all.into_iter().map(named).collect()
    }

    /// Logs that `records` of a sender were dropped, once in a while.
    fn log_dropped(&self, sender: usize, records: usize) {
        if let Some(records) = self.senders.dropped(sender, records) {
            let sender = self.senders.name(sender);
            tracing::warn!(sender, records, "records are dropped: the share of their sender is used");
        }
    }
}

impl Held {
    fn get(&self) -> Amount {
        Amount { records: self.records.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, more: Self) {
        self.records += more.records;
        self.bytes += more.bytes;
    }
}
