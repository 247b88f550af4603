//! Room for the records of a request, before they are made into rows.

use super::disk::InFlight;
use super::reason::{DropReason, LossReason, RejectReason};
use super::room::Room;
use super::share::Counted;
use crate::table::Tally;

/// Room for some or all records of a request.
#[derive(Debug)]
pub struct Reservation {
    pub(super) room: Room,
    /// The number of the request's first records to be queued: as many as `room` is for, or, under `drop_oldest`, those
    /// for which room is made once their size is known.
    pub(super) records: usize,
    /// These are all of the request's records.
    pub(super) whole: bool,
    pub(super) rest: Rest,
    /// Memory for the rows until they are on the disk, in place of `room`.
    pub(super) in_flight: Option<InFlight>,
    /// The records that the gate has admitted, if it decides about each.
    pub(super) counted: Option<Counted>,
    /// Records of the request that are not among its rows.
    pub(super) left_out: Vec<(LossReason, Tally)>,
}

/// The outcome of records of a request that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They are dropped, and the answer to the sender says so.
    Shed(DropReason),
    /// The whole request is refused, because it fits as a whole later.
    Refused(RejectReason),
}

impl Reservation {
    /// For as many of a request's `records` as there is `room` for.
    pub(super) fn new(room: Room, records: usize, rest: Rest) -> Self {
        let whole = room.records() == records;
        let (records, in_flight, counted, left_out) = (room.records(), None, None, Vec::new());
        Self { records, room, whole, rest, in_flight, counted, left_out }
    }

    /// Notes records of the request that are not among its rows. They are counted with the rows, once it is known whether the
    /// sender will send them again.
    pub fn leave_out(&mut self, reason: LossReason, records: Tally) {
        if records.total() > 0 {
            self.left_out.push((reason, records));
        }
    }

    /// The number of the request's first records that there is room for, or will be.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The bytes that are reserved for their rows.
    pub fn bytes(&self) -> usize {
        self.in_flight.as_ref().map_or(self.room.bytes(), InFlight::bytes)
    }

    /// The outcome of the others.
    pub fn rest(&self) -> Rest {
        self.rest
    }
}
