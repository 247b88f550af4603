//! Drops the oldest records where the disk has no space for new ones and the policy is `drop_oldest`.

use std::time::Duration;

use super::DurableQueue;
use super::cursor::{Cursor, Found};
use super::files::Files;
use super::places::Gap;
use crate::buffer::ledger::Ledger;
use crate::buffer::reason::{DropReason, LossReason};
use crate::table::Tally;

impl DurableQueue {
    /// Drops records of the oldest complete segment that is on the disk alone, and counts them by service and severity. Returns
    /// `false` if there is none.
    pub(super) fn drop_oldest<F: Files>(&self, files: &F, ledger: &Ledger) -> bool {
        let Some(gap) = self.take_oldest() else { return false };
        let dropped = LossReason::Dropped(DropReason::DropOldest);
        let (mut at, end) = (gap.numbers.start, gap.numbers.end);
        let mut cursor = Cursor::open(files, &gap.segment);
        while at < end {
            let found = cursor.as_mut().ok().and_then(|cursor| cursor.find(at).ok());
            let Some(Found::Entry { first, rows }) = found else {
                ledger.books.lose(dropped, &Tally::of_unknown((end - at) as usize));
                break;
            };
            let from = first.clamp(at, end);
            if from > at {
                ledger.books.lose(dropped, &Tally::of_unknown((from - at) as usize));
            }
            let until = end.min(first + rows.len() as u64).max(from);
            if until > from {
                ledger.books.lose(dropped, &rows.tally((from - first) as usize..(until - first) as usize));
            }
            at = until;
        }
        self.remove_stored(files, Duration::ZERO);
        true
    }

    /// Nobody reads these records any more.
    fn take_oldest(&self) -> Option<Gap> {
        let places = self.places();
        let gap = places.oldest_droppable(&self.claims.stored())?;
        self.give_up(gap.segment.run, gap.numbers.clone());
        Some(gap)
    }
}
