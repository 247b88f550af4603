//! One attempt of a lane to write a batch, and the questions that decide its verdict when it fails.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::delivery::Delivery;
use super::lane::{HURRY, Lane};
use super::sample::Stored;
use super::turn::{Queued, Turn, end_holder, is_stored};
use super::verdict::{Evidence, Sampled, Verdict};
use super::write::{Job, Progress, Written, takes, write};
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::Connection;
use crate::store::existing;
use crate::store::lanes::fenced;
use crate::store::schema::SchemaError;
use crate::store::{HOUSEKEEPING, Store};

/// The most takeovers of the queue within one attempt.
const TAKEOVERS: usize = 3;

/// How often a lane that writes nothing any more looks for the end.
const RESTING: Duration = Duration::from_millis(500);

/// A failed attempt, and how far it came.
pub(super) struct Failed {
    pub(super) failure: Failure,
    reached: Progress,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, reached: Progress::Begun }
    }
}

impl<'a> Lane<'a> {
    /// Makes one attempt, on a connection that goes back to the pool only if it is clean. A batch in doubt is looked up first.
    pub(super) async fn try_once(&mut self, part: &mut Delivery) -> Result<Written, Failed> {
        let Some(queue) = self.exporter.buffer.durable() else {
            return self.try_with(part, None).await.map(|written| written.unwrap_or(Written::Now));
        };
        for _ in 0..TAKEOVERS {
            if queue.is_fenced() {
                return Err(fenced(queue.id()).into());
            }
            let lane = usize::try_from(self.number).unwrap_or_default();
            let new = || queue.claims().claim(lane, self.row, part.batch.positions());
            let claim = part.claim.take().unwrap_or_else(new);
            let queued = Queued { queue, claim: &claim, lanes: self.lanes() };
            match self.try_with(part, Some(queued)).await {
                Ok(Some(written)) => {
                    queue.claims().confirm(&claim);
                    return Ok(written);
                }
                Ok(None) => self.exporter.take_over_again(queue, &claim).await?,
                Err(failed) => {
                    part.claim = part.in_doubt.then_some(claim);
                    return Err(failed);
                }
            }
        }
        Err(Failure::new(Class::Busy, "PostgreSQL has lost commits again and again").into())
    }

    /// The same, and the transaction says `queued` of the durable queue. Returns `None` if it may not be written as that says.
    async fn try_with(
        &mut self,
        part: &mut Delivery,
        queued: Option<Queued<'_>>,
    ) -> Result<Option<Written>, Failed> {
        if part.in_doubt {
            if self.look_up(queued).await? {
                return Ok(Some(Written::Before));
            }
            part.in_doubt = false;
        }
        if let Some(failure) = part.unjudged.take() {
            return Err(Failed { failure, reached: Progress::Advanced });
        }
        self.bury_what_does_not_fit(part).await?;
        self.known.forget_old();
        let limit = self.limit(part);
        let (exporter, turn) = (self.exporter, self.turn(queued));
        let mut job = Job {
            turn,
            destination: &exporter.store.destination,
            batch: &part.batch,
            dead: &part.dead,
            divided: part.is_divided(),
            known: &mut self.known,
            diverted: &mut part.diverted,
        };
        let mut reached = Progress::Begun;
        let writing = async |connection: &Connection| {
            if exporter.store.makes_partitions() {
                let periods = part.batch.periods();
                exporter.store.partitions.ensure_recent(connection, &exporter.store.schema, periods).await?;
            }
            write(connection, &mut job, &mut reached).await
        };
        // statement_timeout does not end a COPY that waits for its client, so the deadline is ours.
        let failure = match exporter.store.pool.session(limit, writing).await {
            Ok(written) => return Ok(written),
            Err(failure) => failure,
        };
        if reached == Progress::Committing && failure.leaves_commit_unknown() {
            part.in_doubt = true;
            part.unjudged = Some(failure.clone());
        }
        if !failure.leaves_connection_usable() {
            self.known.clear();
        }
        Err(Failed { failure, reached })
    }

    /// The time limit of an attempt. If senders wait for the result, it ends while they still wait, and leaves time for a single
    /// row to become a dead letter.
    fn limit(&self, part: &Delivery) -> Duration {
        let timeout = self.exporter.config.timeout.0;
        let hurry = if part.hurried && part.batch.len() > 1 { HURRY } else { 1 };
        if !self.senders_wait() {
            return timeout / hurry;
        }
        let least = timeout / (2 * HURRY);
        let left = timeout.saturating_sub(part.started.elapsed());
        let left = if part.sent().is_empty() { left } else { left.saturating_sub(least) };
        (timeout / if hurry > 1 { 2 * hurry } else { 1 }).min(left.max(least))
    }

    /// Whether the batch, whose COMMIT had no answer, is stored.
    async fn look_up(&self, queued: Option<Queued<'_>>) -> Result<bool, Failure> {
        let look = async |connection: &Connection| is_stored(connection, self.turn(queued)).await;
        self.exporter.store.pool.session(self.exporter.config.timeout.0, look).await
    }

    /// Makes dead letters of rows of another format than that of now, if the table cannot take them as they are.
    async fn bury_what_does_not_fit(&self, part: &mut Delivery) -> Result<(), Failure> {
        let Some(format) = part.batch.format().cloned() else { return Ok(()) };
        let store = &self.exporter.store;
        let look = async |c: &Connection| existing::refusal(c, &store.destination, &format).await;
        if let Some(refusal) = store.pool.session(HOUSEKEEPING, look).await? {
            part.sent().into_iter().for_each(|index| part.bury(index, &refusal));
        }
        Ok(())
    }

    fn turn<'b>(&self, queued: Option<Queued<'b>>) -> Turn<'b>
    where
        'a: 'b,
    {
        let Store { schema, gateway, .. } = &*self.exporter.store;
        let (lane, sequence, before) = (self.row, self.sequence, self.before);
        Turn { schema, gateway: *gateway, lane, sequence, before, queued }
    }

    /// Another process has taken over the durable queue, which has the records and writes them. Nothing is written any more; waits
    /// for the end.
    pub(super) async fn rest(&mut self, failure: &Failure) {
        let exporter = self.exporter;
        if exporter.buffer.durable().is_some_and(|queue| queue.fence()) {
            tracing::error!("{failure}");
        }
        self.trouble.get_or_insert_with(|| exporter.store.standing.trouble());
        exporter.store.standing.report(failure);
        exporter.metrics.failed(failure.class);
        while !exporter.buffer.is_closed() {
            sleep(RESTING).await;
        }
    }

    /// Decides the cause of the failed attempt; returns it with the failure to report.
    pub(super) async fn judge(&mut self, part: &mut Delivery, failed: &Failed) -> (Verdict, Failure) {
        let Failed { failure, reached } = failed;
        if *reached != Progress::Begun
            && !part.in_doubt
            && failure.may_be_a_mismatch()
            && let Some(mismatch) = self.finds_a_mismatch().await
        {
            part.dead.clear();
            part.mismatched = true;
            return (Verdict::Table, mismatch);
        }
        let evidence = Evidence {
            failure,
            reached: *reached,
            in_doubt: part.in_doubt,
            under_suspicion: self.stuck.is_some(),
            has_rows: part.dead.len() < part.batch.len(),
            refused: self.refused,
        };
        let sampled = match evidence.asks_the_table() {
            true => self.ask_the_table(evidence.asks_about_now()).await,
            false => Sampled::NotAsked,
        };
        let verdict = evidence.verdict(&sampled);
        let why = match sampled {
            Sampled::Refused(refusal) => refusal.of_the_table(),
            Sampled::Unanswered(why) => why,
            Sampled::Duplicate if verdict == Verdict::Table => failure.clone().of_the_table(),
            _ => return (verdict, failure.clone()),
        };
        // Then it is not known either whether the rows taken out before were at fault.
        part.dead.clear();
        let ended = verdict == Verdict::Server && failure.ends_the_session();
        if ended {
            // Judged again when the server is back: it may have ended by itself, or because of a row.
            part.unjudged = Some(failure.clone());
        }
        (verdict, if ended || failure.class == Class::Poison { why } else { failure.clone() })
    }

    /// Asks whether the table still accepts a row that it accepted before. The row is tried unchanged (unless `now`), and then with
    /// the time of now: its own time may be out of range by now, and the stored row may conflict with its copy.
    async fn ask_the_table(&self, now: bool) -> Sampled {
        let exporter = self.exporter;
        let Some(sample) = exporter.sample.get() else { return Sampled::NoneKnown };
        let of_now = || Stored { row: exporter.store.destination.of_now(&sample.row), ..sample.clone() };
        let mut sampled = self.ask_with(&if now { of_now() } else { sample.clone() }).await;
        if !now && matches!(sampled, Sampled::Refused(_) | Sampled::Duplicate) {
            sampled = self.ask_with(&of_now()).await;
        }
        match sampled {
            Sampled::Taken => exporter.store.standing.took(),
            Sampled::Refused(_) => exporter.sample.is_refused(),
            _ => {}
        }
        sampled
    }

    /// Asks whether the table accepts `sample`, in a fraction of the deadline.
    async fn ask_with(&self, sample: &Stored) -> Sampled {
        let exporter = self.exporter;
        let limit = exporter.config.timeout.0 / HURRY;
        let until = Instant::now() + limit;
        let late = || Failure::deadline(limit.as_secs_f64());
        let take = async |connection: &Connection| {
            takes(connection, &exporter.store.schema, &exporter.store.destination, sample).await
        };
        match timeout_at(until, exporter.store.pool.get()).await.unwrap_or_else(|_| Err(late())) {
            Ok(mut session) => {
                Sampled::of(session.within(until.saturating_duration_since(Instant::now()), take).await)
            }
            Err(failure) => Sampled::Unanswered(failure),
        }
    }

    /// Whether an existing table no longer matches the configuration. Then somebody has changed it, no row is at fault, and
    /// everything is held.
    async fn finds_a_mismatch(&self) -> Option<Failure> {
        let mapping = self.exporter.store.destination.mapping()?;
        let check = async |connection: &Connection| Ok(existing::check(connection, mapping).await);
        match self.exporter.store.pool.session(HOUSEKEEPING, check).await {
            Ok(Err(error @ SchemaError::Table { .. })) => Some(Failure::mismatch(&error.to_string())),
            _ => None,
        }
    }

    /// Ends a session of this lane whose connection was lost: it may still be in the transaction that locks the lane's row.
    /// Everybody else, such as the keeper, locks that row for a moment only, and this lane is in no transaction now.
    pub(super) async fn end_lost_session(&self, part: &Delivery) {
        let exporter = self.exporter;
        // A COMMIT gets time to complete.
        let age = if part.in_doubt { exporter.config.timeout.0 } else { Duration::ZERO };
        let end = async |connection: &Connection| end_holder(connection, self.turn(None), age).await;
        match exporter.store.pool.session(HOUSEKEEPING, end).await {
            Ok(0) => {}
            Ok(sessions) => {
                tracing::warn!(
                    lane = self.number,
                    sessions,
                    "asked PostgreSQL to end a session of this lane whose connection was lost"
                );
            }
            Err(failure) => {
                tracing::debug!(lane = self.number, %failure, "cannot look for sessions that were lost");
            }
        }
    }
}
