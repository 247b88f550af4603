//! Folded records on their way into the buffer: repeats of a request that are counted, and the records that stand for them.

use std::time::Duration;

use super::intake::Intake;
use crate::buffer::fold::{FoldPass, FoundRepeats};
use crate::buffer::{FairGate, Reservation};
use crate::table::{Candidate, Gate, Space, Transcoded, Untranscoded, Verdict};
use crate::values::when::unix_nanos;

/// How often the windows of folded records are looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Intake {
    /// Transcodes the records of `request` that there is room for in `reservation`; with `folding`, without those that repeat others.
    pub(super) fn transcode<'a>(
        &self,
        request: &'a [u8],
        reservation: &mut Reservation,
        folding: bool,
        space: &mut Space<'_>,
    ) -> (Result<Transcoded<'a>, Untranscoded>, Option<FoundRepeats>) {
        let (records, arrival) = (reservation.records(), unix_nanos() as u64);
        let (room, share) = match self.buffer.gate(reservation) {
            None => (Some(reservation), None),
            gate => (None, gate),
        };
        let fold = if folding { self.buffer.find_repeats(request, room, arrival) } else { None };
        if fold.is_none() && share.is_none() {
            return (self.transcoder.transcode(request, records, arrival, space), None);
        }
        let mut gate = FoldThenShare { fold, share };
        let transcoded = self.transcoder.transcode_through(&mut gate, request, records, arrival, space);
        (transcoded, gate.fold.map(FoldPass::end))
    }

    /// Puts the folded records whose window is over into the buffer, or `all` of them.
    pub fn write_folded(&self, all: bool) {
        for folded in self.buffer.take_folded(all) {
            let request = folded.request();
            let space = &mut Space::unlimited();
            let done = self.transcoder.transcode(&request, 1, unix_nanos() as u64, space).unwrap_or_default();
            self.buffer.books().replace(&done.replaced);
            self.buffer.enqueue_folded(folded, done.rows, done.malformed);
            self.transcoder.remember(done.new);
        }
    }

    /// Writes folded records when their windows are over, for ever.
    pub async fn keep_writing_folded(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.write_folded(false);
        }
    }
}

/// Folds a record that repeats another, and lets any other pass within the share of its sender.
struct FoldThenShare<'a> {
    fold: Option<FoldPass<'a>>,
    share: Option<FairGate<'a>>,
}

impl Gate for FoldThenShare<'_> {
    fn admits(&mut self, candidate: Candidate<'_, '_>) -> Verdict {
        if self.has_row_for(candidate) {
            return Verdict::Fold;
        }
        self.share.as_mut().map_or(Verdict::Take, |share| share.admits(candidate))
    }

    fn folds(&self) -> bool {
        self.fold.is_some()
    }

    fn has_row_for(&mut self, candidate: Candidate<'_, '_>) -> bool {
        self.fold.as_mut().is_some_and(|fold| fold.has_row_for(candidate))
    }
}
