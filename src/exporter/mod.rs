//! The way out: batches from the buffer into PostgreSQL, by binary COPY, over connections of its own.
//!
//! [`lane`] is the loop of one writer: take a batch, write it in one transaction (`write.rs`), settle it. A failure is sorted
//! by [`error`], and `verdict.rs` decides whose fault it was: a row's (it becomes a dead letter, the others are
//! written), the table's or the server's (the batch is kept and tried again). A COMMIT whose answer was lost is looked
//! up by the lane's sequence row, so that nothing is written twice.
//!
//! Beside them, for the command line: [`doctor`] looks into all of it, [`dead_letters`] sends refused rows again,
//! [`reading`] shows what is stored, and [`partitions::show`] what is kept for how long.
//!
//! `losses.rs` writes down what was lost. [`keeper`] prepares the store: schema, partitions, and a look now and then
//! whether it still answers. This is the only module that names tokio-postgres and deadpool.

mod attempt;
pub mod backoff;
pub mod command_error;
pub mod config;
mod connect;
mod context;
pub mod dead_letters;
mod delivery;
pub mod doctor;
pub mod dsn;
pub mod error;
pub mod existing;
mod horizon;
pub mod keeper;
mod known;
pub mod lane;
mod losses;
mod metrics;
mod origins;
pub mod partitions;
pub mod pool;
pub mod reading;
mod redact;
mod renewal;
mod sample;
pub mod schema;
mod tls;
mod triggers;
mod verdict;
mod view;
mod waits;
mod write;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::metrics::Meter;
use tokio::sync::watch;
use uuid::Uuid;

use crate::buffer::Buffer;
use crate::table::Destination;
use crate::table::identifier::Schema;
use crate::telemetry::Health;
use config::{Config, RetryConfig};
use dsn::Target;
use error::{Class, Failure};
use horizon::Horizon;
use metrics::Metrics;
use partitions::Partitions;
use partitions::indexer;
use partitions::retention::Room;
use pool::Pool;
use renewal::Renewal;
use sample::Sample;
use waits::Waits;

/// What the lanes and the keeper share.
#[derive(Debug)]
pub struct Exporter {
    pool: Pool,
    /// The connections of the indexer and of the task for stray records, while these have work.
    builders: Pool,
    schema: Schema,
    /// Where the rows go.
    destination: Destination,
    config: Config,
    /// `config.retry_on_failure`, which may change.
    retry: Mutex<RetryConfig>,
    /// Names this run in the table of lanes.
    gateway: Uuid,
    buffer: Arc<Buffer>,
    partitions: Partitions,
    horizon: Horizon,
    waits: Waits,
    /// On a disk that is full.
    room: Room,
    metrics: Metrics,
    health: Health,
    store_ready: watch::Sender<bool>,
    /// Of what somebody drops.
    renewal: Renewal,
    /// For the lanes that suspect the table.
    sample: Sample,
    /// A lane has written a batch since the keeper last looked.
    wrote_lately: AtomicBool,
    /// Lanes whose batch the store does not take.
    troubled: AtomicUsize,
    /// Lanes whose batch is held up by its own records.
    stuck: AtomicUsize,
    /// The last that was heard of the store, by whichever lane: it took rows.
    took_last: AtomicBool,
    /// It was said that triggers keep records out of the table.
    told_of_triggers: AtomicBool,
}

/// The store does not take a lane's batch, for as long as this lives.
struct Trouble<'a>(&'a AtomicUsize);

/// A lane's batch is held up by its own records, while the store takes others, for as long as this lives.
struct Stuck<'a>(&'a Exporter);

impl Exporter {
    /// An exporter from `buffer` to the `destination` at `target`. It connects when its tasks run.
    ///
    /// # Errors
    ///
    /// Where TLS cannot be set up, such as a root certificate that cannot be read.
    pub fn new(
        config: Config,
        destination: Destination,
        target: Target,
        buffer: Arc<Buffer>,
        health: Health,
        meter: &Meter,
    ) -> Result<Self, dsn::DsnError> {
        let builders = Pool::new(target.clone(), 2, indexer::LONGEST)?;
        let pool = Pool::new(target, config.pool_size, config.timeout.0)?;
        Ok(Self {
            pool,
            builders,
            schema: Schema::new(config.schema.clone()),
            destination,
            gateway: Uuid::new_v4(),
            buffer,
            partitions: Partitions::new(&config),
            horizon: Horizon::new(meter),
            waits: Waits::default(),
            room: Room::default(),
            metrics: Metrics::new(meter),
            health,
            store_ready: watch::Sender::new(false),
            renewal: Renewal::default(),
            sample: Sample::default(),
            wrote_lately: AtomicBool::new(false),
            troubled: AtomicUsize::new(0),
            stuck: AtomicUsize::new(0),
            took_last: AtomicBool::new(true),
            told_of_triggers: AtomicBool::new(false),
            retry: Mutex::new(config.retry_on_failure.clone()),
            config,
        })
    }

    /// The number of lanes, each to be run by [`Exporter::run_lane`].
    pub fn lanes(&self) -> usize {
        self.config.pool_size
    }

    /// From the next failure on `retry` holds.
    pub fn set_retry(&self, retry: RetryConfig) {
        *self.retry.lock().unwrap_or_else(PoisonError::into_inner) = retry;
    }

    fn retry(&self) -> RetryConfig {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether forebay makes the days' partitions: of its own table only, and only where rows go there.
    fn makes_partitions(&self) -> bool {
        self.config.create_schema && self.destination.mapping().is_none()
    }

    /// Closes the connections.
    pub fn close(&self) {
        self.pool.close();
        self.builders.close();
    }

    /// Waits until the schema is there. Lanes take nothing before, so that the overflow policy sees all that waits.
    async fn store_is_ready(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.store_ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether the store is there and takes rows, whatever becomes of the batch of one lane.
    fn takes_batches(&self) -> bool {
        let takes = self.troubled.load(Ordering::Acquire) == 0 || self.took_last.load(Ordering::Acquire);
        *self.store_ready.borrow() && takes
    }

    /// The store has taken a row.
    fn took(&self) {
        self.took_last.store(true, Ordering::Release);
        self.met();
    }

    /// Counts records that a trigger has kept out of the table, and says so once.
    fn diverted(&self, records: u64) {
        if records > 0 {
            self.metrics.diverted(records);
            if !self.told_of_triggers.swap(true, Ordering::Relaxed) {
                let table = self.destination.table();
                tracing::warn!(
                    records,
                    table,
                    "a trigger keeps records out of the table; they count as flushed, and in log_buffer_diverted_total"
                );
            }
        }
    }

    /// Tells health what a failure of the store means.
    fn report(&self, failure: &Failure) {
        self.took_last.store(false, Ordering::Release);
        use crate::telemetry::StoreTrouble;
        let trouble = match failure.class {
            Class::Refused if failure.is_a_mismatch() => StoreTrouble::SchemaMismatch,
            // Where no record is at fault, such as by a trigger on DDL, it is the database that refuses.
            Class::Refused | Class::DiskFull | Class::Unknown | Class::Poison => {
                StoreTrouble::DatabaseRefuses
            }
            Class::Connection if failure.sqlstate.as_deref() == Some("25006") => {
                StoreTrouble::DatabaseRefuses
            }
            Class::Busy if failure.sqlstate.as_deref() == Some("53400") => StoreTrouble::DatabaseRefuses,
            Class::Connection | Class::Busy => StoreTrouble::DatabaseUnreachable,
        };
        self.health.store_unavailable(trouble, failure.to_string());
    }

    /// Tells health that the store was met, which is good news unless a lane is stuck all the same: a session can be
    /// had of a database whose disk is full.
    fn met(&self) {
        if self.troubled.load(Ordering::Acquire) == 0 {
            self.health.store_ready();
        }
    }
}

impl<'a> Trouble<'a> {
    fn new(troubled: &'a AtomicUsize) -> Self {
        troubled.fetch_add(1, Ordering::AcqRel);
        Self(troubled)
    }
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<'a> Stuck<'a> {
    fn new(exporter: &'a Exporter, failure: &Failure) -> Self {
        exporter.stuck.fetch_add(1, Ordering::AcqRel);
        exporter.health.stuck(failure.to_string());
        Self(exporter)
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        if self.0.stuck.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.health.moves();
        }
    }
}

/// The longest wait for anything that is not a batch: a lookup, a rollback, a migration's statement.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
