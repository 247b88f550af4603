//! The indexer: builds the indexes of closed partitions, counts their records, and vacuums them once.
//!
//! It yields to writing: it begins nothing while a lane is in trouble or the buffer is half full, and cancels its work if that
//! lasts. It has a connection of its own while there is work. The catalogue shows what is done, and what a crash has left half
//! done: an index that is invalid while nobody holds the lock under which it would be built. That lock also keeps several gateways
//! from working on one partition.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::again::Again;
use super::catalogue::{Partition, PartitionState, partition_states};
use super::memory::give_memory;
use super::retention::is_closed;
use super::steps::{Step, lacks};
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::{Connection, attempt, bounded};
use crate::store::{HOUSEKEEPING, Store};
use crate::table::counts::{self, Counts};
use crate::table::identifier::{Schema, quoted};
use crate::table::index::Index;

struct Indexer<'a> {
    store: &'a Store,
    /// Whether the buffer has room to spare.
    has_room: &'a (dyn Fn() -> bool + Sync),
    stopping: watch::Receiver<bool>,
    /// Partitions that this run has finished. The catalogue shows it as well, unless somebody's old transaction keeps rows from
    /// being frozen.
    finished: HashSet<u32>,
    /// The steps that failed.
    failed: HashMap<(u32, Step), Again>,
    told_of_trigrams: bool,
    /// The keys of the counts into which many late records are still to be folded.
    with_late: HashSet<String>,
}

/// How often to look for work.
const EVERY: Duration = Duration::from_secs(60);
/// The longest that one statement may take.
pub(crate) const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// The longest that a round may take: some statements for each of many partitions.
const ROUND: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often to check whether writing suffers, and after how many times in a row to give up.
const GLANCE: Duration = Duration::from_millis(500);
const GLANCES: usize = 10;
/// How often another gateway may begin the same step at the same moment, before the partition is left to it.
const RIVALRIES: usize = 5;
/// How long a cancelled statement may take to end.
const ENDING: Duration = Duration::from_secs(2);
/// A build waits for older transactions, however long they take, and blocks nobody. There is no hurry, so it uses one process, and
/// sleeps in between where PostgreSQL supports that.
const SESSION: &str =
    "SET lock_timeout = 0; SET max_parallel_maintenance_workers = 0; SET vacuum_cost_delay = '2ms'";

impl Store {
    /// Builds indexes until `ending`, while the buffer in front of the store `has_room` to spare. An index that is being built then
    /// is cancelled, and built again after the next start.
    pub async fn run_indexer(&self, has_room: impl Fn() -> bool + Sync, ending: impl Future<Output = ()>) {
        let (stop, stopping) = watch::channel(false);
        let mut indexer = Indexer {
            store: self,
            has_room: &has_room,
            stopping,
            finished: HashSet::new(),
            failed: HashMap::new(),
            told_of_trigrams: false,
            with_late: HashSet::new(),
        };
        let ends = async {
            ending.await;
            stop.send_replace(true);
        };
        tokio::join!(ends, indexer.work());
    }
}

impl Indexer<'_> {
    /// Whether writing leaves room for other work.
    fn is_at_ease(&self) -> bool {
        self.store.standing.takes_batches() && (self.has_room)()
    }

    async fn work(&mut self) {
        let mut stopping = self.stopping.clone();
        if !self.store.makes_partitions() {
            let _ = stopping.wait_for(|stop| *stop).await;
            return;
        }
        tokio::select! {
            () = self.store.standing.ready() => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        loop {
            if self.is_at_ease()
                && let Err(failure) = self.round().await
            {
                tracing::debug!(%failure, "indexes cannot be looked after now");
            }
            tokio::select! {
                () = sleep(EVERY) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Does all work that is due, the newest partition first, since it is read most.
    async fn round(&mut self) -> Result<(), Failure> {
        let store = self.store;
        // On one of the lanes' connections, since most of the time there is nothing to do.
        let seen =
            async |c: &_| Ok((partition_states(c, &store.schema).await?, with_late(c, &store.schema).await?));
        let ((seen, now), with_late) = store.pool.session(HOUSEKEEPING, seen).await?;
        self.with_late = with_late;
        self.failed.retain(|(oid, _), _| seen.iter().any(|state| state.partition.oid == *oid));
        let policy = &store.config.retention;
        let is_due = |state: &&PartitionState| {
            let stays = state.partition.range.is_some_and(|range| !policy.is_past(range.1, now));
            stays && self.next(state, now).is_some()
        };
        let partitions: Vec<_> =
            seen.iter().rev().filter(is_due).map(|state| state.partition.clone()).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let mut session = store.builders.get().await?;
        let work = async |connection: &Connection| -> Result<(), Failure> {
            in_time(async { Ok(connection.batch_execute(SESSION).await?) }).await?;
            for partition in partitions {
                if !*self.stopping.borrow() && self.is_at_ease() {
                    self.complete(connection, &partition).await?;
                }
            }
            Ok(())
        };
        let done = session.within(ROUND, work).await;
        session.end();
        done
    }

    /// The next step of a partition, except those that wait after a failure.
    fn next(&self, state: &PartitionState, now: i64) -> Option<Step> {
        let oid = state.partition.oid;
        let has_late = matches!(&state.counts, Counts::Done(key) if self.with_late.contains(key));
        let again = has_late.then_some(Step::Count);
        let is_left = |step: &Step| {
            let is_left_alone = self.failed.get(&(oid, *step)).is_some_and(|again| !again.is_due());
            !is_left_alone && (*step != Step::Finish || !self.finished.contains(&oid))
        };
        lacks(state, &self.store.config, now).chain(again).find(is_left)
    }

    /// Takes all steps that this partition needs.
    async fn complete(&mut self, connection: &Connection, partition: &Partition) -> Result<(), Failure> {
        let (mut built, mut rivalries) = (false, 0);
        loop {
            if !in_time(is_free(connection, partition)).await? {
                return Ok(());
            }
            // Checked behind the lock, since another gateway may have been at work.
            let (seen, now) = in_time(partition_states(connection, &self.store.schema)).await?;
            let Some(state) = seen.iter().find(|state| state.partition.oid == partition.oid) else {
                return Ok(());
            };
            let step = match self.next(state, now) {
                Some(step) => step,
                // New indexes on expressions need statistics.
                None if built && is_closed(state.partition.range.unwrap_or_default(), now) => Step::Finish,
                None => return Ok(()),
            };
            if *self.stopping.borrow() || !self.is_at_ease() {
                return Ok(());
            }
            match attempt(connection, self.take(connection, state, step)).await? {
                Ok(has_built) => built |= has_built,
                Err(_) if *self.stopping.borrow() => return Ok(()),
                Err(failure) => {
                    if is_rivalry(&failure) && rivalries < RIVALRIES {
                        rivalries += 1;
                        sleep(GLANCE.mul_f64(fastrand::f64())).await;
                        continue;
                    }
                    self.leave_alone(partition, step, &failure);
                }
            }
            built &= step != Step::Finish;
        }
    }

    /// Takes a step; returns whether there is a new index.
    async fn take(
        &mut self,
        connection: &Connection,
        state: &PartitionState,
        step: Step,
    ) -> Result<bool, Failure> {
        let partition = &state.partition;
        let began = Instant::now();
        match step {
            Step::Build(index) => {
                let Some(trigrams) = self.trigrams(connection, index).await? else {
                    self.failed.insert((partition.oid, step), Again::soon());
                    return Ok(false);
                };
                let name = index.name(&partition.name);
                if state.invalid.contains(&name) {
                    in_time(remove_leftover(connection, partition, &name)).await?;
                }
                in_time(give_memory(connection, state, index)).await?;
                let build = index.statement(&partition.schema, &partition.name, &trigrams);
                let built = self.build(connection, partition, &name, &build).await;
                match index.statement_for_long(&partition.schema, &partition.name) {
                    Some(build) if built.as_ref().is_err_and(is_of_a_long_value) => {
                        self.build(connection, partition, &name, &build).await?;
                    }
                    _ => built?,
                }
                self.store.metrics.indexed(index);
                tracing::info!(partition = partition.name, index = name, elapsed = ?began.elapsed(), "built an index");
            }
            Step::Count => {
                self.count(connection, state).await?;
                tracing::info!(partition = partition.name, elapsed = ?began.elapsed(), "counted a partition");
            }
            Step::Finish => {
                let vacuum = format!("VACUUM (FREEZE, ANALYZE) {}", partition.qualified);
                self.execute(connection, &vacuum).await?;
                self.finished.insert(partition.oid);
                tracing::info!(partition = partition.name, elapsed = ?began.elapsed(), "froze and analysed a partition");
            }
        }
        Ok(matches!(step, Step::Build(_)))
    }

    /// Builds an index by `statement`; if that fails, removes what it left.
    async fn build(
        &self,
        connection: &Connection,
        partition: &Partition,
        name: &str,
        statement: &str,
    ) -> Result<(), Failure> {
        let built = self.execute(connection, statement).await;
        if built.as_ref().is_err_and(|failure| failure.class != Class::Connection) {
            // The remains are useless, and take room, which may be what is missing.
            let _ = in_time(remove_leftover(connection, partition, name)).await;
        }
        built
    }

    /// Puts off a step that failed. Only the first failure is a warning.
    fn leave_alone(&mut self, partition: &Partition, step: Step, failure: &Failure) {
        let before = self.failed.remove(&(partition.oid, step));
        let again = Again::after(before.as_ref(), failure);
        let wait = again.wait();
        if before.is_none() {
            tracing::warn!(partition = partition.name, ?step, %failure, ?wait, "a closed partition cannot be completed yet");
        } else {
            tracing::debug!(partition = partition.name, ?step, %failure, ?wait, "a partition still cannot be completed");
        }
        self.failed.insert((partition.oid, step), again);
    }

    /// Counts a partition's records, after making the trigger that keeps the counts; if it is counted, folds in late records.
    async fn count(&mut self, connection: &Connection, state: &PartitionState) -> Result<(), Failure> {
        let (schema, partition) = (&self.store.schema, &state.partition);
        let count = match &state.counts {
            Counts::Done(key) => {
                self.with_late.remove(key);
                counts::fold(schema, key)
            }
            Counts::Begun(key) => counts::count(schema, &partition.qualified, key),
            Counts::None | Counts::Off => {
                let key = counts::key(&partition.name, partition.oid);
                let keep = counts::keep(schema, &partition.qualified, &key);
                let keep = format!("{}; {keep}; COMMIT", to_lock(partition, "200ms"));
                in_time(async { Ok(connection.batch_execute(&keep).await?) }).await?;
                counts::count(schema, &partition.qualified, &key)
            }
        };
        // The lock comes before the snapshot, so that nobody else can count in between.
        let begin = to_lock(partition, "3s") + "; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
        self.execute(connection, &format!("{begin}; {count}; COMMIT")).await
    }

    /// The schema of pg_trgm, if `index` needs it; `None` if the extension is missing.
    async fn trigrams(&mut self, connection: &Connection, index: Index) -> Result<Option<String>, Failure> {
        if !index.needs_trigrams() {
            return Ok(Some(String::new()));
        }
        let found = in_time(trigrams(connection)).await?;
        if found.is_none() && !std::mem::replace(&mut self.told_of_trigrams, true) {
            tracing::warn!("the index body needs the extension pg_trgm: CREATE EXTENSION pg_trgm");
        }
        Ok(found)
    }

    /// Runs a statement, and cancels it if forebay ends or writing suffers.
    async fn execute(&self, connection: &Connection, sql: &str) -> Result<(), Failure> {
        let mut running = std::pin::pin!(connection.batch_execute(sql));
        let why = tokio::select! {
            done = &mut running => return Ok(done?),
            why = self.called_off() => why,
            // PostgreSQL's own limit would have come first, if it were reachable.
            () = sleep(LONGEST + ENDING) => return Err(Failure::deadline(LONGEST.as_secs_f64())),
        };
        self.store.builders.cancel(connection, ENDING).await;
        match timeout(ENDING, running).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Failure::new(Class::Busy, why)),
            Err(_) => Err(Failure::new(Class::Connection, why)),
        }
    }

    /// Waits until the statement has to be cancelled; returns the reason.
    async fn called_off(&self) -> &'static str {
        let mut stopping = self.stopping.clone();
        let suffers = async {
            let mut glances = 0;
            while glances < GLANCES {
                sleep(GLANCE).await;
                glances = if self.is_at_ease() { 0 } else { glances + 1 };
            }
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => "forebay ends",
            () = suffers => "writing records goes first",
        }
    }
}

/// The keys of the counts with many late records.
async fn with_late(connection: &Connection, schema: &Schema) -> Result<HashSet<String>, Failure> {
    let rows = connection.query(&counts::with_late(schema), &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The schema of the extension pg_trgm.
pub(crate) async fn trigrams(connection: &Connection) -> Result<Option<String>, Failure> {
    let select = "SELECT nspname::text FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace \
                  WHERE extname = 'pg_trgm'";
    Ok(connection.query_opt(select, &[]).await?.map(|row| row.get(0)))
}

/// Bounds a short operation.
async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    bounded(HOUSEKEEPING, work).await
}

/// Whether nobody builds an index on the partition or vacuums it: both hold the lock that is tried here. An autovacuum yields to a
/// wait of more than deadlock_timeout (1 s), and no writer waits behind this lock.
async fn is_free(connection: &Connection, partition: &Partition) -> Result<bool, Failure> {
    let lock = format!("{}; COMMIT", to_lock(partition, "3s"));
    // If it fails, somebody has the lock, or the partition is gone.
    let locked = async { Ok::<_, Failure>(connection.batch_execute(&lock).await?) };
    Ok(attempt(connection, locked).await?.is_ok())
}

/// Drops an invalid index that a build has left. It checks that behind the lock that a build holds, in the transaction that drops
/// it, because an index that another gateway is building looks the same without the lock. So it cannot be dropped CONCURRENTLY, but
/// only in a moment when nobody else uses the partition.
async fn remove_leftover(connection: &Connection, partition: &Partition, name: &str) -> Result<(), Failure> {
    let name = format!("{}.{}", quoted(&partition.schema), quoted(name));
    connection.batch_execute(&to_lock(partition, "200ms")).await?;
    let left = "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)";
    if connection.query_one(left, &[&name]).await?.get(0) {
        connection.batch_execute(&format!("DROP INDEX {name}")).await?;
    }
    connection.batch_execute("COMMIT").await?;
    Ok(())
}

/// The SQL that begins a transaction in which nobody else builds on the partition, with this limit on each wait for a lock.
fn to_lock(partition: &Partition, limit: &str) -> String {
    format!(
        "BEGIN; SET LOCAL lock_timeout = '{limit}'; LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE",
        partition.qualified
    )
}

/// Whether a value in the partition is too long for the index.
fn is_of_a_long_value(failure: &Failure) -> bool {
    failure.sqlstate.as_deref() == Some("54000")
}

/// Whether another gateway has begun the same step at the same moment: it was quicker, or the two deadlocked.
fn is_rivalry(failure: &Failure) -> bool {
    matches!(failure.sqlstate.as_deref(), Some("42P07" | "42710" | "23505" | "40P01"))
}
