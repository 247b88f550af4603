//! The buffer with fair shares: the gate that admits the records of a request one by one.

use std::collections::BTreeSet;

use super::Buffer;
use super::config::Overflow;
use super::disk::InFlight;
use super::reason::{DropReason, LossReason, RejectReason};
use super::reservation::{Reservation, Rest};
use super::room::Room;
use super::share::{Amount, Band, Counted, Holder, Shares};
use crate::table::{Candidate, Gate, ROW_OVERHEAD, Rows, Severity, Tally, Transcoded, Verdict};
use crate::telemetry::LargeSender;

/// The oldest requests that are looked through to make room for one record.
const LOOKS: usize = 1_024;
/// The senders on the health page.
const SHOWN: usize = 10;

/// Admits records while their senders hold no more than their shares.
#[derive(Debug)]
pub struct FairGate<'a> {
    buffer: &'a Buffer,
    bound: Bound<'a>,
    counted: &'a mut Counted,
    /// Waiting records of lower bands may give way to WARN and ERROR.
    evicts: bool,
    /// The lanes know that room is short.
    has_pressed: bool,
}

/// The bound whose free part senders share.
#[derive(Debug)]
enum Bound<'a> {
    Memory(&'a mut Room),
    /// The bytes of the disk that are free.
    Disk(u64),
}

impl Buffer {
    /// The shares of the senders.
    pub fn shares(&self) -> &'static Shares {
        &self.ledger.shares
    }

    /// The part of the buffer that is not free, from 0 to 1: by records or by bytes, whichever is larger; of a durable queue, by
    /// bytes on disk.
    pub fn pressure(&self) -> f64 {
        if let Some(durable) = &self.durable {
            let (used, free) = durable.space();
            return used as f64 / (used + free).max(1) as f64;
        }
        let budget = self.budget();
        let part = |held: usize, most: usize| held as f64 / most.max(1) as f64;
        part(budget.records(), budget.max_records()).max(part(budget.bytes(), budget.max_bytes()))
    }

    /// The senders that hold the most, while more than half of the buffer is taken; for the health page.
    pub fn largest_senders(&self) -> Vec<LargeSender> {
        if self.pressure() <= 0.5 {
            return Vec::new();
        }
        let shown =
            |Holder { name, held }| LargeSender { service: name, records: held.records, bytes: held.bytes };
        self.shares().largest(SHOWN).into_iter().map(shown).collect()
    }

    /// The number of senders that hold more than their share in a band.
    pub(super) fn senders_over_share(&self) -> usize {
        self.shares().over(match &self.durable {
            Some(durable) => Amount { records: u64::MAX, bytes: durable.space().1 },
            None => {
                let (records, bytes) = self.budget().free_now();
                Amount { records: records as u64, bytes: bytes as u64 }
            }
        })
    }

    /// Reserves room for `records` records of `bytes` bytes. If there is plenty, for all of them: while what is held is at most what is
    /// free, the rule admits every record. Otherwise the gate decides about each.
    pub(super) fn reserve_fairly(&self, records: usize, bytes: usize) -> Reservation {
        let mut room = self.no_room();
        if room.grow_while_half_is_free(records, bytes) {
            return Reservation::new(room, records, Rest::Shed(DropReason::DropNewest));
        }
        let free = self.budget().free_now();
        let beyond = self.beyond();
        if beyond != Overflow::DropOldest && (free.0 == 0 || free.1 <= ROW_OVERHEAD) {
            self.queue.press();
            let rest = match beyond {
                Overflow::Reject => Rest::Refused(RejectReason::Full),
                _ => Rest::Shed(DropReason::DropNewest),
            };
            return Reservation::new(room, records, rest);
        }
        let counted = Some(Counted::new(self.shares()));
        let reservation = Reservation::new(room, records, Rest::Shed(DropReason::Share));
        Reservation { records, whole: true, counted, ..reservation }
    }

    /// The gate for the records of `reservation`; none where all of them are admitted.
    pub fn gate<'a>(&'a self, reservation: &'a mut Reservation) -> Option<FairGate<'a>> {
        let Reservation { room, counted, in_flight, .. } = reservation;
        let counted = counted.as_mut()?;
        // On the disk, records are removed by whole segments.
        let evicts = self.beyond() == Overflow::DropOldest && self.durable.is_none();
        let bound = match &self.durable {
            None => Bound::Memory(room),
            // Memory is taken for these records already, and the rule is about what was free before.
            Some(durable) => {
                Bound::Disk(durable.space().1 + in_flight.as_ref().map_or(0, InFlight::bytes) as u64)
            }
        };
        Some(FairGate { buffer: self, bound, counted, evicts, has_pressed: false })
    }

    /// Whether a request is to be refused as a whole, because none of its records is within the shares of their senders.
    pub fn refuses(&self, reservation: &Reservation, transcoded: &Transcoded<'_>) -> bool {
        let is_admitted = !transcoded.rows.is_empty() || transcoded.folded.total() > 0;
        reservation.counted.is_some()
            && self.beyond() == Overflow::Reject
            && !is_admitted
            && transcoded.shed.total() > 0
    }

    /// Keeps `len` of `rows`, of which more do not fit: with fair shares those of the highest bands, otherwise the first ones. Returns
    /// the services and severities of the others.
    pub(super) fn cut(&self, rows: &mut Rows, len: usize) -> Tally {
        if self.overflow() != Overflow::Fair {
            return rows.truncate(len);
        }
        let mut order: Vec<_> = (0..rows.len()).rev().collect();
        order.sort_by_key(|row| Band::of(rows.severity(*row)));
        let cut: BTreeSet<_> = order.into_iter().take(rows.len().saturating_sub(len)).collect();
        let tally = rows.tally(cut.iter().copied());
        rows.remove(|row| cut.contains(&row));
        tally
    }

    /// Drops the waiting DEBUG records of the oldest request that has some; if none has, INFO. Returns `false` if it finds none.
    fn evict_low(&self) -> bool {
        let is_held = |band: &Band| self.shares().held_in(*band).records > 0;
        let mut bands = [Band::Debug, Band::Info].into_iter().filter(is_held);
        bands.any(|band| self.queue.thin_oldest(LOOKS, |chunk| chunk.shed_band(band)) > 0)
    }
}

impl Gate for FairGate<'_> {
    fn admits(&mut self, Candidate { of, record, message, .. }: Candidate<'_, '_>) -> Verdict {
        let band = Band::of(Severity::from_number(record.severity_number));
        let sender = self.buffer.shares().sender(of);
        let size = message.len() + ROW_OVERHEAD;
        // A record that is larger than the whole buffer is dropped for that, once its row is there.
        let size = if size > self.buffer.budget().max_bytes() { ROW_OVERHEAD } else { size };
        loop {
            if self.admits_now(sender, band, size) {
                return Verdict::Take;
            }
            if !std::mem::replace(&mut self.has_pressed, true) {
                self.buffer.queue.press();
            }
            if band < Band::Warn || !self.evicts || !self.buffer.evict_low() {
                // It is not looked for twice in one request.
                self.evicts &= band < Band::Warn;
                self.counted.dropped(sender);
                return Verdict::Shed;
            }
        }
    }
}

impl FairGate<'_> {
    fn admits_now(&mut self, sender: usize, band: Band, size: usize) -> bool {
        let shares = self.buffer.shares();
        let amount = Amount { records: 1, bytes: size as u64 };
        // Counted first: threads that admit records of one sender together see each other's.
        let held = shares.add(sender, band, amount);
        let is_admitted = match &mut self.bound {
            Bound::Memory(room) => room.grow_by_one(size, |records, bytes| {
                shares.allows(band, held, Amount { records: records as u64, bytes: bytes as u64 })
            }),
            Bound::Disk(free) => {
                let is_allowed = shares.allows(band, held, Amount { records: u64::MAX, bytes: *free });
                is_allowed && take(free, amount.bytes)
            }
        };
        if is_admitted {
            self.counted.admitted(sender, band, amount);
        } else {
            shares.sub(sender, band, amount);
        }
        is_admitted
    }
}

/// Takes `bytes` of what is free; `false` if it is less.
fn take(free: &mut u64, bytes: u64) -> bool {
    let left = free.checked_sub(bytes);
    *free = left.unwrap_or(*free);
    left.is_some()
}

impl Reservation {
    /// Notes the records that the gate did not admit, and logs their senders.
    pub fn leave_out_shed(&mut self, shed: Tally) {
        self.counted.iter().for_each(Counted::log_dropped);
        self.leave_out(LossReason::Dropped(DropReason::Share), shed);
    }
}
