//! Folded records on their way into the buffer: repeats of a request that are counted, and the records that stand for them.

use std::sync::Arc;
use std::time::Duration;

use super::intake::Intake;
use crate::buffer::fold::{FoldPass, FoundRepeats};
use crate::buffer::{FairGate, Reservation};
use crate::otlp::LogRecord;
use crate::table::{Gate, Resource, Scope, Space, Transcoded, Untranscoded, Verdict};
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
        if !reservation.has_gate() {
            let pass =
                if folding { self.buffer.find_repeats(request, Some(reservation), arrival) } else { None };
            let Some(mut pass) = pass else {
                return (self.transcoder.transcode(request, records, arrival, space), None);
            };
            let transcoded = self.transcoder.transcode_through(&mut pass, request, records, arrival, space);
            return (transcoded, Some(pass.end()));
        }
        let pass = if folding { self.buffer.find_repeats(request, None, arrival) } else { None };
        let mut both = FoldThenShare { fold: pass, share: self.buffer.gate(reservation) };
        let transcoded = self.transcoder.transcode_through(&mut both, request, records, arrival, space);
        (transcoded, both.fold.map(FoldPass::end))
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
    fn admits(
        &mut self,
        of: &Arc<Resource>,
        within: &Arc<Scope>,
        record: &LogRecord<'_>,
        message: &[u8],
    ) -> Verdict {
        if self.has_row_for(of, within, record, message) {
            return Verdict::Fold;
        }
        self.share.as_mut().map_or(Verdict::Take, |share| share.admits(of, within, record, message))
    }

    fn folds(&self) -> bool {
        self.fold.is_some()
    }

    fn has_row_for(
        &mut self,
        of: &Arc<Resource>,
        within: &Arc<Scope>,
        record: &LogRecord<'_>,
        message: &[u8],
    ) -> bool {
        self.fold.as_mut().is_some_and(|fold| fold.has_row_for(of, within, record, message))
    }
}
