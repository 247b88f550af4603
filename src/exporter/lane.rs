//! A writer lane takes batches from the buffer, writes and settles them, until the buffer is closed and empty.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Exporter;
use super::delivery::{Delivery, Isolated};
use super::known::Known;
use super::verdict::{Patience, Verdict};
use super::write::{DeadLetter, Written};
use crate::buffer::{Batch, DropReason};
use crate::postgres::backoff::Backoff;
use crate::postgres::error::{Class, Failure};
use crate::store::{Stuck, Trouble};

/// Smaller transactions are not divided for taking too long, unless the table accepts other rows quickly.
const SMALLEST: usize = 100;
/// The number of batches written under one number of the lane's row.
const BATCHES_IN_A_ROW: i64 = 200;
/// The most rows of a transaction after a batch had two rows at fault: each further one means sending that many again.
const MOST_AMONG_FAULTS: usize = 1000;
/// The most parts of batches that wait for their next attempt while the lane takes further batches.
const MOST_WAITING: usize = 32;
/// The longest wait between two attempts of a suspect row during shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between two attempts of a row whose failure may pass, unless `retry_on_failure` has a longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The most parts of a batch while it is not known whether a row is at fault at all.
const MOST_PARTS: usize = 64;
/// This fraction of the deadline is the limit for a part of a suspect batch, and for the table to accept a row that it
/// accepted before. So a row that uses up its deadline while the table accepts that one is at fault.
pub(super) const HURRY: u32 = 4;
/// The wait after 53100: each failed COPY leaves dead rows on the full disk.
const DISK_FULL_WAIT: Duration = Duration::from_secs(30);
/// How long a given-up row makes the lane less patient with its code.
const GIVEN_UP_LATELY: Duration = Duration::from_secs(300);

/// One lane's state.
pub(super) struct Lane<'a> {
    pub(super) exporter: &'a Exporter,
    pub(super) number: i16,
    /// The number of its row in the table of lanes.
    pub(super) row: i16,
    /// The number of the next batch in that row.
    pub(super) sequence: i64,
    /// The row's previous number and its last batch, until a batch is written under the new number.
    pub(super) before: Option<(i16, i64)>,
    /// Resources and scopes that are stored.
    pub(super) known: Known,
    /// Whether the last attempt succeeded, so that a lost connection is worth an immediate second attempt.
    healthy: bool,
    backoff: Backoff,
    /// The most rows of a transaction. It falls when one takes too long, and grows with each success.
    most: usize,
    /// Rows that became dead letters since the last one was stored.
    pub(super) refused: usize,
    /// The codes for which rows were given up while the table accepted others, and when.
    given_up: BTreeMap<String, Instant>,
    /// Set while the store accepts no rows.
    pub(super) trouble: Option<Trouble<'a>>,
    /// Set while the store accepts other rows than those of the batch.
    pub(super) stuck: Option<Stuck<'a>>,
}

impl Exporter {
    /// Runs lane `number` until the buffer is closed and empty.
    pub async fn run_lane(&self, number: usize) {
        self.store.standing.ready().await;
        self.owns_the_queue().await;
        let number = i16::try_from(number).unwrap_or(i16::MAX);
        let mut lane = Lane {
            exporter: self,
            number,
            row: number,
            sequence: 1,
            before: None,
            known: Known::new(),
            healthy: true,
            backoff: Backoff::new(self.store.retry()),
            most: usize::MAX,
            refused: 0,
            given_up: BTreeMap::new(),
            trouble: None,
            stuck: None,
        };
        lane.run().await;
    }
}

impl<'a> Lane<'a> {
    /// Takes batches and writes each or gives it up, whole or in parts. If this is cancelled, the rest is counted as undelivered.
    async fn run(&mut self) {
        let mut parts = Vec::new();
        while let Some(mut part) = self.next(&mut parts).await {
            if self.senders_wait() && !part.in_doubt && part.batch.nobody_waits_any_more() {
                // The senders got no answer and send again.
                part.batch.settle_dropped(DropReason::RetryExhausted);
                continue;
            }
            if part.batch.len() > self.most && !part.in_doubt {
                parts.insert(0, part.split_off(self.most));
            }
            let left = self.attempt(part, parts.len()).await;
            parts.splice(0..0, left);
            if !parts.iter().any(Delivery::is_suspect) {
                self.stuck = None;
            }
        }
    }

    /// The next part to write: one of `parts`, or a new batch if none of them is due; `None` at the end. Suspect rows wait for
    /// their next attempt without delaying other batches.
    async fn next(&self, parts: &mut Vec<Delivery>) -> Option<Delivery> {
        // A part in doubt goes first: it occupies the lane's batch number.
        let next = (0..parts.len()).min_by_key(|&at| (!parts[at].in_doubt, parts[at].not_before));
        let Some(next) = next else {
            return self.take().await.map(|batch| self.whole(batch));
        };
        let Delivery { in_doubt, not_before, .. } = parts[next];
        let waits = !in_doubt && not_before > Instant::now();
        tokio::select! {
            biased;
            () = sleep_until(not_before) => {}
            Some(batch) = self.take(), if waits && parts.len() < MOST_WAITING => {
                return Some(self.whole(batch));
            }
            // The buffer is closed and empty.
            else => sleep_until(not_before).await,
        }
        Some(parts.remove(next))
    }

    async fn take(&self) -> Option<Batch> {
        let number = usize::try_from(self.number).unwrap_or_default();
        self.exporter.buffer.take_for(number, self.exporter.lanes()).await
    }

    fn whole(&self, batch: Batch) -> Delivery {
        let mut whole = Delivery::new(batch);
        // A row that uses up its deadline has to be found while senders still wait for the others.
        whole.hurried = self.senders_wait();
        whole
    }

    /// Tries once to write `part`, while `others` wait; returns what is left of it, in the order to write it.
    async fn attempt(&mut self, mut part: Delivery, others: usize) -> Vec<Delivery> {
        let tried = Instant::now();
        let failed = match self.try_once(&mut part).await {
            Ok(written) => {
                self.settle(part, written, tried);
                return Vec::new();
            }
            // The keeper uses the connection for a moment.
            Err(failed)
                if failed.failure.is_a_wait_for_our_own_pool() && !self.gives_up(&part, Duration::ZERO) =>
            {
                return vec![part];
            }
            Err(failed) if failed.failure.is_fenced() => {
                self.rest(&failed.failure).await;
                return Vec::new();
            }
            Err(failed) => failed,
        };
        if self.exporter.store.makes_again(&failed.failure, tried).await {
            return vec![part];
        }
        let was_mismatched = std::mem::take(&mut part.mismatched);
        let (verdict, failure) = self.judge(&mut part, &failed).await;
        if was_mismatched && !part.mismatched && failure.class == Class::Poison {
            // Somebody has repaired the table since this attempt.
            return vec![part];
        }
        self.exporter.metrics.failed(failure.class);
        match verdict {
            Verdict::Row if failure.class == Class::Poison => match self.isolate(&mut part, &failure) {
                Isolated::Row => vec![part],
                Isolated::Rest(rest) => vec![part, *rest],
                Isolated::Nothing => self.hold(part, &failure, Verdict::Server, tried).await,
            },
            Verdict::Row => self.suspect(part, &failure, others).await,
            Verdict::Unproven if others < MOST_PARTS => {
                let mut held = self.hold(part, &failure, verdict, tried).await;
                held.iter_mut().for_each(|part| part.hurried = self.senders_wait());
                held.into_iter().flat_map(|part| part.divide(&failure)).collect()
            }
            verdict => self.hold(part, &failure, verdict, tried).await,
        }
    }

    /// The table accepts other rows than these: divides the batch until the row at fault is alone, and gives that up after
    /// some attempts.
    async fn suspect(&mut self, mut part: Delivery, failure: &Failure, others: usize) -> Vec<Delivery> {
        let exporter = self.exporter;
        self.trouble = None;
        self.stuck.get_or_insert_with(|| exporter.store.standing.stuck(failure));
        self.tell(failure, &part);
        let alone = part.sent().len() <= 1;
        let mut wait = if self.senders_wait() && !alone { Duration::ZERO } else { self.next_wait(failure) };
        let is_last = self.gives_up(&part, wait);
        // A single row becomes a dead letter while its sender still waits.
        if is_last && self.senders_wait() && (!alone || part.batch.nobody_waits_any_more()) {
            self.give_up(part, failure);
            return Vec::new();
        }
        if is_last {
            wait = Duration::ZERO;
        }
        part.suspicions += 1;
        let since = *part.suspected.get_or_insert_with(Instant::now);
        let (ends, crowded) = (exporter.buffer.is_closed(), others >= MOST_WAITING / 2);
        let given_up = self.given_up.get(failure.code()).is_some_and(|at| at.elapsed() < GIVEN_UP_LATELY);
        let patience = Patience::with(failure, given_up, ends, crowded);
        if ends {
            wait = wait.min(SHUTDOWN_WAIT);
        }
        if failure.may_pass() && !is_last && !ends {
            // Longer waits keep the attempts few if many rows fail.
            wait = wait.max((since.elapsed() / 2).min(LONGEST_WAIT));
        }
        if failure.may_be_a_lock() {
            // A session that may still be working on these rows has to end before the next attempt.
            self.end_lost_session(&part).await;
            part.hurried = true;
        }
        part.not_before = Instant::now() + wait;
        match part.sent()[..] {
            [index] if is_last || patience.ends(part.suspicions, since.elapsed()) => {
                part.bury(index, failure);
                self.refused += 1;
                self.given_up.insert(failure.code().to_owned(), Instant::now());
            }
            [] | [_] => {}
            // A session can end once for any reason.
            _ if failure.ends_the_session() && part.suspicions == 1 => {}
            _ => {
                part.not_before = Instant::now();
                return part.divide(failure);
            }
        }
        vec![part]
    }

    /// Waits for a problem to pass or to be fixed; returns what is left to write then.
    async fn hold(
        &mut self,
        mut part: Delivery,
        failure: &Failure,
        verdict: Verdict,
        tried: Instant,
    ) -> Vec<Delivery> {
        let exporter = self.exporter;
        if verdict != Verdict::Ourselves {
            self.trouble.get_or_insert_with(|| exporter.store.standing.trouble());
            exporter.store.standing.report(failure);
        }
        if failure.class == Class::DiskFull {
            exporter.store.room.want(tried);
        }
        self.tell(failure, &part);
        let wait = self.next_wait(failure);
        if self.gives_up(&part, wait) {
            self.give_up(part, failure);
            return Vec::new();
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = exporter.store.room.made_since(tried), if failure.class == Class::DiskFull => {}
        }
        if failure.may_be_a_lock() {
            self.end_lost_session(&part).await;
        }
        part.hurried = false;
        // Other parts of the batch go first: they may succeed.
        part.not_before = Instant::now();
        if failure.asks_for_less() && !part.in_doubt && part.batch.len() > SMALLEST {
            self.most = (part.batch.len() / 4).max(SMALLEST);
        }
        vec![part]
    }

    /// The wait before the next try, after `failure`.
    fn next_wait(&mut self, failure: &Failure) -> Duration {
        self.backoff.follow(self.exporter.store.retry());
        let at_once = std::mem::take(&mut self.healthy) && failure.class == Class::Connection;
        match failure.class {
            _ if at_once => Duration::ZERO,
            Class::DiskFull => self.backoff.next_wait().max(DISK_FULL_WAIT),
            _ => self.backoff.next_wait(),
        }
    }

    fn settle(&mut self, part: Delivery, written: Written, tried: Instant) {
        let exporter = self.exporter;
        let divided = part.is_divided();
        let Delivery { batch, dead, diverted, .. } = part;
        self.trouble = None;
        self.next_turn();
        if !std::mem::replace(&mut self.healthy, true) {
            self.backoff = Backoff::new(exporter.store.retry());
        }
        self.most = self.most.saturating_mul(2);
        if !divided {
            self.known.add(batch.resources().map(|resource| resource.id));
            self.known.add(batch.scopes().map(|scope| scope.id));
        }
        if written == Written::Before {
            tracing::info!(records = batch.len(), "the batch whose COMMIT was not answered is stored");
        }
        exporter.metrics.flushed(batch.len() - dead.len(), tried.elapsed());
        exporter.diverted(diverted);
        exporter.store.standing.wrote();
        if let Some(DeadLetter { sqlstate, message: error }) = dead.values().next() {
            let records = dead.len();
            let text = "PostgreSQL refused records; they are kept in dead_letters";
            tracing::warn!(records, sqlstate, error, "{text}");
        }
        if let Some(stored) = (0..batch.len()).rev().find(|index| !dead.contains_key(index)) {
            self.refused = 0;
            let slowly = tried.elapsed() > exporter.config.timeout.0 / HURRY;
            if batch.format().is_none() {
                exporter.sample.renew(&batch, stored, slowly);
            }
        }
        batch.settle_written(&dead.into_keys().collect());
    }

    /// Counts the batch number up, and after some batches gives the lane's row a new number. While somebody has a transaction open,
    /// all old versions of a row remain, and each lookup by its number has to pass those with the same number.
    fn next_turn(&mut self) {
        self.before = None;
        self.sequence += 1;
        let lanes = self.lanes();
        // No further number is left at the end. Smaller ones may be in use by rows that a lagging standby has left.
        if self.sequence > BATCHES_IN_A_ROW
            && let Some(row) = self.row.checked_add(lanes)
        {
            self.before = Some((self.row, self.sequence - 1));
            self.row = row;
            self.sequence = 1;
        }
    }

    /// The number of lanes, by which a row's number grows.
    pub(super) fn lanes(&self) -> i16 {
        i16::try_from(self.exporter.lanes()).unwrap_or(i16::MAX)
    }

    /// Takes the row at fault out of the batch, or divides the batch to find it.
    fn isolate(&mut self, part: &mut Delivery, failure: &Failure) -> Isolated {
        let before = part.dead.len();
        let isolated = part.isolate(failure);
        let mut dead = part.dead.len();
        if let Isolated::Rest(rest) = &isolated {
            dead += rest.dead.len();
            self.most = self.most.min(MOST_AMONG_FAULTS);
        }
        self.refused += dead - before;
        isolated
    }

    /// Whether to give up instead of trying again after `wait`.
    fn gives_up(&self, part: &Delivery, wait: Duration) -> bool {
        let elapsed = part.started.elapsed();
        // Senders that got no answer send again, so writing it later would store it twice.
        let too_late =
            || elapsed + wait >= self.exporter.config.timeout.0 || part.batch.nobody_waits_any_more();
        // A batch in doubt is never given up: it may be stored, and would be counted as lost.
        !part.in_doubt && (self.backoff.is_exhausted(elapsed) || (self.senders_wait() && too_late()))
    }

    fn give_up(&mut self, part: Delivery, failure: &Failure) {
        let records = part.batch.len();
        self.trouble = None;
        // Waiting senders are told to send again, and lose nothing.
        if !self.senders_wait() {
            tracing::error!(records, %failure, "records were dropped: retry_on_failure allows no further try");
        }
        part.batch.settle_dropped(DropReason::RetryExhausted);
    }

    /// Whether senders wait for the result. Then they keep the records, and send them again if necessary.
    pub(super) fn senders_wait(&self) -> bool {
        !self.exporter.config.sending_queue.enabled
    }

    fn tell(&self, failure: &Failure, part: &Delivery) {
        tracing::debug!(
            lane = self.number,
            class = <&str>::from(failure.class),
            %failure,
            records = part.batch.len(),
            in_doubt = part.in_doubt,
            "a batch could not be written"
        );
    }
}
