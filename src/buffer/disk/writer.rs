//! The writer: one thread that appends what all waiting requests have, in one write and one sync, and then answers them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::Files;
use super::inbox::{Append, Appended};
use super::log::{AppendError, Log, LogAppend};
use super::{DurableQueue, Position, Trouble};
use crate::buffer::batch::Chunk;
use crate::buffer::config::Overflow;
use crate::buffer::ledger::Ledger;
use crate::buffer::queue::Queue;
use crate::buffer::reason::{DropReason, LossReason, RejectReason};
use crate::buffer::room::Room;
use crate::table::Rows;

/// The most bytes of rows in one write, unless one request has more.
const GROUP: usize = 4 << 20;
/// The time between two looks whether a trouble has passed, while no request comes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The bytes that are written for that.
const PROBE: usize = 64 << 10;
/// The time between two looks at the free space of the file system.
const LOOK: Duration = Duration::from_millis(250);

/// The writer's own state.
pub(in crate::buffer) struct Writer<'a, F: Files> {
    pub(in crate::buffer) durable: &'a Arc<DurableQueue>,
    pub(in crate::buffer) ledger: &'static Ledger,
    /// The records in memory, for the lanes.
    pub(in crate::buffer) arriving: &'a Queue,
    pub(in crate::buffer) overflow: &'a dyn Fn() -> Overflow,
    pub(in crate::buffer) files: F,
    pub(in crate::buffer) log: Log<F>,
    /// The bytes that the file system had to spare at the last look.
    pub(in crate::buffer) spare: Option<(Instant, u64)>,
}

impl<F: Files> Writer<'_, F> {
    /// Writes until the queue takes no further request, and all are answered.
    pub(in crate::buffer) fn run(mut self) {
        while let Some(mut group) = self.durable.inbox.take(GROUP, LOOK_AGAIN) {
            for given_up in group.extract_if(.., |append| append.reply.is_closed()) {
                // Its sender sends it again.
                self.refuse(given_up, RejectReason::Unavailable);
            }
            if self.durable.is_fenced() {
                group.into_iter().for_each(|append| self.refuse(append, RejectReason::Disk));
            } else if !group.is_empty() {
                self.write(group);
            } else {
                self.look_again();
            }
        }
        if let Err(error) = self.log.seal() {
            tracing::warn!(%error, "cannot seal the last segment of the durable queue; the next start reads it through");
        }
    }

    /// Ends a trouble that has passed. No request may come to find that out, because nobody sends to a gateway that is not ready.
    fn look_again(&mut self) {
        if self.durable.trouble().is_some() && self.has_space(PROBE as u64) && self.log.takes(PROBE) {
            self.durable.recover();
        }
    }

    fn write(&mut self, group: Vec<Append>) {
        let bytes = group.iter().map(|append| append.rows.bytes().len() as u64).sum();
        if !self.makes_space(bytes) {
            return self.overflow(group, "max_size or min_free is reached");
        }
        let (mut failures, mut was_full) = (0, false);
        loop {
            let rows: Vec<&Rows> = group.iter().map(|append| &append.rows).collect();
            let begun = Instant::now();
            match self.log.append(&rows) {
                Ok(appended) => {
                    self.durable.metrics.synced(begun.elapsed());
                    self.durable.recover();
                    return self.complete(group, appended);
                }
                Err(AppendError::Full(error)) => {
                    self.spare = None;
                    // Once: records are not dropped one after the other for a file system that others fill.
                    if was_full || !self.frees_space() {
                        return self.overflow(group, &error.to_string());
                    }
                    was_full = true;
                }
                Err(AppendError::Io(error)) => {
                    tracing::error!(%error, "cannot write the durable queue; a new file is begun");
                    failures += 1;
                    // A file that failed is not written again. The second attempt is on a new one.
                    if failures == 2 {
                        self.durable.report(Trouble::Failed, error.to_string());
                        return group.into_iter().for_each(|append| self.refuse(append, RejectReason::Disk));
                    }
                }
            }
        }
    }

    /// The rows are on stable storage: queues those for which memory has room, and answers the senders.
    fn complete(&self, group: Vec<Append>, appended: LogAppend) {
        let durable = self.durable;
        let mut replies = Vec::with_capacity(group.len());
        let mut places = durable.places();
        appended.begun.into_iter().for_each(|segment| places.begin(segment));
        let mut bytes = appended.bytes;
        let row_bytes: u64 = group.iter().map(|append| append.rows.bytes().len() as u64).sum();
        for (append, first) in group.into_iter().zip(appended.firsts) {
            let Append { rows, left_out, counted, reply, memory } = append;
            left_out.iter().for_each(|(reason, records)| self.ledger.books.lose(*reason, records));
            let end = first + rows.len() as u64;
            let records = rows.len() as u64;
            places.grow(appended.run, first, records, std::mem::take(&mut bytes), appended.time);
            // Zeros that fill up blocks belong to all rows of the group.
            let part = appended.bytes * rows.bytes().len() as u64 / row_bytes.max(1);
            places.share(&self.ledger.shares, (appended.run, first), &rows, part);
            drop(counted);
            if let Some(room) = self.room_for(&rows) {
                places.hold(appended.run, first..end);
                let position = Position { queue: durable.clone(), run: appended.run, first };
                let range = 0..rows.len();
                self.arriving.push(Chunk::durable(rows, room, position, range));
            } else {
                durable.spill.begin();
                durable.bell.ring();
            }
            drop(memory);
            replies.push(reply);
        }
        durable.measure(&places);
        drop(places);
        for reply in replies {
            // A sender that has just left sends again, and the records are stored twice.
            let _ = reply.send(Appended::Durable);
        }
    }

    /// Room in memory for all of `rows`, if there is.
    fn room_for(&self, rows: &Rows) -> Option<Room> {
        let (records, bytes) = (rows.len(), rows.held_bytes());
        if !self.durable.spill.admits(&self.ledger.budget, records, bytes) {
            return None;
        }
        let mut room = Room::reserve(self.ledger, records, 0);
        (room.records() == records && room.resize(records, bytes)).then_some(room)
    }

    /// Whether there is space for `bytes`, perhaps after segments are removed.
    fn makes_space(&mut self, bytes: u64) -> bool {
        while !self.has_space(bytes) {
            self.spare = None;
            if !self.frees_space() {
                return false;
            }
        }
        true
    }

    /// Removes stored segments, or under `drop_oldest` the oldest one. Returns `false` if there are none.
    fn frees_space(&self) -> bool {
        self.durable.remove_stored(&self.files, Duration::ZERO) > 0
            || ((self.overflow)() == Overflow::DropOldest
                && self.durable.drop_oldest(&self.files, self.ledger))
    }

    fn has_space(&mut self, bytes: u64) -> bool {
        let config = &self.durable.config;
        if self.durable.places().bytes() + bytes > config.max_size.0 {
            return false;
        }
        let (looked, spare) = match self.spare {
            Some(looked) if looked.0.elapsed() < LOOK => looked,
            _ => (
                Instant::now(),
                self.files
                    .space()
                    .map_or(u64::MAX, |space| space.free.saturating_sub(config.kept_free(space.total))),
            ),
        };
        self.durable.space.spares(spare);
        self.spare = Some((looked, spare.saturating_sub(bytes)));
        spare >= bytes
    }

    /// The disk has no space for `group`: what happens then is the overflow policy.
    fn overflow(&self, group: Vec<Append>, why: &str) {
        self.durable.report(Trouble::Full, why);
        for append in group {
            if (self.overflow)() == Overflow::Reject {
                self.refuse(append, RejectReason::Full);
                continue;
            }
            let Append { rows, left_out, reply, .. } = append;
            let reason = LossReason::Dropped(DropReason::DropNewest);
            self.ledger.books.lose(reason, &rows.tally(0..rows.len()));
            left_out.iter().for_each(|(reason, records)| self.ledger.books.lose(*reason, records));
            let _ = reply.send(Appended::Dropped);
        }
    }

    fn refuse(&self, append: Append, reason: RejectReason) {
        self.ledger.books.reject(reason, append.records());
        let _ = append.reply.send(Appended::Refused(reason));
    }
}
