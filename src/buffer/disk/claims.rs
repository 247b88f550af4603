//! The records that PostgreSQL has, as far as its answers say so, and what a lane's transaction says of them.
//!
//! A lane writes the positions of stored records into its row of the table of lanes, in the transaction that stores its batch:
//! those that the queue's own row, the anchor, did not have when the queue was taken over. It speaks for the other lanes as well,
//! and so has to see their rows: each row has a [stamp](Claim), and a transaction that does not see the last confirmed stamp of
//! another lane, or the anchor's, is one of a database that has lost commits. Then the queue is taken over again
//! ([`Claims::adopt`]), and what was lost is in the queue again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::values::positions::Positions;

/// The bits of a stamp that name its lane.
const LANE_BITS: u32 = 8;

/// The records that are stored.
#[derive(Debug, Default)]
pub struct Claims {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The records that the anchor has.
    anchored: Positions,
    /// The anchor's stamp, since the queue was taken over.
    anchor: Option<i64>,
    /// The records that were stored since then.
    stored: Positions,
    /// Records that count as stored, although they are not.
    given_up: Positions,
    /// The last transaction of each lane that is known to be committed.
    confirmed: Vec<Confirmed>,
    stamps: i64,
    /// Counts how often the queue was taken over.
    takeovers: u64,
}

/// A transaction that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Confirmed {
    stamp: i64,
    /// The number of the lane's row then.
    row: i16,
}

/// The positions that a lane's transaction writes into its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// A number that no other claim has: a count, and the lane in the lowest bits. Then the positions, as
    /// [`Positions::to_numbers`] has them.
    pub row: Vec<i64>,
    number: i16,
    batch: Positions,
    anchor: Option<i64>,
    others: Vec<Confirmed>,
    has_confirmed: bool,
    takeovers: u64,
}

impl Claims {
    /// The positions that `lane` writes into its row, which has this `number`, in the transaction that stores `batch`.
    pub fn claim(&self, lane: usize, number: i16, batch: Positions) -> Claim {
        let mut state = self.lock();
        state.stamps += 1;
        let stamp = state.stamps << LANE_BITS | lane as i64;
        let mut all = state.stored.clone();
        all.add(&state.given_up);
        all.add(&batch);
        let row = [vec![stamp], all.to_numbers()].concat();
        let mut others = state.confirmed.clone();
        others.retain(|confirmed| lane_of(confirmed.stamp) != lane as i64);
        let has_confirmed = others.len() < state.confirmed.len();
        let (anchor, takeovers) = (state.anchor, state.takeovers);
        Claim { row, number, batch, anchor, others, has_confirmed, takeovers }
    }

    /// The transaction of `claim` is committed.
    pub fn confirm(&self, claim: &Claim) {
        let mut state = self.lock();
        state.stored.add(&claim.batch);
        let stamp = claim.row[0];
        state.confirmed.retain(|confirmed| lane_of(confirmed.stamp) != lane_of(stamp));
        state.confirmed.push(Confirmed { stamp, row: claim.number });
    }

    /// The records `dropped` are never written. They count as stored, so that they are not read again.
    pub fn give_up(&self, dropped: &Positions) {
        self.lock().given_up.add(dropped);
    }

    /// Whether the queue was not taken over again since `claim` was made. Asked before the COMMIT.
    pub fn is_current(&self, claim: &Claim) -> bool {
        self.lock().takeovers == claim.takeovers
    }

    /// The records that are stored, and those that count as stored.
    pub fn stored(&self) -> Positions {
        let state = self.lock();
        let mut all = state.anchored.clone();
        all.add(&state.stored);
        all.add(&state.given_up);
        all
    }

    /// The number of ranges that each transaction writes, besides those of its own batch. It grows with each hole that is left in
    /// the order of the queue.
    pub fn ranges(&self) -> usize {
        let state = self.lock();
        state.stored.ranges() + state.given_up.ranges()
    }

    /// The queue was taken over: the database has `found`, which the anchor has with the stamp `anchor`, in lanes' rows with these
    /// `stamps`. It has nothing else of what was stored `before` that; returns what was lost.
    pub fn adopt(&self, before: Positions, found: &Positions, stamps: &[i64], anchor: i64) -> Positions {
        let mut state = self.lock();
        state.stored.subtract(&before);
        let mut lost = before;
        lost.subtract(found);
        lost.subtract(&state.given_up);
        (state.anchored, state.anchor) = (found.clone(), Some(anchor));
        state.confirmed.retain(|confirmed| sees(stamps, confirmed.stamp));
        state.takeovers += 1;
        lost
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whether a transaction that sees rows with these `stamps` sees all transactions that the claim speaks for.
    pub fn is_seen_in(&self, stamps: &[i64]) -> bool {
        self.anchor.is_none_or(|anchor| stamps.contains(&anchor))
            && self.others.iter().all(|confirmed| sees(stamps, confirmed.stamp))
    }

    /// Whether it speaks for an earlier transaction of its own lane, which the lane's row has to show.
    pub fn has_confirmed(&self) -> bool {
        self.has_confirmed
    }

    /// The numbers of the other lanes' rows when they were last confirmed.
    pub fn other_rows(&self) -> impl Iterator<Item = i16> {
        self.others.iter().map(|confirmed| confirmed.row)
    }

    /// The positions of the batch alone.
    pub fn batch(&self) -> &Positions {
        &self.batch
    }
}

fn lane_of(stamp: i64) -> i64 {
    stamp & ((1 << LANE_BITS) - 1)
}

/// Whether one of `stamps` is `stamp`, or a later one of the same lane.
fn sees(stamps: &[i64], stamp: i64) -> bool {
    stamps.iter().any(|seen| lane_of(*seen) == lane_of(stamp) && *seen >= stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(numbers: std::ops::Range<u64>) -> Positions {
        let mut positions = Positions::default();
        positions.insert(7, numbers);
        positions
    }

    #[test]
    fn a_claim_speaks_for_what_is_confirmed_and_for_its_own_batch() {
        let claims = Claims::default();
        let (one, two) = (claims.claim(0, 0, batch(0..10)), claims.claim(1, 1, batch(10..20)));
        assert_eq!((&one.row[1..], &two.row[1..]), (&[7, 0, 10][..], &[7, 10, 20][..]));
        assert!(two.is_seen_in(&[]), "nothing is confirmed, so nothing has to be seen");
        claims.confirm(&one);
        let three = claims.claim(1, 1, batch(20..30));
        assert_eq!(three.row[1..], [7, 0, 10, 7, 20, 30]);
        assert!(three.is_seen_in(&[one.row[0]]) && three.is_seen_in(&[one.row[0] + (5 << 8)]));
        assert!(
            !three.is_seen_in(&[]) && !three.is_seen_in(&[two.row[0]]),
            "another lane's row says nothing"
        );
        assert_eq!(three.other_rows().collect::<Vec<_>>(), [0]);
        let four = claims.claim(0, 2, batch(30..40));
        assert!(four.is_seen_in(&[]), "a lane knows its own row by its sequence");
        assert_eq!([&three, &four].map(Claim::has_confirmed), [false, true]);
    }

    #[test]
    fn what_the_database_has_lost_is_not_claimed_again() {
        let claims = Claims::default();
        let (one, two) = (claims.claim(0, 0, batch(0..10)), claims.claim(1, 1, batch(10..20)));
        claims.confirm(&one);
        claims.confirm(&two);
        let early = claims.claim(1, 1, batch(20..30));
        let before = claims.stored();
        // Another lane goes on until the queue is taken over.
        let third = claims.claim(0, 0, batch(30..40));
        claims.confirm(&third);
        let lost = claims.adopt(before, &batch(0..10), &[third.row[0]], 255);
        assert_eq!(lost.to_numbers(), [7, 10, 20]);
        assert!(!claims.is_current(&early), "it speaks for what was lost");
        let next = claims.claim(1, 1, batch(20..30));
        assert!(claims.is_current(&next) && !next.has_confirmed(), "its last transaction was lost");
        assert_eq!(next.row[1..], [7, 20, 40], "the anchor has the rest");
        assert!(next.is_seen_in(&[third.row[0], 255]));
        assert!(!next.is_seen_in(&[third.row[0]]) && !next.is_seen_in(&[third.row[0], 256 + 255]));
        assert_eq!(claims.stored().to_numbers(), [7, 0, 10, 7, 30, 40]);
    }

    #[test]
    fn what_is_given_up_counts_as_stored_from_then_on() {
        let claims = Claims::default();
        claims.give_up(&batch(0..5));
        let claim = claims.claim(0, 0, batch(5..10));
        assert_eq!(claim.row[1..], [7, 0, 10]);
        claims.confirm(&claim);
        let lost = claims.adopt(claims.stored(), &Positions::default(), &[], 255);
        assert_eq!(lost.to_numbers(), [7, 5, 10], "and is not lost with the rest");
        assert_eq!(claims.claim(0, 0, batch(5..6)).row[1..], [7, 0, 6]);
    }
}
