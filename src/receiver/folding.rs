//! Folded records on their way into the buffer: repeats of a request that are counted, and the records that stand for them.

use std::time::Duration;

use super::intake::Intake;
use crate::buffer::Reservation;
use crate::buffer::fold::FoundRepeats;
use crate::table::{Space, Transcoded, Untranscoded};
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
        let pass = if folding { self.buffer.find_repeats(request, reservation, arrival) } else { None };
        let Some(mut pass) = pass else {
            return (self.transcoder.transcode(request, records, arrival, space), None);
        };
        let transcoded = self.transcoder.transcode_through(&mut pass, request, records, arrival, space);
        (transcoded, Some(pass.end()))
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
