//! The places of the queue's records: their segments, and which of them are in memory as well.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::segment::Segment;
use super::{Positions, Run};
use crate::buffer::share::{Counted, Shares};
use crate::table::Rows;

/// In nanoseconds.
const MINUTE: i64 = 60_000_000_000;

/// The segments, and the records that are in memory or being written to PostgreSQL.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By run and first number, which is the order of time.
    segments: BTreeMap<(Run, u64), Place>,
    in_hand: Positions,
    /// Those of them that were read back from the disk.
    read_back: Positions,
}

/// A segment.
#[derive(Debug)]
struct Place {
    segment: Arc<Segment>,
    end: u64,
    bytes: u64,
    /// The first record of each minute in which some were appended, and when, in nanoseconds since 1970.
    minutes: Vec<(u64, i64)>,
    /// It is being appended to.
    is_open: bool,
    /// An earlier run has made it.
    is_earlier: bool,
    /// Since when all of it is known to be in PostgreSQL.
    stored_since: Option<Instant>,
    /// See [`Segment::is_kept`].
    is_kept: bool,
    /// The shares of its senders, until all of it is stored. A segment of an earlier run has none.
    held: Option<Counted>,
}

/// Records of one segment that are only on the disk.
#[derive(Debug, PartialEq)]
pub(super) struct Gap {
    pub(super) segment: Arc<Segment>,
    pub(super) numbers: Range<u64>,
}

/// The extent of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Records that are not in PostgreSQL.
    pub records: u64,
    /// The bytes of all segments.
    pub bytes: u64,
    /// When the oldest of these records was appended, in nanoseconds since 1970: up to a minute too early, and of an earlier run
    /// when its segment was begun.
    pub oldest: Option<i64>,
    /// Segments that cannot be read: of a later version, or without a header.
    pub unreadable: u64,
}

impl Place {
    /// When the record `number` was appended, in nanoseconds since 1970, up to a minute too early.
    fn since(&self, number: u64) -> i64 {
        let later = self.minutes.partition_point(|(first, _)| *first <= number);
        self.minutes[later.saturating_sub(1)].1
    }

    /// Forgets the minutes before that of the record `number`, which is the oldest that is not stored.
    fn forget_before(&mut self, number: u64) {
        let later = self.minutes.partition_point(|(first, _)| *first <= number);
        self.minutes.drain(..later.saturating_sub(1));
    }
}

impl Places {
    /// Adds a segment of an earlier run.
    pub(super) fn add(&mut self, segment: Segment) {
        self.insert(segment, true);
    }

    /// Adds a segment that is about to be appended to; the one before is complete.
    pub(super) fn begin(&mut self, segment: Segment) {
        self.segments.values_mut().for_each(|place| place.is_open = false);
        self.insert(segment, false);
    }

    fn insert(&mut self, segment: Segment, is_earlier: bool) {
        let (key, end, bytes) = ((segment.run, segment.first), segment.end, segment.bytes);
        let place = Place {
            is_kept: segment.is_kept,
            end,
            bytes,
            minutes: vec![(key.1, segment.created())],
            segment: Arc::new(segment),
            is_open: !is_earlier,
            is_earlier,
            stored_since: None,
            held: None,
        };
        self.segments.insert(key, place);
    }

    /// The segment of record `first` of `run` has `records` and `bytes` more, since `time`, in nanoseconds since 1970.
    pub(super) fn grow(&mut self, run: Run, first: u64, records: u64, bytes: u64, time: i64) {
        let place = self.segments.range_mut((run, 0)..=(run, first)).next_back();
        if let Some((_, place)) = place {
            place.end = first + records;
            place.bytes += bytes;
            if place.minutes.last().is_none_or(|(_, minute)| time - minute >= MINUTE) {
                place.minutes.push((first, time));
            }
        }
    }

    /// The segment of record `first` of `run` has these `rows` in `bytes` bytes, which are counted for their senders.
    pub(super) fn share(
        &mut self,
        shares: &'static Shares,
        (run, first): (Run, u64),
        rows: &Rows,
        bytes: u64,
    ) {
        if let Some((_, place)) = self.segments.range_mut((run, 0)..=(run, first)).next_back() {
            place.held.get_or_insert_with(|| Counted::new(shares)).hold(rows, bytes as usize);
        }
    }

    /// The records `numbers` are in memory.
    pub(super) fn hold(&mut self, run: Run, numbers: Range<u64>) {
        self.in_hand.insert(run, numbers);
    }

    /// The records `numbers` are in memory again.
    pub(super) fn read_back(&mut self, run: Run, numbers: Range<u64>) {
        self.read_back.insert(run, numbers.clone());
        self.hold(run, numbers);
    }

    /// Whether records that were read back are in memory.
    pub(super) fn has_read_back(&self) -> bool {
        !self.read_back.is_empty()
    }

    /// They are no longer in memory.
    pub(super) fn release(&mut self, run: Run, numbers: Range<u64>) {
        self.read_back.remove(run, numbers.clone());
        self.in_hand.remove(run, numbers);
    }

    /// The oldest records that are only on the disk and not `stored`, out of one segment.
    pub(super) fn backlog(&self, stored: &Positions) -> Option<Gap> {
        self.readable().find_map(|(run, place)| {
            let numbers = self.gap(run, place, stored)?;
            Some(Gap { segment: place.segment.clone(), numbers })
        })
    }

    fn gap(&self, run: Run, place: &Place, stored: &Positions) -> Option<Range<u64>> {
        let mut from = place.segment.first;
        loop {
            let missing = stored.gap(run, from..place.end)?;
            match self.in_hand.gap(run, missing.clone()) {
                Some(gap) => return Some(gap),
                None => from = missing.end,
            }
        }
    }

    fn readable(&self) -> impl Iterator<Item = (Run, &Place)> {
        let all = self.segments.iter().map(|(&(run, _), place)| (run, place));
        all.filter(|(_, place)| place.segment.format.is_some())
    }

    /// The complete segments that have been `stored` for `keep_for`, in the order in which they may be removed.
    pub(super) fn stored_for(&mut self, stored: &Positions, keep_for: Duration) -> Vec<Segment> {
        let now = Instant::now();
        let mut done = Vec::new();
        let mut has_kept = None;
        for (&(run, first), place) in &mut self.segments {
            let is_stored = place.segment.format.is_some() && stored.covers(run, first..place.end);
            place.stored_since = is_stored.then(|| place.stored_since.unwrap_or(now));
            if is_stored && !place.is_open {
                place.held = None;
            }
            let missing = stored.gap(run, first..place.end);
            place.forget_before(missing.map_or(place.end, |missing| missing.start));
            let is_done = !place.is_open && place.stored_since.is_some_and(|since| now - since >= keep_for);
            // A header that says where earlier files end stays as long as they do.
            if is_done && !(has_kept == Some(run) && place.segment.cuts()) {
                done.push(Segment { is_kept: place.is_kept, ..(*place.segment).clone() });
            } else {
                has_kept = Some(run);
            }
        }
        done
    }

    /// The segment is removed.
    pub(super) fn remove(&mut self, segment: &Segment) {
        self.segments.remove(&(segment.run, segment.first));
    }

    /// Not all bytes of the segment can be read, so that it is put aside instead of being removed.
    pub(super) fn keep(&mut self, segment: &Segment) {
        if let Some(place) = self.segments.get_mut(&(segment.run, segment.first)) {
            place.is_kept = true;
        }
    }

    /// Records of the oldest complete segment that can be removed without them: none is in memory.
    pub(super) fn oldest_droppable(&self, stored: &Positions) -> Option<Gap> {
        self.readable().filter(|(_, place)| !place.is_open).find_map(|(run, place)| {
            let numbers = place.segment.first..place.end;
            let missing = stored.gap(run, numbers.clone())?;
            let gap = Gap { segment: place.segment.clone(), numbers: missing };
            (self.in_hand.count_within(run, numbers) == 0).then_some(gap)
        })
    }

    /// How many of the records in readable segments are not `stored`.
    pub(super) fn extent(&self, stored: &Positions) -> Extent {
        let unreadable = (self.segments.len() - self.readable().count()) as u64;
        let mut extent = Extent { bytes: self.bytes(), unreadable, ..Extent::default() };
        for (run, place) in self.readable() {
            let numbers = place.segment.first..place.end;
            let left = (numbers.end - numbers.start) - stored.count_within(run, numbers);
            if let Some(missing) = stored.gap(run, place.segment.first..place.end) {
                extent.oldest.get_or_insert_with(|| place.since(missing.start));
            }
            extent.records += left;
        }
        extent
    }

    /// The bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|place| place.bytes).sum()
    }

    /// The bytes of segments that are still needed, and of those that may be removed when space is.
    pub(super) fn bytes_by_need(&self) -> (u64, u64) {
        let is_needed = |place: &&Place| place.is_open || place.stored_since.is_none();
        let used = self.segments.values().filter(is_needed).map(|place| place.bytes).sum();
        (used, self.bytes() - used)
    }

    /// The number of `positions` that a readable segment has.
    pub(super) fn readable_of(&self, positions: &Positions) -> u64 {
        let within =
            |(run, place): (Run, &Place)| positions.count_within(run, place.segment.first..place.end);
        self.readable().map(within).sum()
    }

    /// The number of records of earlier runs that are not `stored`.
    pub(super) fn left_by_earlier_runs(&self, stored: &Positions) -> u64 {
        let earlier = self.readable().filter(|(_, place)| place.is_earlier);
        let left = |(run, place): (Run, &Place)| {
            let numbers = place.segment.first..place.end;
            numbers.end - numbers.start - stored.count_within(run, numbers)
        };
        earlier.map(left).sum()
    }

    /// The oldest run that has a segment.
    pub(super) fn oldest_run(&self) -> Run {
        self.segments.keys().next().map_or(Run::MAX, |(run, _)| *run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::disk::segment::Unreadable;

    const RUN: Run = 7;

    /// A segment that was begun at 7 ns after 1970 and has ten records of each of these minutes.
    fn appended(minutes: &[i64]) -> Places {
        let (name, about, format) = ("segment".to_owned(), Err(Unreadable::Damaged), Some(Arc::default()));
        let mut places = Places::default();
        places.begin(Segment {
            name,
            run: RUN,
            first: 0,
            end: 0,
            bytes: 0,
            about,
            format,
            entries: 0,
            is_kept: false,
        });
        for (first, minute) in (0..).step_by(10).zip(minutes) {
            places.grow(RUN, first, 10, 0, RUN + minute * MINUTE);
        }
        places
    }

    fn stored_before(end: u64) -> Positions {
        let mut stored = Positions::default();
        stored.insert(RUN, 0..end);
        stored
    }

    #[test]
    fn the_oldest_record_has_the_age_of_its_minute_and_not_of_its_segment() {
        let mut places = appended(&[0, 0, 2, 90]);
        let minutes = [(0, Some(0)), (19, Some(0)), (20, Some(2)), (29, Some(2)), (30, Some(90)), (40, None)];
        for (stored, minute) in minutes {
            let oldest = places.extent(&stored_before(stored)).oldest;
            assert_eq!(oldest, minute.map(|minute| RUN + minute * MINUTE), "{stored} are stored");
        }
        places.stored_for(&stored_before(25), Duration::MAX);
        assert_eq!(places.extent(&stored_before(25)).oldest, Some(RUN + 2 * MINUTE));
    }

    #[test]
    fn minutes_of_which_all_is_stored_are_forgotten() {
        let mut places = appended(&[0, 1, 2, 3]);
        let held = |places: &Places| places.segments.values().map(|place| place.minutes.len()).sum::<usize>();
        assert_eq!(held(&places), 4);
        for (stored, left) in [(10, 3), (29, 2), (40, 1)] {
            places.stored_for(&stored_before(stored), Duration::MAX);
            assert_eq!(held(&places), left, "{stored} are stored");
        }
    }
}
