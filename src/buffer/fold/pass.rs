//! The repeats among the records of one request. They count once its rows are in the buffer.

use std::sync::Arc;

use tokio::time::Instant;

use super::Folding;
use super::entry::{Entry, Quota, Repeats};
use crate::buffer::Buffer;
use crate::buffer::books::Books;
use crate::buffer::reservation::Reservation;
use crate::otlp::alone::Origin;
use crate::table::{Candidate, Gate, Rows, Severity, Verdict};

/// Finds the repeats among the records of one request.
#[derive(Debug)]
pub struct FoldPass<'a> {
    buffer: &'a Buffer,
    folding: &'a Folding,
    request: &'a [u8],
    /// The request's, with room for its records; none if each of them takes its own.
    reservation: Option<&'a mut Reservation>,
    now: Instant,
    /// `now` in parts of a window.
    time: u64,
    /// The time of records that have none, in nanoseconds since 1970.
    arrival: u64,
    /// The origin of the last new entry.
    origin: Option<Origin<'a>>,
    found: Found,
}

/// The repeats in a request, by record.
#[derive(Debug)]
struct Found {
    touched: Vec<(Arc<Entry>, Repeats)>,
    /// By the lowest bits of the key, the number of an entry in `touched`; 0 is none.
    places: [u8; PLACES],
}

/// The repeats in a request that count once its rows are in the buffer.
#[derive(Debug)]
#[must_use = "repeats that are not counted are lost"]
pub struct FoundRepeats(Vec<(Arc<Entry>, Repeats)>);

const PLACES: usize = 256;
/// A larger record is not folded, nor is one that is larger than this with its resource and scope.
const LARGEST: usize = 16 << 10;

impl<'a> FoldPass<'a> {
    pub(super) fn new(
        buffer: &'a Buffer,
        folding: &'a Folding,
        request: &'a [u8],
        reservation: Option<&'a mut Reservation>,
        arrival: u64,
    ) -> Self {
        let now = Instant::now();
        let found = Found { touched: Vec::new(), places: [0; PLACES] };
        let time = folding.part(now);
        Self { buffer, folding, request, reservation, now, time, arrival, origin: None, found }
    }

    /// The repeats.
    pub fn end(self) -> FoundRepeats {
        FoundRepeats(self.found.touched)
    }

    /// Counts a record as a repeat, if there is an entry for it, or room for one.
    fn count(&mut self, mark: u64, candidate: Candidate<'_, '_>) -> bool {
        let record = candidate.record;
        let key = self.folding.identity.key(candidate);
        let times = [record.time_unix_nano, record.observed_time_unix_nano];
        let time = times.into_iter().find(|&time| time != 0).unwrap_or(self.arrival);
        if let Some(repeats) = self.found.of(key) {
            repeats.count += 1;
            repeats.first = repeats.first.min(time);
            repeats.last = repeats.last.max(time);
            return true;
        }
        let entry = self.folding.table.find(mark, key).or_else(|| self.add((mark, key), candidate));
        entry.is_some_and(|entry| self.found.add(entry, Repeats { count: 1, first: time, last: time }))
    }

    /// Makes an entry, if there is room for its record.
    #[cold]
    fn add(&mut self, (mark, key): (u64, u128), candidate: Candidate<'_, '_>) -> Option<Arc<Entry>> {
        let Candidate { of, within, record, message } = candidate;
        if !self.origin.as_ref().is_some_and(|origin| origin.has(message)) {
            self.origin = Origin::of(self.request, message);
        }
        let request = self.origin.as_ref()?.request_of(&[message]);
        if request.len() > LARGEST || self.found.is_full() {
            return None;
        }
        let bytes = request.len() + Folding::ADDED + Rows::most_of_one(&request, of, within);
        let quota = Quota::take(&self.folding.share, bytes)?;
        let room = self.buffer.room_for_one(bytes, self.reservation.as_deref_mut())?;
        let severity = Severity::from_number(record.severity_number);
        let until = self.now + self.folding.window;
        self.folding.table.add(Entry::new((mark, key), severity, request.into(), (room, quota), until))
    }
}

impl Gate for FoldPass<'_> {
    #[inline]
    fn admits(&mut self, candidate: Candidate<'_, '_>) -> Verdict {
        if self.has_row_for(candidate) { Verdict::Fold } else { Verdict::Take }
    }

    fn folds(&self) -> bool {
        true
    }

    /// Counts a record that repeats another one with it. If there is none, the next one like it does.
    #[inline]
    fn has_row_for(&mut self, candidate: Candidate<'_, '_>) -> bool {
        let (identity, seen) = (&self.folding.identity, &self.folding.seen);
        if candidate.message.len() > LARGEST || identity.excepts(candidate) {
            return false;
        }
        // The lowest bit is set, because 0 is none.
        let mark = identity.mark(candidate) | 1;
        (self.folding.table.has(mark) || seen.note(mark, self.time)) && self.count(mark, candidate)
    }
}

impl Found {
    /// The repeats of the record with this key, if they are found at once.
    fn of(&mut self, key: u128) -> Option<&mut Repeats> {
        let place = self.places[key as usize % PLACES] as usize;
        let (entry, repeats) = self.touched.get_mut(place.checked_sub(1)?)?;
        (entry.key == key).then_some(repeats)
    }

    fn is_full(&self) -> bool {
        self.touched.len() + 1 >= PLACES
    }

    /// Adds `more` repeats; returns whether there is place for them.
    fn add(&mut self, entry: Arc<Entry>, more: Repeats) -> bool {
        let place = &mut self.places[entry.key as usize % PLACES];
        let known = self.touched.iter_mut().position(|(known, _)| Arc::ptr_eq(known, &entry));
        if let Some(index) = known {
            let repeats = &mut self.touched[index].1;
            repeats.count += more.count;
            repeats.first = repeats.first.min(more.first);
            repeats.last = repeats.last.max(more.last);
            *place = index as u8 + 1;
        } else if self.touched.len() + 1 < PLACES {
            self.touched.push((entry, more));
            *place = self.touched.len() as u8;
        } else {
            return false;
        }
        true
    }
}

impl FoundRepeats {
    /// Counts them: the rows of their request are in the buffer.
    pub(super) fn count(self, books: &Books) {
        for (entry, repeats) in self.0 {
            books.fold(entry.severity, entry.count(repeats));
        }
    }
}
