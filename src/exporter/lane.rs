//! A writer lane: take a batch, write it, settle it, for as long as there is something to take.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::backoff::Backoff;
use super::error::{Class, Failure};
use super::pool::{Connection, discard};
use super::write::{DeadLetter, Job, Progress, Written, write};
use super::{Exporter, HOUSEKEEPING, Trouble};
use crate::buffer::{Batch, DropReason, RejectReason};
use crate::table::interned::Id;

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
}

/// A batch on its way, over all its tries.
struct Delivery<'a> {
    batch: Batch,
    dead: BTreeMap<usize, DeadLetter>,
    started: Instant,
    /// COMMIT was sent and not answered: the batch may be in the database.
    in_doubt: bool,
    trouble: Option<Trouble<'a>>,
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
        };
        while let Some(batch) = self.buffer.take().await {
            lane.deliver(batch).await;
        }
    }
}

impl<'a> Lane<'a> {
    /// Tries until the batch is written or given up. When this is dropped on the way, the batch is counted as
    /// undelivered.
    async fn deliver(&mut self, batch: Batch) {
        let exporter = self.exporter;
        let (dead, started) = (BTreeMap::new(), Instant::now());
        let mut delivery = Delivery { batch, dead, started, in_doubt: false, trouble: None };
        let mut backoff = Backoff::new(&exporter.config.retry_on_failure);
        loop {
            let tried = Instant::now();
            let failure = match self.try_once(&mut delivery).await {
                Ok(written) => return self.settle(delivery, written, tried),
                // The keeper has the connection for a moment, and the wait for it was bounded.
                Err(failure) if failure.is_a_wait_for_our_own_pool() => continue,
                Err(failure) => failure,
            };
            exporter.metrics.failed(failure.class);
            if self.bury(&mut delivery, &failure) {
                continue;
            }
            delivery.trouble.get_or_insert_with(|| Trouble::new(&exporter.troubled));
            self.tell(&failure, &delivery);
            let at_once = std::mem::take(&mut self.healthy) && failure.class == Class::Connection;
            let wait = match failure.class {
                _ if at_once => Duration::ZERO,
                Class::DiskFull => backoff.next_wait().max(DISK_FULL_WAIT),
                _ => backoff.next_wait(),
            };
            if self.gives_up(&backoff, &delivery, wait) {
                return self.give_up(delivery, &failure);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One try, on a connection that is given back only if it is clean.
    async fn try_once(&mut self, delivery: &mut Delivery<'a>) -> Result<Written, Failure> {
        let exporter = self.exporter;
        let connection = exporter.pool.get().await?;
        let job = Job {
            schema: &exporter.schema,
            gateway: exporter.gateway,
            lane: self.number,
            sequence: self.sequence,
            batch: &delivery.batch,
            dead: &delivery.dead,
            known: &self.known,
        };
        let mut progress = Progress::Begun;
        let writing = async {
            if exporter.config.create_schema {
                let days = delivery.batch.days();
                exporter.partitions.ensure_recent(&connection, &exporter.schema, days).await?;
            }
            write(&connection, &job, &mut progress).await
        };
        let deadline = exporter.config.timeout.0;
        // A COPY that waits for its client is not ended by statement_timeout, so the deadline is ours.
        let result = timeout(deadline, writing).await;
        let result = result.unwrap_or_else(|_| Err(Failure::deadline(deadline.as_secs_f64())));
        match (&result, progress) {
            (Ok(_), _) | (_, Progress::Advanced) => delivery.in_doubt = false,
            (Err(failure), Progress::Committing) => delivery.in_doubt = failure.leaves_commit_unknown(),
            (Err(_), Progress::Begun) => {}
        }
        match &result {
            Ok(_) => {}
            Err(failure) if failure.leaves_connection_usable() => roll_back(connection).await,
            Err(_) => {
                self.known.clear();
                discard(connection);
            }
        }
        result
    }

    fn settle(&mut self, delivery: Delivery<'a>, written: Written, tried: Instant) {
        let Delivery { batch, dead, trouble, .. } = delivery;
        drop(trouble);
        self.sequence += 1;
        self.healthy = true;
        self.remember(&batch);
        if written == Written::Before {
            tracing::info!(records = batch.len(), "the batch whose COMMIT was not answered is stored");
        }
        let exporter = self.exporter;
        exporter.metrics.flushed(batch.len() - dead.len(), tried.elapsed());
        exporter.wrote();
        batch.settle_written(&dead.into_keys().collect());
    }

    /// Takes a row at fault out of the batch. Gives `false` for every other failure.
    fn bury(&self, delivery: &mut Delivery<'a>, failure: &Failure) -> bool {
        let (Class::Poison, Some(line), Some(sqlstate)) =
            (failure.class, failure.copy_line, &failure.sqlstate)
        else {
            return false;
        };
        // PostgreSQL counts the rows that it was sent, which are those not yet taken out.
        let mut sent = (0..delivery.batch.len()).filter(|index| !delivery.dead.contains_key(index));
        let Some(index) = sent.nth(line - 1) else {
            return false;
        };
        let letter = DeadLetter { sqlstate: sqlstate.clone(), message: failure.message.clone() };
        delivery.dead.insert(index, letter);
        tracing::warn!(%failure, "PostgreSQL refused a record; it is kept in dead_letters");
        true
    }

    /// Whether there is to be no further try, which would come after `wait`.
    fn gives_up(&self, backoff: &Backoff<'_>, delivery: &Delivery<'a>, wait: Duration) -> bool {
        let elapsed = delivery.started.elapsed();
        // Senders send again what they had no answer for, so that it must not be written behind their backs.
        let too_late =
            || elapsed + wait >= self.exporter.config.timeout.0 || delivery.batch.nobody_waits_any_more();
        // A batch in doubt is never given up: it may be stored, and then it would be counted as lost.
        !delivery.in_doubt && (backoff.is_exhausted(elapsed) || (self.senders_wait() && too_late()))
    }

    fn give_up(&self, delivery: Delivery<'a>, failure: &Failure) {
        let records = delivery.batch.len();
        if self.senders_wait() {
            delivery.batch.settle_rejected(RejectReason::Unavailable);
        } else {
            tracing::error!(records, %failure, "records were dropped: retry_on_failure allows no further try");
            delivery.batch.settle_dropped(DropReason::RetryExhausted);
        }
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

/// Ends a failed transaction, so that the connection can be used again.
async fn roll_back(connection: Connection) {
    let rolled_back = timeout(HOUSEKEEPING, connection.batch_execute("ROLLBACK")).await;
    if !matches!(rolled_back, Ok(Ok(()))) {
        discard(connection);
    }
}
