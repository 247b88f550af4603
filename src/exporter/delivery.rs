//! The state of a batch over all attempts to write it: its rows at fault, and how it is divided.
//!
//! If a code says that a row is at fault, the first such row is taken out and the whole batch is tried again. At the second
//! one, the rows before it are known to be good and are written by themselves, so that no row is sent again and again because
//! of others. If PostgreSQL names no row, the batch is halved until one row is left.
//!
//! If the only evidence is that the table accepts other rows, the row is sent alone several times, after all others.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::write::DeadLetter;
use crate::buffer::Batch;
use crate::buffer::disk::Claim;
use crate::postgres::error::{Class, Failure};

/// The number of parts that a batch is divided into if it has a suspect row and PostgreSQL names none.
const PARTS: usize = 10;

/// A batch, or a part of one, that is being written.
pub(super) struct Delivery {
    pub(super) batch: Batch,
    /// Dead letters of the batch by index; they are not written to the table.
    pub(super) dead: BTreeMap<usize, DeadLetter>,
    /// It is a part of a batch.
    pub(super) part: bool,
    pub(super) started: Instant,
    /// COMMIT was sent and not answered: the batch may be stored, and must not be divided.
    pub(super) in_doubt: bool,
    /// The claim of the transaction in doubt on the durable queue.
    pub(super) claim: Option<Claim>,
    /// The failure of an attempt whose cause could not be decided yet.
    pub(super) unjudged: Option<Failure>,
    /// The table did not match the configuration at the last attempt.
    pub(super) mismatched: bool,
    /// How often it has failed while the table accepted other rows.
    pub(super) suspicions: usize,
    /// When it, or the batch that it is a part of, first failed like that.
    pub(super) suspected: Option<Instant>,
    /// The earliest time of the next attempt, so that others go first.
    pub(super) not_before: Instant,
    /// A part of a batch that exceeded its deadline: it has a shorter one, and is divided sooner.
    pub(super) hurried: bool,
    /// Rows that a trigger kept out of the table, in the last attempt that reached its COMMIT.
    pub(super) diverted: u64,
}

/// The action taken on a row at fault.
pub(super) enum Isolated {
    /// No row is at fault.
    Nothing,
    /// The row is now a dead letter; the others are to be tried again.
    Row,
    /// The batch was cut; this is the rest of it, for later.
    Rest(Box<Delivery>),
}

impl Delivery {
    pub(super) fn new(batch: Batch) -> Self {
        let now = Instant::now();
        Self {
            batch,
            dead: BTreeMap::new(),
            part: false,
            started: now,
            in_doubt: false,
            claim: None,
            unjudged: None,
            mismatched: false,
            suspicions: 0,
            suspected: None,
            not_before: now,
            hurried: false,
            diverted: 0,
        }
    }

    /// Whether its rows may refer to only some of the batch's resources and scopes.
    pub(super) fn is_divided(&self) -> bool {
        self.part || !self.dead.is_empty()
    }

    /// Whether one of its rows is suspected.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspected.is_some()
    }

    /// Keeps the first `len` records and returns the others, which are not in doubt either.
    pub(super) fn split_off(&mut self, len: usize) -> Self {
        debug_assert!(!self.in_doubt, "a batch in doubt is looked up as it was");
        self.part = true;
        let dead = self.dead.split_off(&len).into_iter().map(|(index, letter)| (index - len, letter));
        Self {
            dead: dead.collect(),
            batch: self.batch.split_off(len),
            claim: None,
            unjudged: None,
            suspicions: 0,
            ..*self
        }
    }

    /// The indices of the rows that are sent: all but the dead letters.
    pub(super) fn sent(&self) -> Vec<usize> {
        (0..self.batch.len()).filter(|index| !self.dead.contains_key(index)).collect()
    }

    /// Makes row `index` a dead letter.
    pub(super) fn bury(&mut self, index: usize, failure: &Failure) {
        let (sqlstate, message) = (failure.code().to_owned(), failure.message.clone());
        self.dead.insert(index, DeadLetter { sqlstate, message });
    }

    /// Finds the row at fault, as far as `failure` names it.
    pub(super) fn isolate(&mut self, failure: &Failure) -> Isolated {
        if failure.class != Class::Poison || self.in_doubt {
            return Isolated::Nothing;
        }
        let sent = self.sent();
        match (named(&sent, failure), &sent[..]) {
            (Some(index), [first, ..]) if !self.dead.is_empty() && *first < index => {
                let mut rest = self.split_off(index);
                rest.bury(0, failure);
                Isolated::Rest(Box::new(rest))
            }
            (Some(index), _) | (None, &[index]) => {
                self.bury(index, failure);
                Isolated::Row
            }
            (None, [_, _, ..]) => Isolated::Rest(Box::new(self.split_off(sent[sent.len() / 2]))),
            (None, []) => Isolated::Nothing,
        }
    }

    /// Divides it to find the suspect row: by the line that PostgreSQL names, or into equal parts.
    pub(super) fn divide(mut self, failure: &Failure) -> Vec<Self> {
        let len = self.batch.len();
        let cuts = match named(&self.sent(), failure) {
            Some(index) => vec![index + 1, index],
            None => (1..PARTS).rev().map(|part| len * part / PARTS).collect(),
        };
        let mut parts = Vec::new();
        for cut in cuts {
            if (1..self.batch.len()).contains(&cut) {
                parts.push(self.split_off(cut));
            }
        }
        self.suspicions = 0;
        parts.push(self);
        parts.reverse();
        parts
    }
}

/// The row among those `sent` that the failure names. PostgreSQL counts from 1.
fn named(sent: &[usize], failure: &Failure) -> Option<usize> {
    failure.copy_line.and_then(|line| sent.get(line - 1)).copied()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::buffer::Buffer;
    use crate::buffer::config::{BatchConfig, QueueConfig};
    use crate::buffer::samples::request;
    use crate::table::{Space, Transcoder};
    use crate::values::duration::GoDuration;

    pub(in crate::exporter) async fn delivery(records: usize) -> Delivery {
        let batch = BatchConfig { timeout: GoDuration(Duration::ZERO), ..BatchConfig::default() };
        let buffer = Buffer::new(&QueueConfig::default(), &batch);
        let request = request((0..records).map(|number| number.to_string()));
        let rows =
            Transcoder::default().transcode(&request, records, 1, &mut Space::unlimited()).unwrap().rows;
        buffer.enqueue(buffer.reserve(records, request.len()), rows, None).unwrap();
        buffer.close();
        Delivery::new(buffer.take().await.unwrap())
    }

    fn refusal(copy_line: Option<usize>) -> Failure {
        let mut failure = Failure::new(Class::Poison, "no");
        (failure.sqlstate, failure.copy_line) = (Some("23514".to_owned()), copy_line);
        failure
    }

    /// The records of a batch of ten that become dead letters, and the number of tries, if PostgreSQL refuses those in `bad`
    /// and names the first (`named`) or does not.
    async fn isolated(bad: &[usize], named: bool) -> (Vec<usize>, usize) {
        let (mut first, mut tries, mut dead) = (0, 0, Vec::new());
        let mut parts = vec![delivery(10).await];
        while let Some(mut part) = parts.pop() {
            tries += 1;
            let refused = part.sent().iter().position(|index| bad.contains(&(first + index)));
            let Some(refused) = refused else {
                dead.extend(part.dead.keys().map(|index| first + index));
                first += part.batch.len();
                continue;
            };
            match part.isolate(&refusal(named.then_some(refused + 1))) {
                Isolated::Row => parts.push(part),
                Isolated::Rest(rest) => parts.extend([*rest, part]),
                Isolated::Nothing => panic!("a row is at fault"),
            }
        }
        assert_eq!(first, 10, "every record had its turn");
        (dead, tries)
    }

    #[tokio::test]
    async fn rows_at_fault_are_found_with_a_line_and_without() {
        let all: Vec<usize> = (0..10).collect();
        for (bad, tries_by_line) in [(&[][..], 1), (&[3], 2), (&[3, 7], 4), (&[0, 1, 2, 9], 6), (&all, 11)] {
            assert_eq!(isolated(bad, true).await, (bad.to_vec(), tries_by_line), "{bad:?} by line");
            let (dead, tries) = isolated(bad, false).await;
            assert_eq!(dead, bad, "without a line");
            assert!(tries <= 1 + bad.len() * 2 * 5, "{tries} tries for {bad:?}");
        }
    }

    #[tokio::test]
    async fn what_is_in_doubt_or_not_a_rows_fault_is_left_alone() {
        let mut delivery = delivery(3).await;
        assert!(matches!(delivery.isolate(&Failure::new(Class::Busy, "later")), Isolated::Nothing));
        delivery.in_doubt = true;
        assert!(matches!(delivery.isolate(&refusal(Some(1))), Isolated::Nothing));
    }

    /// The number of tries until the one bad row of `records` is sent alone, with its line `named` or not. Parts with it
    /// fail, the others are accepted.
    async fn found(records: usize, bad: usize, named: bool) -> usize {
        let (mut tries, mut parts, mut taken) = (0, vec![(0, delivery(records).await)], 0);
        while let Some((first, part)) = parts.pop() {
            let has_it = (first..first + part.batch.len()).contains(&bad);
            tries += usize::from(has_it);
            if !has_it || part.batch.len() == 1 {
                taken += part.batch.len();
                continue;
            }
            let mut failure = Failure::new(Class::Unknown, "internal");
            failure.copy_line = named.then_some(bad - first + 1);
            let mut at = first;
            for part in part.divide(&failure) {
                let len = part.batch.len();
                assert!(part.part && part.suspicions == 0);
                parts.push((at, part));
                at += len;
            }
        }
        assert_eq!(taken, records, "every record had its turn");
        tries
    }

    #[tokio::test]
    async fn a_row_under_suspicion_is_soon_alone() {
        for bad in [0, 1, 499, 998, 999] {
            assert_eq!(found(1000, bad, true).await, 2, "the line of {bad} is named");
            let tries = found(1000, bad, false).await;
            assert!(tries <= 4, "{tries} tries for {bad}");
        }
        for records in 2..=10 {
            assert_eq!(found(records, records / 2, false).await, 2, "{records}");
        }
    }
}
