//! A writer lane: take a batch, write it, settle it, for as long as there is something to take.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::delivery::{Delivery, Isolated};
use super::error::{Class, Failure};
use super::existing;
use super::pool::Connection;
use super::schema::SchemaError;
use super::write::{DeadLetter, Job, Progress, Turn, Written, end_holder, takes, write};
use super::{Exporter, HOUSEKEEPING, Trouble};
use crate::buffer::{Batch, DropReason};
use crate::table::interned::Id;

/// No transaction is divided further for taking too long.
const SMALLEST: usize = 100;
/// The most rows of a transaction, once one batch has had two rows at fault: each further one costs that much again.
const MOST_AMONG_FAULTS: usize = 1000;
/// So many rows refused in a row, and none stored, make one ask whether it is the table that refuses.
const SUSPICIOUS: usize = 20;
/// After 53100: each failed COPY leaves dead rows on the very disk that is full.
const DISK_FULL_WAIT: Duration = Duration::from_secs(30);
/// How many resources and scopes a lane remembers, and for how long. What it has forgotten is inserted again,
/// which does nothing where it is still stored.
const KNOWN_MOST: usize = 20_000;
const KNOWN_FOR: Duration = Duration::from_secs(300);

/// One lane's state.
struct Lane<'a> {
    exporter: &'a Exporter,
    number: i16,
    /// The number of the batch to be written next.
    sequence: i64,
    known: BTreeSet<Id>,
    known_since: Instant,
    /// Whether the last try went well, so that a lost connection is worth an immediate second try.
    healthy: bool,
    /// The most rows of a transaction. It falls when one takes too long, and grows with each that succeeds.
    most: usize,
    /// Rows that became dead letters since one was stored.
    refused: usize,
}

impl Exporter {
    /// Runs lane `number` until the buffer is closed and empty.
    pub async fn run_lane(&self, number: usize) {
        self.store_is_ready().await;
        let mut lane = Lane {
            exporter: self,
            number: i16::try_from(number).unwrap_or(i16::MAX),
            sequence: 1,
            known: BTreeSet::new(),
            known_since: Instant::now(),
            healthy: true,
            most: usize::MAX,
            refused: 0,
        };
        while let Some(batch) = self.buffer.take().await {
            lane.deliver(batch).await;
        }
    }
}

impl<'a> Lane<'a> {
    /// Writes the batch or gives it up, in one piece or in several. When this is dropped on the way, what is left is
    /// counted as undelivered.
    async fn deliver(&mut self, batch: Batch) {
        let mut parts = vec![Delivery::new(batch)];
        while let Some(mut part) = parts.pop() {
            if part.batch.len() > self.most {
                parts.push(part.split_off(self.most));
            }
            if let Some((first, rest)) = self.write_or_divide(part).await {
                parts.extend([rest, first]);
            }
        }
    }

    /// Tries until the batch is written or given up, or until it has to be divided, which gives both parts.
    async fn write_or_divide(&mut self, mut delivery: Delivery<'a>) -> Option<(Delivery<'a>, Delivery<'a>)> {
        let exporter = self.exporter;
        let mut backoff = Backoff::new(exporter.retry());
        let mut mismatched = false;
        loop {
            let tried = Instant::now();
            let mut failure = match self.try_once(&mut delivery).await {
                Ok(written) => {
                    self.settle(delivery, written, tried);
                    return None;
                }
                // The keeper has the connection for a moment, and the wait for it was bounded.
                Err(failure)
                    if failure.is_a_wait_for_our_own_pool()
                        && !self.gives_up(&backoff, &delivery, Duration::ZERO) =>
                {
                    continue;
                }
                Err(failure) => failure,
            };
            let was_mismatched = std::mem::take(&mut mismatched);
            if !delivery.in_doubt
                && failure.may_be_a_mismatch()
                && let Some(mismatch) = self.finds_a_mismatch().await
            {
                delivery.dead.clear();
                failure = mismatch;
                mismatched = true;
            } else if was_mismatched && failure.class == Class::Poison {
                // Somebody has mended the table since this try.
                continue;
            } else if failure.class == Class::Poison
                && let Err(refusal) = self.is_the_rows_fault().await
            {
                delivery.dead.clear();
                failure = refusal;
            }
            exporter.metrics.failed(failure.class);
            if failure.class == Class::DiskFull {
                exporter.room.want(tried);
            }
            match self.isolate(&mut delivery, &failure) {
                Isolated::Row => continue,
                Isolated::Rest(rest) => return Some((delivery, rest)),
                Isolated::Nothing => {}
            }
            delivery.trouble.get_or_insert_with(|| Trouble::new(&exporter.troubled));
            self.tell(&failure, &delivery);
            backoff.follow(exporter.retry());
            let at_once = std::mem::take(&mut self.healthy) && failure.class == Class::Connection;
            let wait = match failure.class {
                _ if at_once => Duration::ZERO,
                Class::DiskFull => backoff.next_wait().max(DISK_FULL_WAIT),
                _ => backoff.next_wait(),
            };
            if self.gives_up(&backoff, &delivery, wait) {
                self.give_up(delivery, &failure);
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = exporter.room.made_since(tried), if failure.class == Class::DiskFull => {}
            }
            if failure.may_be_a_lock() {
                self.end_lost_session().await;
            }
            if failure.asks_for_less() && !delivery.in_doubt && delivery.batch.len() > SMALLEST {
                self.most = (delivery.batch.len() / 4).max(SMALLEST);
                let rest = delivery.split_off(self.most);
                return Some((delivery, rest));
            }
        }
    }

    /// One try.
    async fn try_once(&mut self, delivery: &mut Delivery<'a>) -> Result<Written, Failure> {
        let exporter = self.exporter;
        let job = Job {
            turn: Turn {
                schema: &exporter.schema,
                gateway: exporter.gateway,
                lane: self.number,
                sequence: self.sequence,
            },
            destination: &exporter.destination,
            batch: &delivery.batch,
            dead: &delivery.dead,
            divided: delivery.is_divided(),
            known: &self.known,
        };
        let mut progress = Progress::Begun;
        let writing = async |connection: &Connection| {
            if exporter.makes_partitions() {
                let periods = delivery.batch.periods();
                exporter.partitions.ensure_recent(connection, &exporter.schema, periods).await?;
            }
            write(connection, &job, &mut progress).await
        };
        // A COPY that waits for its client is not ended by statement_timeout, so the deadline is ours.
        let result = exporter.pool.session(exporter.config.timeout.0, writing).await;
        match (&result, progress) {
            (Ok(_), _) | (_, Progress::Advanced) => delivery.in_doubt = false,
            (Err(failure), Progress::Committing) => delivery.in_doubt = failure.leaves_commit_unknown(),
            (Err(_), Progress::Begun) => {}
        }
        if result.as_ref().is_err_and(|failure| !failure.leaves_connection_usable()) {
            self.known.clear();
        }
        result
    }

    fn settle(&mut self, delivery: Delivery<'a>, written: Written, tried: Instant) {
        let divided = delivery.is_divided();
        let Delivery { batch, dead, trouble, .. } = delivery;
        drop(trouble);
        self.sequence += 1;
        self.healthy = true;
        self.most = self.most.saturating_mul(2);
        if !divided {
            self.remember(&batch);
        }
        if written == Written::Before {
            tracing::info!(records = batch.len(), "the batch whose COMMIT was not answered is stored");
        }
        let exporter = self.exporter;
        exporter.metrics.flushed(batch.len() - dead.len(), tried.elapsed());
        exporter.wrote();
        if let Some(DeadLetter { sqlstate, message }) = dead.values().next() {
            let records = dead.len();
            tracing::warn!(
                records,
                sqlstate,
                message,
                "PostgreSQL refused records; they are kept in dead_letters"
            );
        }
        if let Some(stored) = (0..batch.len()).rev().find(|index| !dead.contains_key(index)) {
            self.refused = 0;
            exporter.sample.renew(|| batch.row(stored));
        }
        batch.settle_written(&dead.into_keys().collect());
    }

    /// Takes the row at fault out of the batch, or divides the batch so that it will be found.
    fn isolate(&mut self, delivery: &mut Delivery<'a>, failure: &Failure) -> Isolated<'a> {
        let before = delivery.dead.len();
        let isolated = delivery.isolate(failure);
        let mut dead = delivery.dead.len();
        if let Isolated::Rest(rest) = &isolated {
            dead += rest.dead.len();
            self.most = self.most.min(MOST_AMONG_FAULTS);
        }
        self.refused += dead - before;
        isolated
    }

    /// Whether an existing table is not what the configuration says any more. Then somebody has changed it, no row is at
    /// fault, and everything is held.
    async fn finds_a_mismatch(&self) -> Option<Failure> {
        let mapping = self.exporter.destination.mapping()?;
        let check = async |connection: &Connection| Ok(existing::check(connection, mapping).await);
        match self.exporter.pool.session(HOUSEKEEPING, check).await {
            Ok(Err(error @ SchemaError::Table { .. })) => Some(Failure::mismatch(&error.to_string())),
            _ => None,
        }
    }

    /// After many refused rows without a stored one, asks whether the table still takes a row that it took before. Where
    /// it does not, no row is at fault: somebody has changed the table, and everything is held.
    async fn is_the_rows_fault(&self) -> Result<(), Failure> {
        let Some(row) = self.exporter.sample.get().filter(|_| self.refused >= SUSPICIOUS) else {
            return Ok(());
        };
        let ask = async |connection: &Connection| takes(connection, &self.exporter.destination, &row).await;
        match self.exporter.pool.session(HOUSEKEEPING, ask).await {
            // The row itself may be in the way of its copy.
            Err(failure) if failure.is_a_duplicate() => Ok(()),
            Err(failure) if failure.leaves_connection_usable() => Err(failure.of_the_table()),
            asked => asked,
        }
    }

    /// A session whose connection is lost may still be in the transaction that holds the lane's row. Nobody else
    /// locks that row for longer than a moment, and this lane is in no transaction now.
    async fn end_lost_session(&self) {
        let exporter = self.exporter;
        let end = async |connection: &Connection| {
            let Exporter { schema, gateway, config, .. } = exporter;
            end_holder(connection, schema, *gateway, self.number, config.timeout.0).await
        };
        match exporter.pool.session(HOUSEKEEPING, end).await {
            Ok(0) => {}
            Ok(ended) => {
                tracing::warn!(
                    lane = self.number,
                    ended,
                    "ended a session of this lane whose connection was lost"
                );
            }
            Err(failure) => {
                tracing::debug!(lane = self.number, %failure, "cannot look for sessions that were lost");
            }
        }
    }

    /// Whether there is to be no further try, which would come after `wait`.
    fn gives_up(&self, backoff: &Backoff, delivery: &Delivery<'a>, wait: Duration) -> bool {
        let elapsed = delivery.started.elapsed();
        // Senders send again what they had no answer for, so that it must not be written behind their backs.
        let too_late =
            || elapsed + wait >= self.exporter.config.timeout.0 || delivery.batch.nobody_waits_any_more();
        // A batch in doubt is never given up: it may be stored, and then it would be counted as lost.
        !delivery.in_doubt && (backoff.is_exhausted(elapsed) || (self.senders_wait() && too_late()))
    }

    fn give_up(&self, delivery: Delivery<'a>, failure: &Failure) {
        let records = delivery.batch.len();
        // Waiting senders are told, and keep what they are told to send again.
        if !self.senders_wait() {
            tracing::error!(records, %failure, "records were dropped: retry_on_failure allows no further try");
        }
        delivery.batch.settle_dropped(DropReason::RetryExhausted);
    }

    /// Where the sender waits for the result, it keeps the records itself and sends them again.
    fn senders_wait(&self) -> bool {
        !self.exporter.config.sending_queue.enabled
    }

    fn tell(&self, failure: &Failure, delivery: &Delivery<'a>) {
        self.exporter.report(failure);
        tracing::debug!(
            lane = self.number,
            class = failure.class.label(),
            %failure,
            records = delivery.batch.len(),
            in_doubt = delivery.in_doubt,
            "a batch could not be written"
        );
    }

    fn remember(&mut self, batch: &Batch) {
        if self.known.len() > KNOWN_MOST || self.known_since.elapsed() > KNOWN_FOR {
            self.known.clear();
            self.known_since = Instant::now();
        }
        self.known.extend(batch.resources().map(|resource| resource.id));
        self.known.extend(batch.scopes().map(|scope| scope.id));
    }
}
