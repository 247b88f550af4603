//! The buffer with a durable queue: rows go to the disk first, and are queued in memory where it has room.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::batch::Chunk;
use super::config::Overflow;
use super::disk::{Appended, DurableQueue, Files, Log, Position, Reader, Run, Trouble, Writer};
use super::reason::{DropReason, LossReason, RejectReason};
use super::reservation::{Reservation, Rest};
use super::share::Counted;
use super::{Buffer, Shed};
use crate::table::{RowFormat, Rows};

impl Buffer {
    /// This buffer, with records in the durable `queue` as well. Nothing is folded: what is answered is on the disk, and counts are not.
    #[must_use]
    pub fn durably(self, queue: impl Into<Arc<DurableQueue>>) -> Self {
        Self { durable: Some(queue.into()), fold: None, ..self }
    }

    /// Writer and reader of the durable queue, each to be run by a thread of its own until it is closed; none without a queue.
    pub fn disk_threads(self: &Arc<Self>) -> Option<[Box<dyn FnOnce() + Send>; 2]> {
        let (files, log) = self.durable.as_ref()?.take_parts()?;
        let (writing, reading, files_of_reader) = (self.clone(), self.clone(), files.clone());
        let write = move || writing.write_to_disk(files, log);
        let read = move || reading.read_back(files_of_reader);
        Some([Box::new(write), Box::new(read)])
    }

    pub(super) fn write_to_disk<F: Files>(&self, files: F, log: Log<F>) {
        if let Some(durable) = &self.durable {
            let (ledger, arriving, overflow) = (self.ledger, &self.queue, &|| self.policy());
            Writer { durable, ledger, arriving, overflow, files, log, spare: None }.run();
        }
    }

    pub(super) fn read_back<F: Files>(&self, files: F) {
        if let Some(durable) = &self.durable {
            Reader::new(durable, self.ledger, &self.queue, files).run();
        }
    }

    /// Enqueues `rows`, which have positions from `position` on and this `format`, for tests of what writes them.
    #[doc(hidden)]
    pub fn put_at(&self, rows: Rows, (run, first): (Run, u64), format: Option<Arc<RowFormat>>) {
        let queue = self.durable.clone().expect("there is a durable queue");
        let (mut room, len) = (self.no_room(), rows.len());
        assert!(room.fill(rows.held_bytes()) == 0, "there is room for the bytes");
        room.grow(len, 0);
        self.ledger.books.receive(len);
        let position = Position { queue, run, first };
        self.queue.push(Chunk::durable(rows, room, position, 0..len).in_format(format));
    }

    /// The memory of all rows that it has, in bytes: those that are buffered, and those on their way to the disk.
    pub fn memory(&self) -> usize {
        self.budget().bytes() + self.durable().map_or(0, |durable| durable.in_flight())
    }

    /// Reserves memory for rows on their way to the disk, which are there for a moment only.
    pub(super) fn reserve_in_flight(
        &self,
        durable: &DurableQueue,
        records: usize,
        bytes: usize,
    ) -> Reservation {
        let nothing = |rest| Reservation::new(self.no_room(), records, rest);
        match durable.refuses() {
            Some(Trouble::Full) if self.policy() != Overflow::Reject => {
                return nothing(Rest::Shed(DropReason::DropNewest));
            }
            Some(Trouble::Full) => return nothing(Rest::Refused(RejectReason::Full)),
            Some(Trouble::Failed | Trouble::Fenced) => return nothing(Rest::Refused(RejectReason::Disk)),
            None => {}
        }
        let Some(in_flight) = durable.memory(bytes, self.budget().max_bytes()) else {
            return nothing(Rest::Refused(RejectReason::Disk));
        };
        let (used, free) = durable.space();
        // While what is used is at most what is free, the rule admits every record.
        let counted = (self.overflow() == Overflow::Fair && used > free).then(|| Counted::new(self.shares()));
        let reservation = nothing(Rest::Shed(DropReason::DropNewest));
        Reservation { records, whole: true, in_flight: Some(in_flight), counted, ..reservation }
    }

    /// Hands `rows` to the writer of the durable queue. Returns the numbers of those that were dropped for their size, and where the
    /// answer comes. If nobody waits for that when the writer begins, the request counts as rejected.
    pub fn append(
        &self,
        durable: &DurableQueue,
        reservation: Reservation,
        mut rows: Rows,
    ) -> (Shed, oneshot::Receiver<Appended>) {
        let Reservation { in_flight, mut left_out, counted, .. } = reservation;
        let mut shed = Shed::default();
        if rows.held_bytes() > self.budget().max_bytes() {
            let large = rows.take_larger(self.budget().max_bytes());
            shed.too_large = large.total();
            left_out.push((LossReason::Dropped(DropReason::TooLarge), large));
        }
        (shed, durable.append(rows, left_out, counted, in_flight, &self.ledger.books))
    }
}
