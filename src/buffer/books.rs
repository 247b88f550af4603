//! The books count the outcome of every received record.
//!
//! `received + recovered = flushed + dropped + rejected + dead-lettered + folded + held`, whenever nothing is in progress. Each record is counted
//! in exactly one outcome, as soon as that is known.

use std::sync::atomic::{AtomicU64, Ordering};

use strum::VariantArray;

use super::losses::Losses;
use super::reason::{DropReason, LossReason, RejectReason};
use crate::table::{Replaced, ReplacedKind, Severity, Tally};

/// Counters of every outcome.
#[derive(Debug, Default)]
pub struct Books {
    received: AtomicU64,
    recovered: AtomicU64,
    accepted: AtomicU64,
    flushed: AtomicU64,
    dead_lettered: AtomicU64,
    dropped: [[AtomicU64; Severity::VARIANTS.len()]; DropReason::VARIANTS.len()],
    folded: [AtomicU64; Severity::VARIANTS.len()],
    rejected: [AtomicU64; RejectReason::VARIANTS.len()],
    replaced: [AtomicU64; ReplacedKind::VARIANTS.len()],
    losses: Losses,
}

impl Books {
    /// Counts `records` records that arrived in a readable request.
    pub fn receive(&self, records: usize) {
        add(&self.received, records);
    }

    /// Counts `records` records of the durable queue that an earlier run has left, or that PostgreSQL has lost.
    pub fn recover(&self, records: u64) {
        self.recovered.fetch_add(records, Ordering::Relaxed);
    }

    /// Counts `records` records put into the buffer; returns the count before. The queue derives from it how many wait.
    pub(super) fn accept(&self, records: usize) -> u64 {
        self.accepted.fetch_add(records as u64, Ordering::AcqRel)
    }

    /// Counts `records` records written to PostgreSQL.
    pub fn flush(&self, records: usize) {
        add(&self.flushed, records);
    }

    /// Counts records that are not in the table of records and will not be sent again.
    pub fn lose(&self, reason: LossReason, lost: &Tally) {
        match reason {
            LossReason::Dropped(reason) => {
                for (severity, count) in lost.severities().iter().filter(|(_, count)| *count > 0) {
                    add(&self.dropped[reason as usize][severity as usize], count);
                }
            }
            LossReason::Malformed => self.reject(RejectReason::Malformed, lost.total()),
            LossReason::TooComplex => self.reject(RejectReason::TooComplex, lost.total()),
            LossReason::DeadLetter => add(&self.dead_lettered, lost.total()),
        }
        self.losses.add(reason, lost);
    }

    /// Counts `records` repeated records for which another record stands.
    pub(super) fn fold(&self, severity: Severity, records: u64) {
        self.folded[severity as usize].fetch_add(records, Ordering::Relaxed);
    }

    /// Counts `records` records that were returned to their sender.
    pub fn reject(&self, reason: RejectReason, records: usize) {
        add(&self.rejected[reason as usize], records);
    }

    /// Counts values that were replaced because PostgreSQL cannot store them.
    pub fn replace(&self, replaced: &Replaced) {
        for (kind, count) in replaced.iter().filter(|(_, count)| *count > 0) {
            self.replaced[kind as usize].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Records that arrived.
    pub fn received(&self) -> u64 {
        get(&self.received)
    }

    /// Records of the durable queue that an earlier run has left, or that PostgreSQL has lost.
    pub fn recovered(&self) -> u64 {
        get(&self.recovered)
    }

    /// Records that were put into the buffer.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Records that are in PostgreSQL.
    pub fn flushed(&self) -> u64 {
        get(&self.flushed)
    }

    /// Records in the table of dead letters.
    pub fn dead_lettered(&self) -> u64 {
        get(&self.dead_lettered)
    }

    /// Records lost for one reason, of one severity.
    pub fn dropped(&self, reason: DropReason, severity: Severity) -> u64 {
        get(&self.dropped[reason as usize][severity as usize])
    }

    /// Records lost for one reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].iter().map(get).sum()
    }

    /// Records lost for any reason.
    pub fn dropped_total(&self) -> u64 {
        DropReason::VARIANTS.iter().map(|reason| self.dropped_for(*reason)).sum()
    }

    /// Records of one severity for which other records stand.
    pub fn folded(&self, severity: Severity) -> u64 {
        get(&self.folded[severity as usize])
    }

    /// Records for which other records stand.
    pub fn folded_total(&self) -> u64 {
        self.folded.iter().map(get).sum()
    }

    /// Records rejected for one reason.
    pub fn rejected(&self, reason: RejectReason) -> u64 {
        get(&self.rejected[reason as usize])
    }

    /// Records rejected for any reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().map(get).sum()
    }

    /// The recent losses, to be recorded in the table of losses.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Values replaced for one reason.
    pub fn replaced(&self, kind: ReplacedKind) -> u64 {
        get(&self.replaced[kind as usize])
    }
}

fn add(counter: &AtomicU64, records: usize) {
    counter.fetch_add(records as u64, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_closed_set() {
        let drops: Vec<_> = DropReason::VARIANTS.iter().map(<&str>::from).collect();
        assert_eq!(
            drops,
            ["drop_newest", "drop_oldest", "too_large", "retry_exhausted", "undelivered", "damaged", "share"]
        );
        let rejects: Vec<_> = RejectReason::VARIANTS.iter().map(<&str>::from).collect();
        assert_eq!(
            rejects,
            ["full", "memory", "draining", "malformed", "too_complex", "no_room", "unavailable", "disk"]
        );
        let severities: Vec<_> = Severity::VARIANTS.iter().map(<&str>::from).collect();
        assert_eq!(severities, ["unspecified", "trace", "debug", "info", "warn", "error", "fatal"]);
        let kinds: Vec<_> = ReplacedKind::VARIANTS.iter().map(<&str>::from).collect();
        assert_eq!(kinds, ["nul", "utf8", "depth", "time", "number", "width", "type", "id"]);
    }

    #[test]
    fn each_outcome_has_its_counter() {
        let books = Books::default();
        books.receive(10);
        let tally = |severities: &[Severity]| {
            let mut tally = Tally::default();
            severities.iter().for_each(|severity| tally.add(None, *severity));
            tally
        };
        books.lose(
            LossReason::Dropped(DropReason::DropOldest),
            &tally(&[Severity::Error, Severity::Error, Severity::Info]),
        );
        books.reject(RejectReason::Full, 1);
        books.lose(LossReason::Malformed, &tally(&[Severity::Warn]));
        books.flush(4);
        books.lose(LossReason::DeadLetter, &tally(&[Severity::Info]));
        assert_eq!(books.dropped(DropReason::DropOldest, Severity::Error), 2);
        assert_eq!(books.dropped_for(DropReason::DropNewest), 0);
        let outcomes =
            books.flushed() + books.dropped_total() + books.rejected_total() + books.dead_lettered();
        assert_eq!(books.received(), outcomes);
        let lost: u64 = books.losses().take().iter().map(|loss| loss.records).sum();
        assert_eq!(lost, books.dropped_total() + 1 + books.dead_lettered());
    }
}
