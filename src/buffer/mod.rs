//! The bounded buffer between the receivers and the writer lanes.
//!
//! [`Buffer::reserve`] and [`Buffer::enqueue`] never wait; records that do not fit are dropped or refused by the
//! [`Overflow`] policy, and counted. [`Buffer::take`] gives a lane the next batch. The lane settles it: the outcome is
//! counted in [`Books`], then the room is free again.
//!
//! One [`Budget`] covers all buffered records, including batches being written. Room belongs to the rows: dropping them
//! frees it, so the gauges cannot drift.

mod batch;
pub mod books;
pub mod budget;
pub mod config;
pub mod disk;
mod durable;
mod fair;
pub mod fold;
mod ledger;
pub mod losses;
mod metrics;
mod queue;
mod reason;
mod receipt;
mod reservation;
mod room;
#[cfg(test)]
pub(crate) mod samples;
pub mod share;
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
use config::{BatchConfig, Beyond, Overflow, QueueConfig, Weights};
use disk::DurableQueue;
pub use fair::FairGate;
use fold::Folding;
use ledger::Ledger;
pub use losses::Loss;
use queue::Queue;
pub use reason::{DropReason, LossReason, RejectReason};
use receipt::Receipt;
pub use receipt::Settled;
pub use reservation::{Reservation, Rest};
use room::Room;

use crate::table::{ROW_OVERHEAD, Rows};

/// The bounded buffer.
#[derive(Debug)]
pub struct Buffer {
    ledger: &'static Ledger,
    queue: Queue,
    durable: Option<Arc<DurableQueue>>,
    /// `None` if nothing is ever folded.
    fold: Option<Folding>,
    /// An [`Overflow`], by its number.
    overflow: AtomicU8,
    /// With [`Overflow::Fair`], the policy for records beyond a share.
    beyond: AtomicU8,
}

/// The rows are larger than estimated, they do not fit now, and the policy is to refuse.
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

impl Buffer {
    /// An empty buffer.
    pub fn new(config: &QueueConfig, batch: &BatchConfig) -> Self {
        let ledger = Ledger::new(config);
        Self {
            ledger,
            queue: Queue::new(ledger, batch, !config.enabled),
            durable: None,
            fold: (config.enabled && config.fold.enabled).then(|| Folding::new(&config.fold, &ledger.budget)),
            overflow: AtomicU8::new(config.overflow as u8),
            beyond: AtomicU8::new(Overflow::from(config.fairness.beyond) as u8),
        }
    }

    /// Reserves room for a request of `records` records that has `wire_bytes` bytes on the wire. Never waits.
    ///
    /// The room may be for only some of them; [`Reservation::rest`] says what happens to the others.
    pub fn reserve(&self, records: usize, wire_bytes: usize) -> Reservation {
        // The size of the rows is known only after transcoding, which is not done for refused records. So it is
        // estimated here and corrected in `enqueue`.
        let (max_records, max_bytes) = (self.budget().max_records(), self.budget().max_bytes());
        let per_record = (wire_bytes + records * ROW_OVERHEAD).div_ceil(records.max(1));
        if records == 1 && per_record > max_bytes {
            return Reservation::new(self.no_room(), records, Rest::Shed(DropReason::TooLarge));
        }
        if let Some(durable) = &self.durable {
            return self.reserve_in_flight(durable, records, records * per_record);
        }
        if self.overflow() == Overflow::Fair {
            return self.reserve_fairly(records, records * per_record);
        }
        let fits_when_empty = records <= max_records && records * per_record <= max_bytes;
        // If they do not fit, one large record may be the cause, which is not known yet. The others should not be dropped for it.
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
            return Reservation::new(self.no_room(), records, Rest::Refused(RejectReason::Full));
        }
        let mut reservation = Reservation::new(room, records, Rest::Shed(DropReason::DropNewest));
        if overflow == Overflow::DropOldest {
            // Nothing is evicted yet: the new records may turn out to be malformed, or larger than the buffer.
            reservation.records = records.min(max_records);
            reservation.whole = reservation.records == records;
        }
        reservation
    }

    /// Enqueues `rows` in the room that was reserved for them. Never waits.
    ///
    /// A row that is larger than the whole buffer is dropped alone. If the rows are larger than estimated and the difference
    /// does not fit, the last rows are dropped; returns the numbers of both. `reply` is answered when the last of the rows is
    /// settled. Records that were dropped or left out are counted here, or with that answer.
    ///
    /// # Errors
    ///
    /// [`Full`] if the rows do not fit, the policy is to refuse, and they would fit into an empty buffer. Then none of them is
    /// queued, and nothing is counted.
    pub fn enqueue(
        &self,
        reservation: Reservation,
        mut rows: Rows,
        reply: Option<oneshot::Sender<Settled>>,
    ) -> Result<Shed, Full> {
        // The gate's counts are given back once the rows are counted.
        let Reservation { mut room, whole, mut left_out, counted: _counted, .. } = reservation;
        let mut shed = Shed::default();
        // If a sender waits for the result, the counts of left-out records stay in memory with the rows.
        let beside =
            if reply.is_some() { left_out.iter().map(|(_, records)| records.memory()).sum() } else { 0 };
        let most = self.budget().max_bytes().saturating_sub(beside);
        if rows.held_bytes() > most {
            let large = rows.take_larger(most);
            shed.too_large = large.total();
            left_out.push((LossReason::Dropped(DropReason::TooLarge), large));
        }
        // Decided before rows are cut: the remaining ones might fit even if all never do.
        let fits_when_empty = whole && rows.held_bytes() <= most;
        if self.overflow() == Overflow::DropOldest {
            self.evict_for(&mut room, &rows, beside);
        }
        let mut cut = |rows: &mut Rows, len| {
            let cut = self.cut(rows, len);
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
            // Keeps as many rows as the room has bytes for, and at least one less than before. If that does not help soon, the
            // memory is not in the rows, and half of them go.
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

    /// The next batch for the only lane.
    pub async fn take(&self) -> Option<Batch> {
        self.take_for(0, 1).await
    }

    /// The next batch for `lane` of `lanes`, as soon as one is due; `None` once the buffer is closed and empty. What is on the disk
    /// alone stays there then.
    pub async fn take_for(&self, lane: usize, lanes: usize) -> Option<Batch> {
        match &self.durable {
            None => self.queue.take().await,
            Some(durable) => durable.take(&self.queue, lane, lanes).await,
        }
    }

    /// Closes the buffer: [`Buffer::take`] gives what is left at once, then `None`.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Drops all waiting records as undelivered.
    pub fn abandon(&self) {
        while let Some(chunk) = self.queue.pop_oldest(usize::MAX) {
            chunk.shed(DropReason::Undelivered);
        }
    }

    /// Changes when batches are due, and how large they are.
    pub fn set_batch(&self, batch: &BatchConfig) {
        self.queue.set_pace(batch);
    }

    /// Changes the overflow policy.
    pub fn set_overflow(&self, overflow: Overflow) {
        self.overflow.store(overflow as u8, Ordering::Relaxed);
    }

    /// Changes what fair shares are, and what happens beyond them. [`config::Fairness::by`] stays as it was at the start.
    pub fn set_fairness(&self, weights: &Weights, beyond: Beyond) {
        self.shares().set_weights(weights);
        self.beyond.store(Overflow::from(beyond) as u8, Ordering::Relaxed);
    }

    /// Makes the waiting records due at once.
    pub fn hurry(&self) {
        self.queue.press();
    }

    /// Under `drop_oldest`, drops the oldest waiting records until `bytes` of rows are freed.
    pub fn shed_oldest(&self, bytes: u64) {
        let before = self.budget().bytes() as u64;
        // Records of a durable queue stay on the disk.
        while (self.overflow() == Overflow::DropOldest || self.durable.is_some())
            && before.saturating_sub(self.budget().bytes() as u64) < bytes
            && self.evict_bytes(1, 1)
        {}
    }

    /// The buffer's limits and level.
    pub fn budget(&self) -> &Budget {
        &self.ledger.budget
    }

    /// Whether at least half of it is free, by records and by bytes.
    pub fn has_room(&self) -> bool {
        let budget = self.budget();
        budget.records() <= budget.max_records() / 2 && budget.bytes() <= budget.max_bytes() / 2
    }

    /// The queue on disk, if there is one.
    pub fn durable(&self) -> Option<&Arc<DurableQueue>> {
        self.durable.as_ref()
    }

    /// The outcomes of the records.
    pub fn books(&self) -> &Books {
        &self.ledger.books
    }

    /// Registers the buffer's instruments with `meter`.
    pub fn observe(self: &Arc<Self>, meter: &Meter) {
        metrics::register(self, meter);
        if let Some(durable) = &self.durable {
            durable.observe(meter);
        }
    }

    fn overflow(&self) -> Overflow {
        Overflow::from_repr(self.overflow.load(Ordering::Relaxed)).unwrap_or(Overflow::Fair)
    }

    /// The policy for records that do not fit, of any sender.
    fn policy(&self) -> Overflow {
        match self.overflow() {
            Overflow::Fair => self.beyond(),
            policy => policy,
        }
    }

    fn beyond(&self) -> Overflow {
        Overflow::from_repr(self.beyond.load(Ordering::Relaxed)).unwrap_or(Overflow::DropNewest)
    }

    /// Drops the oldest records until `room` is large enough for `rows` and the bytes `beside` them, or until all buffered
    /// records are being written. Drops none if not even the first row would fit then.
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

    /// Drops the oldest chunks until `wanted` bytes are free, and none if fewer than `least` can be freed. Whole chunks, because
    /// the memory of a chunk is freed with its last row.
    fn evict_bytes(&self, wanted: usize, least: usize) -> bool {
        let chunks = self.queue.pop_unshared(wanted, least.max(1));
        let evicted = !chunks.is_empty();
        let reason = if self.durable.is_some() { DropReason::Undelivered } else { DropReason::DropOldest };
        chunks.into_iter().for_each(|chunk| chunk.shed(reason));
        evicted
    }

    fn no_room(&self) -> Room {
        Room::reserve(self.ledger, 0, 0)
    }
}
