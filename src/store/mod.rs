//! The store: all that lies in the database, and how it is kept.
//!
//! [`keeper`] prepares it at the start and makes again what somebody drops (`renewal.rs`), [`schema`] creates and migrates the tables,
//! [`view`] the view and the functions, [`partitions`] makes, indexes, counts and drops partitions when they are due, [`existing`]
//! checks a table of somebody else. [`Standing`] is whether the store takes rows now. Lanes and commands write and read the
//! store; this room alone changes its shape.

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

/// The store of one forebay, and the ways to it.
#[derive(Debug)]
pub struct Store {
    /// The connections of the lanes, the clerk and the keeper.
    pub pool: Pool,
    /// The connections of the indexer and of the task for stray records, while these have work.
    builders: Pool,
    /// Where forebay's own tables are.
    pub schema: Schema,
    /// Where the rows go.
    pub destination: Destination,
    /// Names this run in the table of lanes.
    pub gateway: Uuid,
    /// What is known of the partitions.
    pub partitions: Partitions,
    /// Whether it takes rows.
    pub standing: Standing,
    /// On a disk that is full.
    pub room: DiskRoom,
    config: Config,
    /// What holds after a failure; it may change.
    retry: Mutex<RetryConfig>,
    horizon: Horizon,
    waits: Waits,
    /// Of what somebody drops.
    renewal: Renewal,
    metrics: Metrics,
    /// It was logged that triggers keep records out of the table.
    told_of_triggers: AtomicBool,
}

impl Store {
    /// The store at `target`, whose rows go to `destination`. It connects when its tasks run.
    ///
    /// # Errors
    ///
    /// Where TLS cannot be set up, such as a root certificate that cannot be read.
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

    /// From the next failure on `retry` holds.
    pub fn set_retry(&self, retry: RetryConfig) {
        *self.retry.lock().unwrap_or_else(PoisonError::into_inner) = retry;
    }

    /// What holds after a failure.
    pub fn retry(&self) -> RetryConfig {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether forebay makes the days' partitions: of its own table only, and only where rows go there.
    pub fn makes_partitions(&self) -> bool {
        self.config.create_schema && self.destination.mapping().is_none()
    }

    /// Whether triggers that keep records out of the table are news, which they are once.
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
