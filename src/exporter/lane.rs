//! A writer lane: take a batch, write it, settle it, for as long as there is something to take.

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

/// No transaction is divided further for taking too long, unless the table takes other rows in a moment.
const SMALLEST: usize = 100;
/// So many batches are written under one number of the lane's row.
const BATCHES_IN_A_ROW: i64 = 200;
/// The most rows of a transaction, once one batch has had two rows at fault: each further one costs that much again.
const MOST_AMONG_FAULTS: usize = 1000;
/// The most parts of batches that wait for their next try while the lane takes further batches.
const MOST_ASIDE: usize = 32;
/// The longest wait between two tries of a row under suspicion while forebay ends.
const AT_THE_END: Duration = Duration::from_millis(250);
/// The longest wait between two tries of a row whose failure may pass, where `retry_on_failure` has no longer one.
const LONGEST_ASIDE: Duration = Duration::from_secs(1);
/// The most parts of a batch while nothing tells whether a row is at fault at all.
const MOST_PARTS: usize = 64;
/// Within this share of the deadline the table has to take a row that it took before, so that a row which takes all of
/// the deadline is at fault; and so long a part of a batch under suspicion has.
pub(super) const HURRY: u32 = 4;
/// After 53100: each failed COPY leaves dead rows on the very disk that is full.
const DISK_FULL_WAIT: Duration = Duration::from_secs(30);
/// For so long it counts that a row was given up with the same code.
const GIVEN_UP_LATELY: Duration = Duration::from_secs(300);

/// One lane's state.
pub(super) struct Lane<'a> {
    pub(super) exporter: &'a Exporter,
    pub(super) number: i16,
    /// The number of its row.
    pub(super) row: i16,
    /// The number in that row of the batch to be written next.
    pub(super) sequence: i64,
    /// The number that the row had before, and that of the last batch then, until a batch is written in this one.
    pub(super) before: Option<(i16, i64)>,
    /// Resources and scopes that are stored.
    pub(super) known: Known,
    /// Whether the last try went well, so that a lost connection is worth an immediate second try.
    healthy: bool,
    /// The waits between tries that fail.
    backoff: Backoff,
    /// The most rows of a transaction. It falls when one takes too long, and grows with each that succeeds.
    most: usize,
    /// Rows that became dead letters since one was stored.
    pub(super) refused: usize,
    /// The codes for which rows were given up while the table took others, and when.
    given_up: BTreeMap<String, Instant>,
    /// While the store does not take what is written.
    trouble: Option<Trouble<'a>>,
    /// While the store takes other rows than those of the batch.
    pub(super) stuck: Option<Stuck<'a>>,
}

impl Exporter {
    /// Runs lane `number` until the buffer is closed and empty.
    pub async fn run_lane(&self, number: usize) {
        self.store.standing.ready().await;
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
    /// Takes batches and writes each or gives it up, in one piece or in several. When this is dropped on the way, what is
    /// left is counted as undelivered.
    async fn run(&mut self) {
        let mut parts = Vec::new();
        while let Some(mut part) = self.next(&mut parts).await {
            if self.senders_wait() && !part.in_doubt && part.batch.nobody_waits_any_more() {
                // They send again what they had no answer for.
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

    /// What is to be written next: one of `parts`, or a new batch where none of them is due; `None` at the end. Rows under
    /// suspicion wait for their next try without holding up other batches.
    async fn next(&self, parts: &mut Vec<Delivery>) -> Option<Delivery> {
        // What is in doubt has the lane's number until that is known.
        let next = (0..parts.len()).min_by_key(|&at| (!parts[at].in_doubt, parts[at].not_before));
        let Some(next) = next else {
            return self.exporter.buffer.take().await.map(|batch| self.whole(batch));
        };
        let Delivery { in_doubt, not_before, .. } = parts[next];
        let waits = !in_doubt && not_before > Instant::now();
        tokio::select! {
            biased;
            () = sleep_until(not_before) => {}
            Some(batch) = self.exporter.buffer.take(), if waits && parts.len() < MOST_ASIDE => {
                return Some(self.whole(batch));
            }
            // At the end there is nothing to take.
            else => sleep_until(not_before).await,
        }
        Some(parts.remove(next))
    }

    /// A batch, in one piece.
    fn whole(&self, batch: Batch) -> Delivery {
        let mut whole = Delivery::new(batch);
        // A row that takes all of the deadline is to be found while senders still wait for the others.
        whole.hurried = self.senders_wait();
        whole
    }

    /// Tries once to write `part`, beside which `others` wait; gives what is left of it, in the order in which it is to be
    /// written.
    async fn attempt(&mut self, mut part: Delivery, others: usize) -> Vec<Delivery> {
        let tried = Instant::now();
        let failed = match self.try_once(&mut part).await {
            Ok(written) => {
                self.settle(part, written, tried);
                return Vec::new();
            }
            // The keeper has the connection for a moment, and the wait for it was bounded.
            Err(failed)
                if failed.failure.is_a_wait_for_our_own_pool() && !self.gives_up(&part, Duration::ZERO) =>
            {
                return vec![part];
            }
            Err(failed) => failed,
        };
        if self.exporter.store.makes_again(&failed.failure, tried).await {
            return vec![part];
        }
        let was_mismatched = std::mem::take(&mut part.mismatched);
        let (verdict, failure) = self.judge(&mut part, &failed).await;
        if was_mismatched && !part.mismatched && failure.class == Class::Poison {
            // Somebody has repaired the table since this try.
            return vec![part];
        }
        self.exporter.metrics.failed(failure.class);
        match verdict {
            Verdict::Row if failure.class == Class::Poison => match self.isolate(&mut part, &failure) {
                Isolated::Row => vec![part],
                Isolated::Rest(rest) => vec![part, rest],
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

    /// The table takes other rows than these: divides the batch until the row at fault is alone, and gives that up after
    /// some tries.
    async fn suspect(&mut self, mut part: Delivery, failure: &Failure, others: usize) -> Vec<Delivery> {
        let exporter = self.exporter;
        self.trouble = None;
        self.stuck.get_or_insert_with(|| exporter.store.standing.stuck(failure));
        self.tell(failure, &part);
        let alone = part.sent().len() <= 1;
        let mut wait = if self.senders_wait() && !alone { Duration::ZERO } else { self.next_wait(failure) };
        let is_last = self.gives_up(&part, wait);
        // One that is alone becomes a dead letter while its sender waits for that.
        if is_last && self.senders_wait() && (!alone || part.batch.nobody_waits_any_more()) {
            self.give_up(part, failure);
            return Vec::new();
        }
        if is_last {
            wait = Duration::ZERO;
        }
        part.suspicions += 1;
        let since = *part.suspected.get_or_insert_with(Instant::now);
        let (ends, crowded) = (exporter.buffer.is_closed(), others >= MOST_ASIDE / 2);
        let patience = Patience::with(failure, self.was_given_up(failure), ends, crowded);
        if ends {
            wait = wait.min(AT_THE_END);
        }
        if failure.may_pass() && !is_last && !ends {
            // So that many of them cost few tries.
            wait = wait.max((since.elapsed() / 2).min(LONGEST_ASIDE));
        }
        if failure.may_be_a_lock() {
            // Of what is left at work on these rows nothing more is begun before it has ended.
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
            // A session may end for any reason once.
            _ if failure.ends_the_session() && part.suspicions == 1 => {}
            _ => {
                part.not_before = Instant::now();
                return part.divide(failure);
            }
        }
        vec![part]
    }

    /// Whether a row was given up lately for the same reason.
    fn was_given_up(&self, failure: &Failure) -> bool {
        self.given_up.get(failure.code()).is_some_and(|at| at.elapsed() < GIVEN_UP_LATELY)
    }

    /// Waits for what will pass or be repaired; gives what is left then.
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
        // Other parts of the batch go first: what they meet may be something else.
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
            self.remember(&batch);
        }
        if written == Written::Before {
            tracing::info!(records = batch.len(), "the batch whose COMMIT was not answered is stored");
        }
        exporter.metrics.flushed(batch.len() - dead.len(), tried.elapsed());
        exporter.diverted(diverted);
        exporter.store.standing.wrote();
        if let Some(DeadLetter { sqlstate, message: error }) = dead.values().next() {
            let records = dead.len();
            tracing::warn!(
                records,
                sqlstate,
                error,
                "PostgreSQL refused records; they are kept in dead_letters"
            );
        }
        if let Some(stored) = (0..batch.len()).rev().find(|index| !dead.contains_key(index)) {
            self.refused = 0;
            let slowly = tried.elapsed() > exporter.config.timeout.0 / HURRY;
            exporter.sample.renew(&batch, stored, slowly);
        }
        batch.settle_written(&dead.into_keys().collect());
    }

    /// The next batch has the next number; and after some of them the lane's row another one. As long as somebody has a transaction
    /// open, all versions of a row stay, and each look for it by its number goes past those with the same.
    fn next_turn(&mut self) {
        self.before = None;
        self.sequence += 1;
        let lanes = i16::try_from(self.exporter.lanes()).unwrap_or(i16::MAX);
        // The last number is kept: below it there may be rows that a lagging standby has left.
        if self.sequence > BATCHES_IN_A_ROW
            && let Some(row) = self.row.checked_add(lanes)
        {
            self.before = Some((self.row, self.sequence - 1));
            self.row = row;
            self.sequence = 1;
        }
    }

    /// Takes the row at fault out of the batch, or divides the batch so that it will be found.
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

    /// Whether there is to be no further try, which would come after `wait`.
    fn gives_up(&self, part: &Delivery, wait: Duration) -> bool {
        let elapsed = part.started.elapsed();
        // Senders send again what they had no answer for, so that it must not be written behind their backs.
        let too_late =
            || elapsed + wait >= self.exporter.config.timeout.0 || part.batch.nobody_waits_any_more();
        // A batch in doubt is never given up: it may be stored, and then it would be counted as lost.
        !part.in_doubt && (self.backoff.is_exhausted(elapsed) || (self.senders_wait() && too_late()))
    }

    fn give_up(&mut self, part: Delivery, failure: &Failure) {
        let records = part.batch.len();
        self.trouble = None;
        // Waiting senders are told, and keep what they are told to send again.
        if !self.senders_wait() {
            tracing::error!(records, %failure, "records were dropped: retry_on_failure allows no further try");
        }
        part.batch.settle_dropped(DropReason::RetryExhausted);
    }

    /// Where the sender waits for the result, it keeps the records itself and sends them again.
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

    fn remember(&mut self, batch: &Batch) {
        self.known.add(batch.resources().map(|resource| resource.id));
        self.known.add(batch.scopes().map(|scope| scope.id));
    }
}
