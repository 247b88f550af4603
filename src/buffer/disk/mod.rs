//! The durable queue: records that were answered OK are on stable storage until they are in PostgreSQL.
//!
//! `writer.rs` appends the rows of all waiting requests to a segment, syncs it once, and answers them. The rows stay in memory as
//! well while it has room. `reader.rs` reads the others back, the oldest first, as batches for the lanes (`supply.rs`).
//!
//! A record's position ([`Positions`]) is its number in the run that accepted it. The positions of stored records are in the lanes'
//! rows in PostgreSQL, written by the transactions that store the records ([`Claims`]), so that both are lost or kept together.

mod bell;
pub mod claims;
mod cursor;
mod entry;
mod evict;
pub mod files;
mod inbox;
mod log;
mod metrics;
mod places;
mod quarantine;
mod reader;
pub mod segment;
#[cfg(test)]
mod simulated;
mod space;
mod spill;
mod state;
mod supply;
#[cfg(test)]
mod tests;
pub mod view;
#[doc(hidden)]
pub mod whole;
mod writer;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::books::Books;
use super::config::StorageConfig;
use super::reason::{LossReason, RejectReason};
use super::share::Counted;
use crate::table::{RowFormat, Rows, Tally};
use crate::telemetry::Health;
pub use crate::values::positions::{Positions, Run};
use bell::Bell;
pub use claims::{Claim, Claims};
use files::Directory;
pub use files::DirectoryError;
pub(super) use files::Files;
use inbox::{Append, Inbox};
pub use inbox::{Appended, InFlight};
pub(super) use log::Log;
use log::Settings;
use metrics::Metrics;
pub use places::Extent;
use places::Places;
pub(super) use reader::Reader;
use segment::Segment;
use space::Space;
use spill::Spill;
use state::Notes;
use supply::Supply;
pub(super) use writer::Writer;

/// The size at which a segment is complete: a few seconds of a flood, so that little is kept for records that are stored.
const SEGMENT: u64 = 32 << 20;
/// How long requests are refused after the disk has failed, before one is tried again.
const RESPITE: Duration = Duration::from_millis(250);

/// The durable queue of one directory.
#[derive(Debug)]
pub struct DurableQueue {
    id: Uuid,
    config: StorageConfig,
    claims: Claims,
    /// The directory's notes when it was opened.
    notes: Notes,
    places: Mutex<Places>,
    space: Space,
    inbox: Inbox,
    spill: Spill,
    supply: Supply,
    /// Wakes the reader.
    bell: Bell,
    /// The store has said which records it has.
    adopted: AtomicBool,
    closed: AtomicBool,
    /// Until when requests are refused because of it.
    trouble: Mutex<Option<(Trouble, String, Instant)>>,
    health: Health,
    metrics: Metrics,
    /// Taken by the writer and the reader when they begin.
    parts: Mutex<Option<(Directory, Log<Directory>)>>,
    format: Arc<RowFormat>,
}

/// Why the queue takes no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// `max_size` or `min_free` is reached, or the file system is full.
    Full,
    /// A write or a sync failed, in a new file as well.
    Failed,
    /// Another forebay has taken the queue over.
    Fenced,
}

/// The position of the first of some rows.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) queue: Arc<DurableQueue>,
    pub(super) run: Run,
    pub(super) first: u64,
}

impl Position {
    /// The numbers of these of the rows.
    pub(super) fn numbers(&self, rows: Range<usize>) -> Range<u64> {
        self.first + rows.start as u64..self.first + rows.end as u64
    }

    /// These of the rows are not in memory any more. They are stored, or `given_up`, or kept on the disk alone.
    pub(super) fn settle(&self, rows: Range<usize>, given_up: bool, is_kept: bool) {
        let numbers = self.numbers(rows);
        if given_up {
            self.queue.give_up(self.run, numbers.clone());
        }
        self.queue.release(self.run, numbers, is_kept);
    }
}

impl DurableQueue {
    /// Opens the queue of the configured directory, for rows of this `format`, and locks it.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, written or locked.
    pub fn open(config: StorageConfig, format: RowFormat, health: Health) -> Result<Self, DirectoryError> {
        let files = Directory::lock(&config.files)?;
        let settings = Settings { segment_bytes: SEGMENT, format: Arc::new(format) };
        let format = settings.format.clone();
        let refused = |source| DirectoryError::Refused { directory: config.files.directory.clone(), source };
        let (log, segments) = Log::open(files.clone(), settings).map_err(refused)?;
        let notes = Notes::read(&files, log.id(), &segment::positions(&segments));
        let queue = Self { notes, ..Self::new(log.id(), config, format, segments, health) };
        queue.claims.give_up(&queue.notes.dropped);
        *lock(&queue.parts) = Some((files, log));
        Ok(queue)
    }

    /// A queue without a directory, for tests of what reads and writes it.
    #[doc(hidden)]
    pub fn without_directory(id: Uuid) -> Self {
        let config = StorageConfig::default();
        Self::new(id, config, Arc::default(), Vec::new(), Health::new())
    }

    /// The queue `id`, with these segments from earlier runs.
    fn new(
        id: Uuid,
        config: StorageConfig,
        format: Arc<RowFormat>,
        segments: Vec<Segment>,
        health: Health,
    ) -> Self {
        let mut places = Places::default();
        let spill = Spill::new(config.drain, !segments.is_empty());
        segments.into_iter().for_each(|segment| places.add(segment));
        let space = Space::new(config.max_size.0);
        let (used, stored) = places.bytes_by_need();
        space.measure(config.max_size.0, used, stored);
        Self {
            space,
            id,
            format,
            health,
            parts: Mutex::default(),
            config,
            claims: Claims::default(),
            notes: Notes::default(),
            places: Mutex::new(places),
            inbox: Inbox::default(),
            spill,
            supply: Supply::default(),
            bell: Bell::default(),
            adopted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            trouble: Mutex::default(),
            metrics: Metrics::default(),
        }
    }

    /// Identifies the queue in the table of lanes. It stays with the directory.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The records that are stored.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The longest that a request waits for the disk.
    pub fn patience(&self) -> Duration {
        self.config.disk_timeout.0
    }

    /// The oldest run that the directory has records of. Of earlier ones nothing is read any more.
    pub fn oldest_run(&self) -> Run {
        self.places().oldest_run()
    }

    /// PostgreSQL has the records `stored` of this queue, in a row with the stamp `anchor`, and from now on this process alone writes
    /// them. Called once, before the first batch is written. Returns the number of records that earlier runs have left.
    pub fn adopt(&self, stored: &Positions, anchor: i64) -> u64 {
        let mut settled = stored.clone();
        settled.add(&self.notes.dropped);
        let left = self.places().left_by_earlier_runs(&settled);
        self.claims.adopt(Positions::default(), stored, &[], anchor);
        self.adopted.store(true, Ordering::Release);
        self.bell.ring();
        left
    }

    /// PostgreSQL has lost the records `lost`. Returns how many of them are still on the disk; they are read from there again.
    pub fn send_again(&self, lost: &Positions) -> u64 {
        let places = self.places();
        self.spill.begin();
        self.bell.ring();
        places.readable_of(lost)
    }

    /// Another forebay has taken the queue over: no record is accepted any more. Returns whether that is news.
    pub fn fence(&self) -> bool {
        let is_news = !self.is_fenced();
        self.report(Trouble::Fenced, "another forebay has taken over this queue");
        is_news
    }

    /// Whether another forebay has taken the queue over.
    pub fn is_fenced(&self) -> bool {
        self.trouble().is_some_and(|(trouble, _)| trouble == Trouble::Fenced)
    }

    /// Why no record is accepted now, with a detail for people.
    pub fn trouble(&self) -> Option<(Trouble, String)> {
        lock(&self.trouble).as_ref().map(|(trouble, detail, _)| (*trouble, detail.clone()))
    }

    /// Why a request is refused before work is done for it. A little after each failure one is tried again.
    pub(super) fn refuses(&self) -> Option<Trouble> {
        lock(&self.trouble).as_ref().and_then(|(trouble, _, until)| {
            (*trouble == Trouble::Fenced || Instant::now() < *until).then_some(*trouble)
        })
    }

    /// Memory for `bytes` bytes of rows on their way to the disk, if all together take no more than `most`.
    pub(super) fn memory(&self, bytes: usize, most: usize) -> Option<InFlight> {
        self.inbox.memory(bytes, most)
    }

    /// The memory of rows on their way to the disk, in bytes.
    pub(super) fn in_flight(&self) -> usize {
        self.inbox.in_flight()
    }

    /// The bytes on disk that are used, and those that are free, with the rows on their way there.
    pub(super) fn space(&self) -> (u64, u64) {
        let ((used, free), arriving) = (self.space.now(), self.in_flight() as u64);
        (used + arriving, free.saturating_sub(arriving))
    }

    /// Notes how much space is used, of which segments are stored.
    fn measure(&self, places: &Places) {
        let (used, stored) = places.bytes_by_need();
        self.space.measure(self.config.max_size.0, used, stored);
    }

    /// Hands the rows of a request to the writer; returns where the answer comes.
    pub(super) fn append(
        &self,
        rows: Rows,
        left_out: Vec<(LossReason, Tally)>,
        counted: Option<Counted>,
        memory: Option<InFlight>,
        books: &Books,
    ) -> oneshot::Receiver<Appended> {
        let (reply, answer) = oneshot::channel();
        let Some(mut memory) = memory.filter(|_| !rows.is_empty()) else {
            left_out.iter().for_each(|(reason, records)| books.lose(*reason, records));
            let _ = reply.send(Appended::Durable);
            return answer;
        };
        memory.resize(rows.held_bytes());
        if let Err(append) = self.inbox.push(Append { rows, left_out, counted, reply, memory }) {
            books.reject(RejectReason::Draining, append.records());
            let _ = append.reply.send(Appended::Refused(RejectReason::Draining));
        }
        answer
    }

    pub(super) fn take_parts(&self) -> Option<(Directory, Log<Directory>)> {
        lock(&self.parts).take()
    }

    /// Takes no further request. The writer ends when all that wait are answered.
    pub fn close_writer(&self) {
        self.inbox.close();
    }

    /// Has the reader end. What is on the disk alone stays there.
    pub fn close_reader(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// The extent of the queue. Until PostgreSQL has said which records it has, the directory's note of them counts.
    pub fn extent(&self) -> Extent {
        let mut stored = self.claims.stored();
        if !self.adopted.load(Ordering::Acquire) {
            stored.add(&self.notes.stored);
        }
        self.places().extent(&stored)
    }

    /// The records `numbers` of `run` are never written.
    fn give_up(&self, run: Run, numbers: Range<u64>) {
        let mut positions = Positions::default();
        positions.insert(run, numbers);
        self.claims.give_up(&positions);
    }

    /// The records `numbers` of `run` are not in memory any more: they are stored, or on the disk alone.
    fn release(&self, run: Run, numbers: Range<u64>, is_kept: bool) {
        let mut places = self.places();
        places.release(run, numbers);
        if is_kept {
            self.spill.begin();
            self.bell.ring();
        }
    }

    fn report(&self, trouble: Trouble, detail: impl Into<String>) {
        let (mut current, detail) = (lock(&self.trouble), detail.into());
        // A fence is final.
        if current.as_ref().is_none_or(|(trouble, ..)| *trouble != Trouble::Fenced) {
            self.health.disk(Some(detail.clone()));
            *current = Some((trouble, detail, Instant::now() + RESPITE));
        }
    }

    fn recover(&self) {
        let mut current = lock(&self.trouble);
        if current.take_if(|(trouble, ..)| *trouble != Trouble::Fenced).is_some() {
            self.health.disk(None);
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        lock(&self.places)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
