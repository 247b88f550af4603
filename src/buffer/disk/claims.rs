//! The records that PostgreSQL has, as far as its answers say so, and what a lane's transaction says of them.
//!
//! A lane writes the positions of all stored records into its row of the table of lanes, in the transaction that stores its
//! batch. It speaks for the other lanes as well, and so has to see their rows: each row has a [stamp](Claim), and a transaction
//! in which the last confirmed stamp of another lane is missing is one of a database that has lost commits. Then the lane reads
//! what is left ([`Claims::reconcile`]), and what was lost is in the queue again.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::positions::{Positions, Run};

/// The bits of a stamp that name its lane.
const LANE_BITS: u32 = 8;

/// The records that are stored.
#[derive(Debug, Default)]
pub struct Claims {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stored: Positions,
    /// The stamps of the transactions that are known to be committed, the last one of each lane.
    confirmed: Vec<i64>,
    stamps: i64,
    /// Counts the times that the database was found to have lost commits.
    losses: u64,
}

/// What a lane's transaction writes into its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// A number that no other claim has: a count, and the lane in the lowest bits. Then the positions, as
    /// [`Positions::to_numbers`] has them.
    pub row: Vec<i64>,
    batch: Positions,
    confirmed: Vec<i64>,
    losses: u64,
}

impl Claims {
    /// What `lane` writes into its row in the transaction that stores `batch`.
    pub fn claim(&self, lane: usize, batch: Positions) -> Claim {
        let mut state = self.lock();
        state.stamps += 1;
        let stamp = state.stamps << LANE_BITS | lane as i64;
        let mut all = state.stored.clone();
        all.add(&batch);
        let row = [vec![stamp], all.to_numbers()].concat();
        let mut confirmed = state.confirmed.clone();
        confirmed.retain(|stamp| lane_of(*stamp) != lane as i64);
        Claim { row, batch, confirmed, losses: state.losses }
    }

    /// The transaction of `claim` is committed.
    pub fn confirm(&self, claim: &Claim) {
        let mut state = self.lock();
        state.stored.add(&claim.batch);
        let stamp = claim.row[0];
        state.confirmed.retain(|confirmed| lane_of(*confirmed) != lane_of(stamp));
        state.confirmed.push(stamp);
    }

    /// The records `numbers` of `run` are not stored and will not be: they were dropped.
    pub fn give_up(&self, run: Run, numbers: Range<u64>) {
        self.lock().stored.insert(run, numbers);
    }

    /// Whether nothing was lost since `claim` was made. Asked before the COMMIT.
    pub fn is_current(&self, claim: &Claim) -> bool {
        self.lock().losses == claim.losses
    }

    /// The records that are stored.
    pub fn stored(&self) -> Positions {
        self.lock().stored.clone()
    }

    /// The database has `found`, in rows with these `stamps`, and nothing else of what was stored `before` it was read; returns what
    /// was lost.
    pub fn reconcile(&self, before: Positions, found: &Positions, stamps: &[i64]) -> Positions {
        let mut lost = before;
        lost.subtract(found);
        let mut state = self.lock();
        state.losses += 1;
        state.stored.subtract(&lost);
        state.stored.add(found);
        state.confirmed.retain(|stamp| sees(stamps, *stamp));
        lost
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whether a transaction that sees rows with these `stamps` sees all transactions that the claim speaks for.
    pub fn is_seen_in(&self, stamps: &[i64]) -> bool {
        self.confirmed.iter().all(|stamp| sees(stamps, *stamp))
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
        let (one, two) = (claims.claim(0, batch(0..10)), claims.claim(1, batch(10..20)));
        assert_eq!((&one.row[1..], &two.row[1..]), (&[7, 0, 10][..], &[7, 10, 20][..]));
        assert!(two.is_seen_in(&[]), "nothing is confirmed, so nothing has to be seen");
        claims.confirm(&one);
        let three = claims.claim(1, batch(20..30));
        assert_eq!(three.row[1..], [7, 0, 10, 7, 20, 30]);
        assert!(three.is_seen_in(&[one.row[0]]) && three.is_seen_in(&[one.row[0] + (5 << 8)]));
        assert!(
            !three.is_seen_in(&[]) && !three.is_seen_in(&[two.row[0]]),
            "another lane's row says nothing"
        );
        assert!(claims.claim(0, batch(30..40)).is_seen_in(&[]), "a lane knows its own row by its sequence");
    }

    #[test]
    fn what_the_database_has_lost_is_not_claimed_again() {
        let claims = Claims::default();
        let (one, two) = (claims.claim(0, batch(0..10)), claims.claim(1, batch(10..20)));
        claims.confirm(&one);
        claims.confirm(&two);
        let early = claims.claim(1, batch(20..30));
        let before = claims.stored();
        // Another lane goes on while the rows are read.
        let third = claims.claim(0, batch(30..40));
        claims.confirm(&third);
        let lost = claims.reconcile(before, &batch(0..10), &[one.row[0]]);
        assert_eq!(lost.to_numbers(), [7, 10, 20]);
        assert!(!claims.is_current(&early), "it speaks for what was lost");
        let next = claims.claim(1, batch(20..30));
        assert!(claims.is_current(&next));
        assert_eq!(next.row[1..], [7, 0, 10, 7, 20, 40]);
    }
}
