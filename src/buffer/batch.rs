//! Buffered records: the rows of a request as a chunk, and chunks as a batch.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::disk::{Position, Positions};
use super::reason::{DropReason, LossReason};
use super::receipt::Receipt;
use super::room::{Room, free_records};
use super::share::Band;
use crate::table::partition::Period;
use crate::table::{Resource, RowFormat, Rows, Scope};

/// Rows that wait to be written or are being written. A chunk that is dropped unsettled counts as undelivered, so that no
/// record is lost without being counted.
#[derive(Debug)]
pub(super) struct Chunk {
    held: Arc<ChunkRows>,
    /// Declared after `held`, so that the room is free before the sender gets its answer, when the last record is settled.
    receipt: Option<Arc<Receipt>>,
    start: u32,
    end: u32,
}

/// The rows of one request; chunks and bytes on their way to PostgreSQL share them.
#[derive(Debug)]
struct ChunkRows {
    rows: Rows,
    since: Instant,
    /// The position of the first row in the durable queue, if there is one.
    position: Option<Position>,
    /// The format of the rows, if it is not that of the rows that are made now.
    format: Option<Arc<RowFormat>>,
    /// Frees the bytes with the last user of the rows.
    bytes: Room,
}

/// Records that one lane writes in one transaction. Its rows never change, so that a retry is the same batch.
#[derive(Debug)]
pub struct Batch {
    chunks: Vec<Chunk>,
    records: usize,
}

/// The outcome of some rows of a chunk.
#[derive(Clone, Copy)]
enum Outcome {
    Flushed,
    DeadLettered,
    Dropped(DropReason),
}

impl Chunk {
    /// A chunk of all `rows`, in their `room`.
    pub(super) fn new(rows: Rows, room: Room, receipt: Option<Receipt>) -> Self {
        let end = rows.len();
        Self::of(rows, room, receipt, None, 0..end)
    }

    /// A chunk of those of `rows` that are in `range`, in their `room`; they are on the disk as well, the first of `rows` at
    /// `position`.
    pub(super) fn durable(rows: Rows, room: Room, position: Position, range: Range<usize>) -> Self {
        Self::of(rows, room, None, Some(position), range)
    }

    fn of(
        rows: Rows,
        mut room: Room,
        receipt: Option<Receipt>,
        position: Option<Position>,
        range: Range<usize>,
    ) -> Self {
        // From here on the records are freed as they are settled.
        room.keep_bytes();
        if position.is_none() {
            room.ledger().shares.hold(&rows, range.clone(), room.bytes());
        }
        let held = ChunkRows { rows, since: Instant::now(), position, format: None, bytes: room };
        Self {
            held: Arc::new(held),
            receipt: receipt.map(Arc::new),
            start: range.start as u32,
            end: range.end as u32,
        }
    }

    /// The chunk, whose rows have this `format`.
    pub(super) fn in_format(mut self, format: Option<Arc<RowFormat>>) -> Self {
        let held = Arc::get_mut(&mut self.held).expect("nobody shares a new chunk");
        held.format = format;
        self
    }

    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// When it was enqueued.
    pub(super) fn since(&self) -> Instant {
        self.held.since
    }

    /// The bytes of its rows.
    pub(super) fn row_bytes(&self) -> usize {
        self.held.rows.range(self.start as usize, self.end as usize).len()
    }

    /// The bytes that are freed with the last chunk or batch that shares its memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.bytes.bytes()
    }

    /// Keeps the first `len` rows and returns the others, if any.
    pub(super) fn split_off(&mut self, len: usize) -> Option<Chunk> {
        let at = self.start + u32::try_from(len).unwrap_or(u32::MAX).min(self.end - self.start);
        let rest = (at < self.end).then(|| Chunk {
            held: self.held.clone(),
            receipt: self.receipt.clone(),
            start: at,
            end: self.end,
        });
        self.end = at;
        rest
    }

    /// The number of its first rows that fit into `bytes` bytes.
    pub(super) fn rows_within(&self, bytes: usize) -> usize {
        let (start, rows) = (self.start as usize, &self.held.rows);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            if rows.range(start, start + middle).len() <= bytes { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// Whether other chunks or a lane use the same memory, so that dropping this chunk does not free it.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.held) > 1
    }

    /// Whether a sender waited for the result of these rows, and no longer does.
    pub(super) fn is_given_up(&self) -> bool {
        self.receipt.as_deref().is_some_and(Receipt::is_given_up)
    }

    /// Drops its records. If a sender waits, its [`Receipt`] decides whether they count as rejected instead.
    pub(super) fn shed(mut self, reason: DropReason) {
        self.settle_first(self.len(), Outcome::Dropped(reason));
    }

    /// Drops its records in `band`, and copies the others, so that the memory is free. Returns their number: none if a lane is writing
    /// rows of the same memory, or if they are on the disk as well.
    pub(super) fn shed_band(&mut self, band: Band) -> usize {
        let range = self.start as usize..self.end as usize;
        let is_shed = |rows: &Rows, row| Band::of(rows.severity(row)) == band;
        let Some(held) = Arc::get_mut(&mut self.held).filter(|held| held.position.is_none()) else {
            return 0;
        };
        let ledger = held.bytes.ledger();
        let tally = held.rows.tally(range.clone().filter(|row| is_shed(&held.rows, *row)));
        if tally.total() == 0 {
            return 0;
        }
        ledger.shares.release(&held.rows, range.clone(), held.bytes.bytes());
        let beside = held.bytes.bytes().saturating_sub(held.rows.held_bytes());
        let kept: Vec<_> =
            (0..held.rows.len()).map(|row| range.contains(&row) && !is_shed(&held.rows, row)).collect();
        held.rows.remove(|row| !kept[row]);
        held.bytes.resize(0, held.rows.held_bytes() + beside);
        (self.start, self.end) = (0, held.rows.len() as u32);
        ledger.shares.hold(&held.rows, 0..held.rows.len(), held.bytes.bytes());
        let (reason, records) = (LossReason::Dropped(DropReason::Share), tally.total());
        match self.receipt.as_deref() {
            Some(receipt) => receipt.lose(reason, tally),
            None => ledger.books.lose(reason, &tally),
        }
        free_records(ledger, records);
        records
    }

    /// Counts the outcome of the first `len` rows, then frees their room.
    fn settle_first(&mut self, len: usize, outcome: Outcome) {
        let rows = self.start as usize..self.start as usize + len;
        self.start += len as u32;
        self.count(rows.clone(), outcome);
        if self.held.position.is_none() {
            self.held.bytes.ledger().shares.release(&self.held.rows, rows, self.held_bytes());
        }
        free_records(self.held.bytes.ledger(), len);
    }

    fn count(&self, rows: Range<usize>, outcome: Outcome) {
        if let Some(position) = &self.held.position {
            let is_kept = matches!(outcome, Outcome::Dropped(DropReason::Undelivered));
            position.settle(rows.clone(), matches!(outcome, Outcome::Dropped(_)) && !is_kept, is_kept);
            if is_kept {
                return;
            }
        }
        let (held, books) = (&self.held.rows, &self.held.bytes.ledger().books);
        let (len, receipt) = (rows.len(), self.receipt.as_deref());
        match outcome {
            Outcome::Flushed => {
                books.flush(len);
                receipt.inspect(|receipt| receipt.flush(len));
            }
            Outcome::DeadLettered => {
                books.lose(LossReason::DeadLetter, &held.tally(rows));
                receipt.inspect(|receipt| receipt.dead_letter(len));
            }
            Outcome::Dropped(reason) => {
                let (reason, records) = (LossReason::Dropped(reason), held.tally(rows));
                match receipt {
                    Some(receipt) => receipt.lose(reason, records),
                    None => books.lose(reason, &records),
                }
            }
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.start < self.end {
            self.settle_first(self.len(), Outcome::Dropped(DropReason::Undelivered));
        }
    }
}

impl Batch {
    pub(super) fn new(chunks: Vec<Chunk>) -> Self {
        let records = chunks.iter().map(Chunk::len).sum();
        Self { chunks, records }
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Keeps the first `len` records and returns the others.
    pub fn split_off(&mut self, len: usize) -> Batch {
        let mut kept = 0;
        let cut = self.chunks.iter().position(|chunk| {
            kept += chunk.len();
            kept > len
        });
        let Some(cut) = cut else { return Batch::new(Vec::new()) };
        let mut rest = self.chunks.split_off(cut);
        let before = kept - rest[0].len();
        if len > before {
            let others = rest[0].split_off(len - before);
            self.chunks.push(std::mem::replace(&mut rest[0], others.expect("more than that are in it")));
        }
        self.records = self.records.min(len);
        Batch::new(rest)
    }

    /// The bytes of its rows.
    pub fn row_bytes(&self) -> usize {
        self.chunks.iter().map(Chunk::row_bytes).sum()
    }

    /// Its rows without the `excluded` ones, in as few runs of bytes as possible. Nothing is copied.
    pub fn runs(&self, excluded: &BTreeSet<usize>) -> Vec<Bytes> {
        let mut runs = Vec::with_capacity(self.chunks.len() + excluded.len());
        let mut first = 0;
        for chunk in &self.chunks {
            let bytes = Bytes::from_owner(RowsOwner(chunk.held.clone()));
            let (rows, start) = (&chunk.held.rows, chunk.start as usize);
            let mut from = start;
            for &index in excluded.range(first..first + chunk.len()) {
                let at = start + index - first;
                runs.push(bytes.slice(rows.range(from, at)));
                from = at + 1;
            }
            runs.push(bytes.slice(rows.range(from, chunk.end as usize)));
            first += chunk.len();
        }
        runs.retain(|run| !run.is_empty());
        runs
    }

    /// The bytes of row `index`.
    pub fn row(&self, index: usize) -> &[u8] {
        self.find(index).map_or(&[], |(rows, at)| &rows.bytes()[rows.range(at, at + 1)])
    }

    /// The resource of row `index`.
    pub fn resource(&self, index: usize) -> Option<&Arc<Resource>> {
        self.find(index).and_then(|(rows, at)| rows.resource(at))
    }

    /// The rows that contain row `index`, and its index there.
    fn find(&self, mut index: usize) -> Option<(&Rows, usize)> {
        for chunk in &self.chunks {
            if index < chunk.len() {
                return Some((&chunk.held.rows, chunk.start as usize + index));
            }
            index -= chunk.len();
        }
        None
    }

    /// The resources of its rows, perhaps some more than once.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.chunks.iter().flat_map(|chunk| &chunk.held.rows.resources)
    }

    /// The scopes of its rows, perhaps some more than once.
    pub fn scopes(&self) -> impl Iterator<Item = &Arc<Scope>> {
        self.chunks.iter().flat_map(|chunk| &chunk.held.rows.scopes)
    }

    /// The positions of its rows in the durable queue; none if there is none.
    pub fn positions(&self) -> Positions {
        let mut positions = Positions::default();
        for chunk in &self.chunks {
            if let Some(position) = &chunk.held.position {
                positions.insert(position.run, position.numbers(chunk.start as usize..chunk.end as usize));
            }
        }
        positions
    }

    /// The format of its rows, if it is not that of the rows that are made now. All rows of a batch have the same.
    pub fn format(&self) -> Option<&Arc<RowFormat>> {
        self.chunks.first().and_then(|chunk| chunk.held.format.as_ref())
    }

    /// The periods of its rows.
    pub fn periods(&self) -> BTreeSet<Period> {
        self.chunks.iter().flat_map(|chunk| chunk.held.rows.periods.iter().copied()).collect()
    }

    /// Counts its records as written, and those in `dead` as dead letters; then frees their room.
    pub fn settle_written(self, dead: &BTreeSet<usize>) {
        let mut first = 0;
        for mut chunk in self.chunks {
            let len = chunk.len();
            let mut from = first;
            for &index in dead.range(first..first + len) {
                chunk.settle_first(index - from, Outcome::Flushed);
                chunk.settle_first(1, Outcome::DeadLettered);
                from = index + 1;
            }
            chunk.settle_first(first + len - from, Outcome::Flushed);
            first += len;
        }
    }

    /// Counts its records as dropped (those of waiting senders by the answer that these get), then frees their room.
    pub fn settle_dropped(self, reason: DropReason) {
        self.chunks.into_iter().for_each(|chunk| chunk.shed(reason));
    }

    /// Whether senders waited for the result, and none does any longer.
    pub fn nobody_waits_any_more(&self) -> bool {
        self.chunks.iter().all(Chunk::is_given_up)
    }
}

/// The rows as the owner of [`Bytes`].
struct RowsOwner(Arc<ChunkRows>);

impl AsRef<[u8]> for RowsOwner {
    fn as_ref(&self) -> &[u8] {
        self.0.rows.bytes()
    }
}
