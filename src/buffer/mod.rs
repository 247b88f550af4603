//! The basin: a bounded buffer between the receivers and the writer lanes.
//!
//! [`Buffer::reserve`] and [`Buffer::enqueue`] never wait; what does not fit is shed by the [`Overflow`]
//! policy and counted. [`Buffer::take`] gives a lane the next batch. A batch is settled by its lane, which
//! is the only way out: the outcome is counted in [`Books`], then the room is free again.
//!
//! One [`Budget`] covers everything that is held, batches in flight included, and room travels with the
//! rows: dropping them frees it, so the gauges cannot drift.

mod batch;
pub mod books;
pub mod budget;
pub mod config;
mod ledger;
pub mod losses;
mod metrics;
mod queue;
mod reason;
mod receipt;
mod room;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use opentelemetry::metrics::Meter;
use tokio::sync::oneshot;

pub use batch::Batch;
use batch::Chunk;
pub use books::Books;
pub use budget::Budget;
use config::{BatchConfig, Overflow, QueueConfig};
use ledger::Ledger;
pub use losses::Loss;
use queue::Queue;
pub use reason::{DropReason, LossReason, RejectReason};
use receipt::Receipt;
pub use receipt::Settled;
use room::Room;

use crate::table::{ROW_OVERHEAD, Rows, Tally};

/// The bounded buffer.
#[derive(Debug)]
pub struct Buffer {
    ledger: &'static Ledger,
    queue: Queue,
    /// An [`Overflow`], by its number.
    overflow: AtomicU8,
}

/// Room for some or all records of a request.
#[derive(Debug)]
pub struct Reservation {
    room: Room,
    /// The first so many records of the request are to be queued: those that `room` is for, or, where the oldest give way
    /// for them, those for which room is made once it is known what they take.
    records: usize,
    /// These are all of the request's records.
    whole: bool,
    rest: Rest,
    /// Records of the request that are not among its rows.
    left_out: Vec<(LossReason, Tally)>,
}

/// The rows are larger than was estimated, the buffer has no room for that just now, and its policy is to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Records that were to be queued, and were dropped instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shed {
    /// There is no room for them.
    pub full: usize,
    /// Each of them is larger than the whole buffer.
    pub too_large: usize,
}

/// What happens to the records of a request for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They are shed, and the sender is told so.
    Shed(DropReason),
    /// The whole request is refused, because it fits as a whole a little later.
    Refused,
}

impl Buffer {
    /// An empty buffer.
    pub fn new(config: &QueueConfig, batch: &BatchConfig) -> Self {
        let ledger = Ledger::new(config.queue_size, config.max_bytes.bytes());
        Self {
            ledger,
            queue: Queue::new(ledger, batch, !config.enabled),
            overflow: AtomicU8::new(config.overflow as u8),
        }
    }

    /// Reserves room for a request of `records` records that has `wire_bytes` bytes on the wire. Never waits.
    ///
    /// Room for only some of them is reserved as well; [`Reservation::rest`] says what happens to the others.
    pub fn reserve(&self, records: usize, wire_bytes: usize) -> Reservation {
        // The bytes of the rows are known only after the work, which is not done for what is refused. So they
        // are estimated here and put right in `enqueue`.
        let (max_records, max_bytes) = (self.budget().max_records(), self.budget().max_bytes());
        let per_record = (wire_bytes + records * ROW_OVERHEAD).div_ceil(records.max(1));
        if records == 1 && per_record > max_bytes {
            return Reservation::new(self.no_room(), records, Rest::Shed(DropReason::TooLarge));
        }
        let fits_when_empty = records <= max_records && records * per_record <= max_bytes;
        // Where they do not fit, one of them may be the reason, which is not known yet: the others are not to go for it.
        let share = max_bytes / records.clamp(1, max_records.max(1));
        let each = if per_record <= share { per_record } else { share.min(ROW_OVERHEAD) };
        let room = Room::reserve(self.ledger, records, each);
        if room.records() < records {
            self.queue.press();
        }
        let overflow = self.overflow();
        if overflow == Overflow::Reject
            && room.records() < records
            && (fits_when_empty || room.records() == 0)
        {
            return Reservation::new(self.no_room(), records, Rest::Refused);
        }
        let mut reservation = Reservation::new(room, records, Rest::Shed(DropReason::DropNewest));
        if overflow == Overflow::DropOldest {
            // Nothing is dropped for records that may turn out to be malformed, or larger than the buffer.
            reservation.records = records.min(max_records);
            reservation.whole = reservation.records == records;
        }
        reservation
    }

    /// Enqueues `rows` in the room that was reserved for them. Never waits.
    ///
    /// A row that is larger than the whole buffer is dropped alone. Where the rows turn out larger than estimated and the
    /// buffer has no room for the difference, the last rows are shed; gives the numbers of both. `reply` is answered when the
    /// last of the rows is settled. The records that were shed or left out are counted here, or with that answer.
    ///
    /// # Errors
    ///
    /// [`Full`] in that case where the policy is to refuse and the rows would fit into an empty buffer: then none of
    /// them is taken, and nothing is counted.
    pub fn enqueue(
        &self,
        reservation: Reservation,
        mut rows: Rows,
        reply: Option<oneshot::Sender<Settled>>,
    ) -> Result<Shed, Full> {
        let Reservation { mut room, whole, mut left_out, .. } = reservation;
        let mut shed = Shed::default();
        // What was left out waits with the rows, where a sender does.
        let beside =
            if reply.is_some() { left_out.iter().map(|(_, records)| records.memory()).sum() } else { 0 };
        let most = self.budget().max_bytes().saturating_sub(beside);
        if rows.held_bytes() > most {
            let large = rows.take_larger(most);
            shed.too_large = large.total();
            left_out.push((LossReason::Dropped(DropReason::TooLarge), large));
        }
        // Decided before anything is cut: what is left of rows that never fit as a whole might.
        let fits_when_empty = whole && rows.held_bytes() <= most;
        if self.overflow() == Overflow::DropOldest {
            self.evict_for(&mut room, &rows, beside);
        }
        let mut cut = |rows: &mut Rows, len| {
            let cut = rows.truncate(len);
            shed.full += cut.total();
            left_out.push((LossReason::Dropped(DropReason::DropNewest), cut));
        };
        if rows.len() > room.records() {
            cut(&mut rows, room.records());
        }
        let mut rounds = 0;
        while !room.resize(rows.len(), rows.held_bytes() + beside) {
            self.queue.press();
            if self.overflow() == Overflow::Reject && fits_when_empty {
                return Err(Full);
            }
            // At most as many rows as the room has bytes for; one less where that is all of them. Where that does not help soon, it
            // is not the rows that are large.
            rounds += 1;
            let fitting = match rounds {
                1..=3 => rows.len() * room.bytes() / rows.held_bytes().max(1),
                _ => rows.len() / 2,
            };
            let len = fitting.min(rows.len().saturating_sub(1));
            cut(&mut rows, len);
        }
        let books = &self.ledger.books;
        if reply.is_none() {
            left_out.drain(..).for_each(|(reason, records)| books.lose(reason, &records));
        }
        let receipt = reply.map(|reply| Receipt::new(books, left_out, reply));
        if !rows.is_empty() {
            self.queue.push(Chunk::new(rows, room, receipt));
        }
        Ok(shed)
    }

    /// The next batch, as soon as one is due; `None` once the buffer is closed and empty.
    pub async fn take(&self) -> Option<Batch> {
        self.queue.take().await
    }

    /// Ends the waiting for full batches: [`Buffer::take`] gives what is left, then `None`.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Whether the waiting for full batches has ended.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Gives up everything that waits, as undelivered.
    pub fn abandon(&self) {
        while let Some(chunk) = self.queue.pop_oldest(usize::MAX) {
            chunk.shed(DropReason::Undelivered);
        }
    }

    /// From now on batches are due by `batch`.
    pub fn set_batch(&self, batch: &BatchConfig) {
        self.queue.set_pace(batch);
    }

    /// From now on `overflow` says what happens to records for which there is no room.
    pub fn set_overflow(&self, overflow: Overflow) {
        self.overflow.store(overflow as u8, Ordering::Relaxed);
    }

    /// Has what waits written at once.
    pub fn hurry(&self) {
        self.queue.press();
    }

    /// Sheds the records that have waited longest until `bytes` of rows are given back, where that is the policy.
    pub fn shed_oldest(&self, bytes: u64) {
        let before = self.budget().bytes() as u64;
        while self.overflow() == Overflow::DropOldest
            && before.saturating_sub(self.budget().bytes() as u64) < bytes
            && self.evict_bytes(1, 1)
        {}
    }

    /// How full the buffer is.
    pub fn budget(&self) -> &Budget {
        &self.ledger.budget
    }

    /// Whether at least half of it is free, by records and by bytes.
    pub fn has_room(&self) -> bool {
        let budget = self.budget();
        budget.records() <= budget.max_records() / 2 && budget.bytes() <= budget.max_bytes() / 2
    }

    /// What became of the records.
    pub fn books(&self) -> &Books {
        &self.ledger.books
    }

    /// Registers the buffer's instruments with `meter`.
    pub fn observe(self: &Arc<Self>, meter: &Meter) {
        metrics::register(self, meter);
    }

    fn overflow(&self) -> Overflow {
        Overflow::from_repr(self.overflow.load(Ordering::Relaxed)).unwrap_or(Overflow::DropNewest)
    }

    /// Sheds the oldest records until `room` is for `rows` and the bytes `beside` them, or nothing is left to shed: everything
    /// that is held is being written. None is shed where not even the first row would fit then.
    fn evict_for(&self, room: &mut Room, rows: &Rows, beside: usize) {
        if rows.is_empty() {
            return;
        }
        let (needed, least) = (rows.held_bytes() + beside, rows.bytes_alone(0) + beside);
        loop {
            let missing = room.fill(needed);
            if missing == 0 || !self.evict_bytes(missing, least.saturating_sub(room.bytes())) {
                break;
            }
        }
        loop {
            let missing = rows.len().saturating_sub(room.records());
            room.grow(missing, 0);
            let missing = rows.len().saturating_sub(room.records());
            if missing == 0 || room.bytes() < least || !self.evict_records(missing) {
                return;
            }
        }
    }

    fn evict_records(&self, most: usize) -> bool {
        self.queue.pop_oldest(most).map(|chunk| chunk.shed(DropReason::DropOldest)).is_some()
    }

    /// Sheds the oldest chunks until `wanted` bytes are free, and none where `least` are not to be had. The memory of their rows
    /// is free with the last of them only, so that less would not help.
    fn evict_bytes(&self, wanted: usize, least: usize) -> bool {
        let chunks = self.queue.pop_unshared(wanted, least.max(1));
        let evicted = !chunks.is_empty();
        chunks.into_iter().for_each(|chunk| chunk.shed(DropReason::DropOldest));
        evicted
    }

    fn no_room(&self) -> Room {
        Room::reserve(self.ledger, 0, 0)
    }
}

impl Reservation {
    /// For as many of a request's `records` as there is `room` for.
    fn new(room: Room, records: usize, rest: Rest) -> Self {
        let whole = room.records() == records;
        Self { records: room.records(), room, whole, rest, left_out: Vec::new() }
    }

    /// Records of the request are not among its rows. They are counted with the rows, once it is known whether the sender
    /// is told not to send them again.
    pub fn leave_out(&mut self, reason: LossReason, records: Tally) {
        if records.total() > 0 {
            self.left_out.push((reason, records));
        }
    }

    /// How many records there is room for, or will be; they are the first of the request.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The bytes that are reserved for their rows.
    pub fn bytes(&self) -> usize {
        self.room.bytes()
    }

    /// What happens to the others.
    pub fn rest(&self) -> Rest {
        self.rest
    }
}
