//! Folding: while the buffer fills, one record stands for those that repeat it.
//!
//! The first record is stored as it is. Those that repeat it within a window are counted, and one more record is stored for them at the
//! window's end, with their number; its room is reserved with the first repeat. Nothing is hashed or folded while there is room.
//!
//! Counts are in memory only. So nothing is folded where an answer says more than that records are buffered: with a durable queue, and
//! where senders wait for the result.

pub mod config;
mod entry;
mod identity;
mod pass;
mod seen;
mod table;
mod template;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use self::config::FoldConfig;
pub use self::entry::{COUNT, Folded};
use self::entry::{Quota, Share};
use self::identity::Identity;
pub use self::pass::{FoldPass, FoundRepeats};
use self::seen::{PARTS, Seen};
use self::table::{Next, Table};
use super::budget::Budget;
use super::config::Overflow;
use super::reason::{DropReason, LossReason};
use super::reservation::{Reservation, Rest};
use super::room::Room;
use super::{Buffer, Full};
use crate::table::{Rows, Tally};

/// The repeated records of a buffer.
#[derive(Debug)]
pub(super) struct Folding {
    identity: Identity,
    window: Duration,
    seen: Seen,
    table: Table,
    /// The part of the buffer that may be reserved for folded records.
    share: Arc<Share>,
    pressed: AtomicBool,
    start: Instant,
}

impl Folding {
    /// No folded record is larger than its copy in an entry by more than this: times, number, and their names.
    const ADDED: usize = 1 << 10;
    /// All entries take at most this part of the buffer.
    const PART: usize = 16;

    pub(super) fn new(config: &FoldConfig, budget: &Budget) -> Self {
        let (records, bytes) = (budget.max_records() / Self::PART, budget.max_bytes() / Self::PART);
        Self {
            identity: Identity::new(config),
            window: config.window.0,
            seen: Seen::default(),
            table: Table::default(),
            share: Arc::new(Share::new(records, bytes)),
            pressed: AtomicBool::new(false),
            start: Instant::now(),
        }
    }

    /// Whether records are folded: from when less than half is free until three quarters are.
    fn is_pressed(&self, budget: &Budget) -> bool {
        let (records, bytes) = budget.held();
        let holds = |quarters| {
            4 * records > quarters * budget.max_records() || 4 * bytes > quarters * budget.max_bytes()
        };
        let before = self.pressed.load(Ordering::Relaxed);
        let now = holds(if before { 1 } else { 2 });
        if now != before {
            self.pressed.store(now, Ordering::Relaxed);
        }
        now
    }

    /// `now` in parts of a window.
    fn part(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_nanos();
        (since * u128::from(PARTS) / self.window.as_nanos().max(1)) as u64
    }
}

impl Buffer {
    /// Whether repeated records are to be folded now. Ask before room is reserved for the request.
    pub fn is_folding(&self) -> bool {
        self.fold.as_ref().is_some_and(|fold| fold.is_pressed(self.budget()))
    }

    /// The number of records that it holds; room that is reserved for folded records is not among them.
    pub fn held(&self) -> usize {
        let unused = self.fold.as_ref().map_or(0, |fold| fold.share.unused());
        self.budget().records().saturating_sub(unused)
    }

    /// Finds the repeats among the records of `request`, which arrives at `arrival` (nanoseconds since 1970). Room for folded records
    /// is taken from `reservation` if there is no other, and it is given.
    pub fn find_repeats<'a>(
        &'a self,
        request: &'a [u8],
        reservation: Option<&'a mut Reservation>,
        arrival: u64,
    ) -> Option<FoldPass<'a>> {
        Some(FoldPass::new(self, self.fold.as_ref()?, request, reservation, arrival))
    }

    /// Counts repeats, once the rows of their request are in the buffer.
    pub fn count_repeats(&self, repeats: FoundRepeats) {
        repeats.count(self.books());
    }

    /// The folded records whose window is over; with `all`, or if nothing is folded now, all of them. Their rows are to be put into
    /// their room by [`Buffer::enqueue_folded`].
    pub fn take_folded(&self, all: bool) -> Vec<Folded> {
        let Some(fold) = &self.fold else { return Vec::new() };
        let (all, now) = (all || !fold.is_pressed(self.budget()), Instant::now());
        fold.table.take(
            |entry| all || entry.until <= now,
            |entry| {
                if all || !entry.is_repeated() {
                    return Next::Ends;
                }
                let bytes = entry.room.bytes();
                let room = Quota::take(&fold.share, bytes).and_then(|quota| Some((self.room(bytes)?, quota)));
                room.map_or(Next::Stays, |room| Next::Follows(Box::new(entry.next(room, now + fold.window))))
            },
        )
    }

    /// Puts the row of `folded` into its room, or counts it among the `malformed`.
    pub fn enqueue_folded(&self, folded: Folded, rows: Rows, malformed: Tally) {
        let mut reservation = Reservation::new(folded.room, 1, Rest::Shed(DropReason::DropNewest));
        reservation.leave_out(LossReason::Malformed, malformed);
        let lost = rows.tally(0..rows.len());
        if let Err(Full) = self.enqueue(reservation, rows, None) {
            self.books().lose(LossReason::Dropped(DropReason::DropNewest), &lost);
        }
    }

    /// Room for one record of so many bytes, if need be that of a record with a `reservation`, or of older ones.
    fn room_for_one(&self, bytes: usize, reservation: Option<&mut Reservation>) -> Option<Room> {
        let of_older = || {
            let evicts = self.overflow() == Overflow::DropOldest && self.evict_bytes(bytes, 1);
            evicts.then(|| self.room(bytes)).flatten()
        };
        let of_request = || reservation?.room.split(bytes);
        self.room(bytes).or_else(of_request).or_else(of_older)
    }

    fn room(&self, bytes: usize) -> Option<Room> {
        Some(Room::reserve(self.ledger, 1, bytes)).filter(|room| room.records() == 1)
    }
}
