//! The store: everything in the database, and how it is maintained.
//!
//! [`keeper`] prepares it at the start and restores what somebody drops (`renewal.rs`), [`schema`] creates and migrates the tables,
//! [`view`] the view and the functions, [`partitions`] makes, indexes, counts and drops partitions when they are due, [`existing`]
//! checks an existing table. [`Standing`] says whether the store takes rows now. Lanes and commands read and write the store; only
//! this module changes its schema.

pub mod config;
pub mod existing;
mod horizon;
pub mod keeper;
pub mod lanes;
mod metrics;
pub mod origins;
pub mod partitions;
mod renewal;
pub mod schema;
mod standing;
pub mod triggers;
pub mod view;
mod waits;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::metrics::Meter;
use uuid::Uuid;

use crate::postgres::backoff::RetryConfig;
use crate::postgres::dsn::{DsnError, Target};
use crate::postgres::pool::Pool;
use crate::table::Destination;
use crate::table::identifier::Schema;
use crate::telemetry::Health;
pub use config::Config;
use horizon::Horizon;
use metrics::Metrics;
use partitions::Partitions;
use partitions::indexer;
use partitions::retention::DiskRoom;
use renewal::Renewal;
pub use standing::{Standing, Stuck, Trouble};
use waits::Waits;

/// The store of one forebay, and the connections to it.
#[derive(Debug)]
pub struct Store {
    /// The connections of the lanes, the clerk and the keeper.
    pub pool: Pool,
    /// The connections of the indexer and of the task for stray records, while these have work.
    builders: Pool,
    /// The schema of forebay's own tables.
    pub schema: Schema,
    /// The table that the rows go to.
    pub destination: Destination,
    /// Identifies this run in the table of lanes.
    pub gateway: Uuid,
    /// The partitions that are known to exist.
    pub partitions: Partitions,
    /// Whether it takes rows.
    pub standing: Standing,
    /// Room on a disk that is full.
    pub room: DiskRoom,
    config: Config,
    /// How to retry after a failure; a reload may change it.
    retry: Mutex<RetryConfig>,
    horizon: Horizon,
    waits: Waits,
    /// Restores what somebody drops.
    renewal: Renewal,
    metrics: Metrics,
    /// Whether it was logged that triggers keep records out of the table.
    told_of_triggers: AtomicBool,
}

impl Store {
    /// The store at `target`, whose rows go to `destination`. It connects when its tasks run.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up, such as a root certificate that cannot be read.
    pub fn new(
        config: Config,
        retry: RetryConfig,
        destination: Destination,
        target: Target,
        health: Health,
        meter: &Meter,
    ) -> Result<Self, DsnError> {
        let builders = Pool::new(target.clone(), 2, indexer::LONGEST)?;
        let pool = Pool::new(target, config.pool_size, config.timeout)?;
        Ok(Self {
            pool,
            builders,
            schema: Schema::new(config.schema.clone()),
            destination,
            gateway: Uuid::new_v4(),
            partitions: Partitions::new(&config),
            standing: Standing::new(health.clone()),
            room: DiskRoom::default(),
            retry: Mutex::new(retry),
            horizon: Horizon::new(meter),
            waits: Waits::new(health),
            renewal: Renewal::default(),
            metrics: Metrics::new(meter),
            told_of_triggers: AtomicBool::new(false),
            config,
        })
    }

    /// Applies `retry` from the next failure on.
    pub fn set_retry(&self, retry: RetryConfig) {
        *self.retry.lock().unwrap_or_else(PoisonError::into_inner) = retry;
    }

    /// How to retry after a failure.
    pub fn retry(&self) -> RetryConfig {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether forebay makes partitions: only if rows go to its own table.
    pub fn makes_partitions(&self) -> bool {
        self.config.create_schema && self.destination.mapping().is_none()
    }

    /// Whether to log that triggers keep records out of the table: true once.
    pub fn triggers_are_news(&self) -> bool {
        !self.told_of_triggers.swap(true, Ordering::Relaxed)
    }

    /// Closes the connections.
    pub fn close(&self) {
        self.pool.close();
        self.builders.close();
    }
}

/// The longest wait for anything that is not a batch: a lookup, a rollback, a migration's statement.
pub const HOUSEKEEPING: Duration = Duration::from_secs(10);
