//! The reader: one thread that reads back what memory had no room for, and removes segments whose records are stored.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::cursor::{Cursor, Found};
use super::files::Files;
use super::log;
use super::places::Gap;
use super::segment::Segment;
use super::state::State;
use super::{DurableQueue, Position};
use crate::buffer::batch::{Batch, Chunk};
use crate::buffer::ledger::Ledger;
use crate::buffer::queue::{MAX_BATCH_BYTES, Queue};
use crate::buffer::reason::{DropReason, LossReason};
use crate::buffer::room::Room;
use crate::table::{Rows, Tally};

/// The time between two looks for segments to remove.
const ROUND: Duration = Duration::from_secs(1);
/// The wait for room in memory.
const NO_ROOM: Duration = Duration::from_millis(5);
/// After so many failed attempts, what cannot be read is damaged.
const ATTEMPTS: u32 = 3;

/// The reader's own state.
pub(in crate::buffer) struct Reader<'a, F: Files> {
    durable: &'a Arc<DurableQueue>,
    ledger: &'static Ledger,
    arriving: &'a Queue,
    files: F,
    cursor: Option<(Arc<Segment>, Cursor<F>)>,
    /// How often reading has failed since the last success.
    failures: u32,
    /// The bytes of rows that memory had no room for.
    needs: usize,
    round: Instant,
    state: State,
}

/// A batch as far as it is read.
#[derive(Default)]
struct Reading {
    chunks: Vec<Chunk>,
    records: usize,
    bytes: usize,
    segment: Option<Arc<Segment>>,
}

impl<'a, F: Files> Reader<'a, F> {
    pub(in crate::buffer) fn new(
        durable: &'a Arc<DurableQueue>,
        ledger: &'static Ledger,
        arriving: &'a Queue,
        files: F,
    ) -> Self {
        let state = State::new(durable.id());
        let round = Instant::now();
        Self { durable, ledger, arriving, files, cursor: None, failures: 0, needs: 0, round, state }
    }

    /// Reads until the queue is closed.
    pub(in crate::buffer) fn run(mut self) {
        while !self.durable.closed.load(Ordering::Acquire) {
            if self.round.elapsed() >= ROUND {
                self.tidy();
                self.round = Instant::now();
            }
            let wait = match self.read_batch() {
                Ok(Some(batch)) => {
                    self.durable.supply.add(batch);
                    continue;
                }
                Ok(None) => ROUND,
                Err(wait) => wait,
            };
            self.durable.bell.wait(wait);
        }
        self.durable.supply.clear();
        self.tidy();
    }

    /// The next batch of the backlog; the error is how long to wait before the next try.
    fn read_batch(&mut self) -> Result<Option<Batch>, Duration> {
        if !self.durable.adopted.load(Ordering::Acquire) || self.durable.supply.is_full() {
            return Ok(None);
        }
        if !self.leaves_room() {
            return Err(NO_ROOM);
        }
        let (max_records, max_bytes) = (self.ledger.budget.max_records(), self.ledger.budget.max_bytes());
        let most = self.arriving.largest().min(max_records / 4).max(1);
        let most_bytes = MAX_BATCH_BYTES.min(max_bytes / 4);
        let mut reading = Reading::default();
        let mut wait = None;
        while reading.records < most && reading.bytes < most_bytes && wait.is_none() {
            let is_out = reading.chunks.is_empty() && self.durable.supply.is_empty();
            let Some(gap) = self.next_gap(is_out) else { break };
            if reading.segment.as_ref().is_some_and(|before| before.format != gap.segment.format) {
                break;
            }
            wait = self.read(gap, &mut reading, most).err();
        }
        match (reading.chunks.is_empty(), wait) {
            (false, _) => Ok(Some(Batch::new(reading.chunks))),
            (true, Some(wait)) => Err(wait),
            (true, None) => Ok(None),
        }
    }

    /// Whether another batch leaves room for what arrives ([`Spill::admits`](super::spill::Spill::admits)). One batch may always be
    /// there, for which that leaves a quarter.
    fn leaves_room(&self) -> bool {
        let budget = &self.ledger.budget;
        let is_low =
            budget.records() <= budget.max_records() / 8 * 3 && budget.bytes() <= budget.max_bytes() / 8 * 3;
        is_low || !self.durable.places().has_read_back()
    }

    /// The oldest records that are on the disk alone. Without any, the backlog ends if it `is_out`.
    fn next_gap(&self, is_out: bool) -> Option<Gap> {
        let places = self.durable.places();
        let stored = self.durable.claims.stored();
        let gap = places.backlog(&stored);
        if gap.is_none() && is_out {
            // Records are left to the disk alone under the same lock.
            self.durable.spill.end();
        }
        self.durable.spill.count(self.durable.claims.ranges());
        gap
    }

    /// Reads the next entry of the gap; the error is how long to wait before the next try.
    fn read(&mut self, gap: Gap, reading: &mut Reading, most: usize) -> Result<(), Duration> {
        let Gap { segment, numbers } = gap;
        let budget = &self.ledger.budget;
        if budget.max_records() == budget.records() || budget.max_bytes() - budget.bytes() < self.needs {
            return Err(NO_ROOM);
        }
        let found = self.find(&segment, numbers.start);
        match found {
            Ok(Found::Entry { first, rows }) if first < numbers.end => {
                let wanted = first.max(numbers.start)..numbers.end.min(first + rows.len() as u64);
                // Numbers before it that the segment does not have.
                self.give_up(&segment, numbers.start..wanted.start.max(numbers.start), "missing");
                self.hold(&segment, first, rows, wanted, reading, most)
            }
            Ok(Found::Damaged { numbers: damaged, is_kept }) => {
                if !is_kept {
                    self.durable.places().keep(&segment);
                }
                let end = damaged.end.clamp(numbers.start, numbers.end);
                self.give_up(&segment, numbers.start..end, "damaged");
                Ok(())
            }
            Ok(Found::Entry { .. } | Found::End) => {
                self.give_up(&segment, numbers, "missing");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(segment = segment.name, %error, "cannot read the durable queue");
                self.cursor = None;
                self.failures += 1;
                Err(ROUND)
            }
        }
    }

    fn find(&mut self, segment: &Arc<Segment>, number: u64) -> std::io::Result<Found> {
        if self.cursor.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, segment)) {
            let mut cursor = Cursor::open(&self.files, segment)?;
            // Otherwise nothing of the disk can be read, which passes or ends with a new disk, and damages no record.
            if self.failures >= ATTEMPTS && Segment::look(&self.files, &segment.name).about.is_ok() {
                cursor.salvage();
            }
            self.cursor = Some((segment.clone(), cursor));
        }
        let (_, cursor) = self.cursor.as_mut().expect("it was set");
        let found = cursor.find(number)?;
        self.failures = 0;
        Ok(found)
    }

    /// Takes the rows `wanted` of an entry into memory.
    fn hold(
        &mut self,
        segment: &Segment,
        first: u64,
        rows: Rows,
        wanted: Range<u64>,
        reading: &mut Reading,
        most: usize,
    ) -> Result<(), Duration> {
        let records = ((wanted.end - wanted.start) as usize).min(most - reading.records);
        let mut room = Room::reserve(self.ledger, records, 0);
        // A limit that was lowered may be below what one entry takes.
        let bytes = rows.held_bytes().min(self.ledger.budget.max_bytes());
        if room.records() == 0 || !room.resize(room.records(), bytes) {
            self.needs = bytes;
            return Err(NO_ROOM);
        }
        self.needs = 0;
        let records = room.records() as u64;
        let wanted = wanted.start..wanted.start + records;
        let mut places = self.durable.places();
        if self.durable.claims.stored().count_within(segment.run, wanted.clone()) > 0 {
            // They were dropped meanwhile.
            return Ok(());
        }
        places.read_back(segment.run, wanted.clone());
        drop(places);
        let position = Position { queue: self.durable.clone(), run: segment.run, first };
        let format = segment.format.clone().filter(|format| *format != self.durable.format);
        let range = (wanted.start - first) as usize..(wanted.end - first) as usize;
        let chunk = Chunk::durable(rows, room, position, range).in_format(format);
        reading.records += chunk.len();
        reading.bytes += chunk.row_bytes();
        reading.chunks.push(chunk);
        Ok(())
    }

    /// Counts records that cannot be read as lost.
    fn give_up(&self, segment: &Segment, numbers: Range<u64>, why: &'static str) {
        if numbers.is_empty() {
            return;
        }
        let records = numbers.end - numbers.start;
        tracing::error!(
            segment = segment.name,
            records,
            first = numbers.start,
            "records in the durable queue are {why}"
        );
        self.ledger
            .books
            .lose(LossReason::Dropped(DropReason::Damaged), &Tally::of_unknown(records as usize));
        self.durable.give_up(segment.run, numbers);
    }

    /// Removes segments whose records have been stored for long enough, and notes on the disk what is stored.
    fn tidy(&mut self) {
        if !self.durable.adopted.load(Ordering::Acquire) {
            return;
        }
        self.durable.remove_stored(&self.files, self.durable.config.keep_for.0);
        if let Err(error) = self.state.write(&self.files, self.durable.claims.stored()) {
            tracing::debug!(%error, "cannot note which records of the durable queue are stored");
        }
    }
}

impl DurableQueue {
    /// Removes the segments whose records have been stored for `keep_for`; returns their number.
    pub(super) fn remove_stored<F: Files>(&self, files: &F, keep_for: Duration) -> usize {
        let done = {
            // Under the lock, so that nothing that was lost meanwhile counts as stored.
            let mut places = self.places();
            places.stored_for(&self.claims.stored(), keep_for)
        };
        let is_removed = |segment: &&Segment| match log::remove(files, segment) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(segment = segment.name, %error, "cannot remove a segment of the durable queue");
                false
            }
        };
        let removed = done.iter().take_while(is_removed).map(|segment| self.places().remove(segment)).count();
        self.measure(&self.places());
        removed
    }
}
