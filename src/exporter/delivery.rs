//! A batch on its way over all its tries: what is known of it, its rows at fault, and how it is divided.
//!
//! The first row at fault is taken out, and the batch is tried again as a whole. With the second one, what stands before it
//! is known to be good and goes by itself, so that no row is sent over and over for the sake of others. Where PostgreSQL
//! names no row, the batch is halved until one is left.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Trouble;
use super::error::{Class, Failure};
use super::write::DeadLetter;
use crate::buffer::Batch;

/// A batch on its way.
pub(super) struct Delivery<'a> {
    pub(super) batch: Batch,
    /// Rows of the batch that do not go into the table, by their index.
    pub(super) dead: BTreeMap<usize, DeadLetter>,
    /// It is a part of a batch.
    pub(super) part: bool,
    pub(super) started: Instant,
    /// COMMIT was sent and not answered: the batch may be in the database, and is not to be divided.
    pub(super) in_doubt: bool,
    pub(super) trouble: Option<Trouble<'a>>,
}

/// What was done about a row at fault.
pub(super) enum Isolated<'a> {
    /// No row is at fault.
    Nothing,
    /// The row is a dead letter now; the others are to be tried again.
    Row,
    /// The batch is smaller; this is the rest of it, for later.
    Rest(Delivery<'a>),
}

impl<'a> Delivery<'a> {
    pub(super) fn new(batch: Batch) -> Self {
        Self {
            batch,
            dead: BTreeMap::new(),
            part: false,
            started: Instant::now(),
            in_doubt: false,
            trouble: None,
        }
    }

    /// Whether its rows may name less than all that the batch brought with it.
    pub(super) fn is_divided(&self) -> bool {
        self.part || !self.dead.is_empty()
    }

    /// Keeps the first `len` records; gives the others, which are not in doubt either.
    pub(super) fn split_off(&mut self, len: usize) -> Delivery<'a> {
        debug_assert!(!self.in_doubt, "a batch in doubt is looked up as it was");
        self.part = true;
        let dead = self.dead.split_off(&len).into_iter().map(|(index, letter)| (index - len, letter));
        Self {
            dead: dead.collect(),
            batch: self.batch.split_off(len),
            part: true,
            started: self.started,
            in_doubt: false,
            trouble: None,
        }
    }

    /// Finds the row at fault, as far as `failure` tells.
    pub(super) fn isolate(&mut self, failure: &Failure) -> Isolated<'a> {
        let (Class::Poison, Some(sqlstate), false) = (failure.class, &failure.sqlstate, self.in_doubt) else {
            return Isolated::Nothing;
        };
        let letter = || DeadLetter { sqlstate: sqlstate.clone(), message: failure.message.clone() };
        // PostgreSQL counts the rows that it was sent, which are those not yet taken out.
        let sent: Vec<_> = (0..self.batch.len()).filter(|index| !self.dead.contains_key(index)).collect();
        let named = failure.copy_line.and_then(|line| sent.get(line - 1)).copied();
        match (named, &sent[..]) {
            (Some(index), [first, ..]) if !self.dead.is_empty() && *first < index => {
                let mut rest = self.split_off(index);
                rest.dead.insert(0, letter());
                Isolated::Rest(rest)
            }
            (Some(index), _) | (None, &[index]) => {
                self.dead.insert(index, letter());
                Isolated::Row
            }
            (None, [_, _, ..]) => Isolated::Rest(self.split_off(sent[sent.len() / 2])),
            (None, []) => Isolated::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::buffer::Buffer;
    use crate::buffer::config::{BatchConfig, QueueConfig};
    use crate::buffer::samples::request;
    use crate::duration::GoDuration;
    use crate::table::{Space, Transcoder};

    async fn delivery(records: usize) -> Delivery<'static> {
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

    /// Which records of a batch of ten become dead letters, and in how many tries, where PostgreSQL refuses those in
    /// `bad`, and names the first or does not.
    async fn isolated(bad: &[usize], named: bool) -> (Vec<usize>, usize) {
        let (mut first, mut tries, mut dead) = (0, 0, Vec::new());
        let mut parts = vec![delivery(10).await];
        while let Some(mut part) = parts.pop() {
            tries += 1;
            let sent: Vec<_> = (0..part.batch.len()).filter(|index| !part.dead.contains_key(index)).collect();
            let refused = sent.iter().position(|index| bad.contains(&(first + index)));
            let Some(refused) = refused else {
                dead.extend(part.dead.keys().map(|index| first + index));
                first += part.batch.len();
                continue;
            };
            match part.isolate(&refusal(named.then_some(refused + 1))) {
                Isolated::Row => parts.push(part),
                Isolated::Rest(rest) => parts.extend([rest, part]),
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
}
