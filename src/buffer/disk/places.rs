//! Where the records of the queue are: in which segment, and which of them are in memory as well.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::segment::Segment;
use super::{Positions, Run};

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
    /// It is being appended to.
    is_open: bool,
    /// An earlier run has made it.
    is_earlier: bool,
    /// Since when all of it is known to be in PostgreSQL.
    stored_since: Option<Instant>,
    /// See [`Segment::is_kept`].
    is_kept: bool,
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
    /// When the segment of the oldest of these records was begun, in nanoseconds since 1970.
    pub oldest: Option<i64>,
    /// Segments that cannot be read: of a later version, or without a header.
    pub unreadable: u64,
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
            segment: Arc::new(segment),
            end,
            bytes,
            is_open: !is_earlier,
            is_earlier,
            stored_since: None,
        };
        self.segments.insert(key, place);
    }

    /// The segment of record `first` of `run` has `records` and `bytes` more.
    pub(super) fn grow(&mut self, run: Run, first: u64, records: u64, bytes: u64) {
        let place = self.segments.range_mut((run, 0)..=(run, first)).next_back();
        if let Some((_, place)) = place {
            place.end = first + records;
            place.bytes += bytes;
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
            if left > 0 {
                extent.oldest.get_or_insert(place.segment.created());
            }
            extent.records += left;
        }
        extent
    }

    /// The bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|place| place.bytes).sum()
    }

    /// Of `positions`, those that a readable segment has.
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
