//! The keeper of the store: prepares it at start, makes partitions ahead, has old ones dropped, and looks whether it still
//! answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Exporter;
use super::backoff::Backoff;
use super::error::{Class, Failure};
use super::existing;
use super::pool::Connection;
use super::schema::{self, SchemaError};
use super::triggers;
use crate::telemetry::StoreTrouble;

/// How often an idle store is asked whether it still answers.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often partitions are made ahead.
const PARTITIONS_EVERY: Duration = Duration::from_secs(3600);
/// How often the metrics are told how far the store is prepared.
const HORIZON_EVERY: Duration = Duration::from_secs(60);
/// The longest that preparing the store may take at a time.
const PREPARING: Duration = Duration::from_secs(60);

impl Exporter {
    /// Prepares the store, however often that takes, then keeps it prepared. It does not end by itself.
    pub async fn run_keeper(&self) {
        let mut backoff = Backoff::new(self.retry());
        while let Err(error) = self.prepare().await {
            match error {
                SchemaError::Store(failure) => self.report(&failure),
                other => self.health.store_unavailable(StoreTrouble::SchemaMismatch, other.to_string()),
            }
            backoff.follow(self.retry());
            tokio::time::sleep(backoff.next_wait()).await;
        }
        self.health.store_ready();
        self.store_ready.send_replace(true);
        tokio::join!(self.look_after(), self.retain(), self.look_after_strays());
    }

    /// Makes partitions ahead, and looks whether the store still answers.
    async fn look_after(&self) {
        let mut partitions_made = Instant::now();
        let mut horizon_seen = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let partitions_due = partitions_made.elapsed() >= PARTITIONS_EVERY;
            let horizon_due = partitions_due || horizon_seen.elapsed() >= HORIZON_EVERY;
            if self.wrote_lately.swap(false, Ordering::Relaxed) && !horizon_due {
                continue;
            }
            match self.look(partitions_due, horizon_due).await {
                Ok(()) => {
                    self.met();
                    if partitions_due {
                        partitions_made = Instant::now();
                    }
                }
                // Both connections are at work: that is an answer as well.
                Err(failure) if failure.class == Class::Busy => {}
                Err(failure) => self.report(&failure),
            }
            if horizon_due {
                horizon_seen = Instant::now();
            }
        }
    }

    /// A lane has written a batch.
    pub(super) fn wrote(&self) {
        self.wrote_lately.store(true, Ordering::Relaxed);
        self.took();
    }

    /// Creates or checks the schema, and makes the partitions of the next days.
    async fn prepare(&self) -> Result<(), SchemaError> {
        let session = self.pool.get().await?;
        let connection = &*session;
        let create = self.config.create_schema;
        let prepared = timeout(PREPARING, async {
            schema::prepare(connection, &self.schema, create).await?;
            if let Some(mapping) = self.destination.mapping() {
                existing::check(connection, mapping).await?;
            }
            if self.makes_partitions() {
                self.partitions.ensure_ahead(connection, &self.schema).await?;
            }
            schema::register_lanes(connection, &self.schema, self.gateway, self.lanes()).await?;
            schema::forget_old_lanes(connection, &self.schema).await?;
            let found = triggers::of(connection, &self.destination).await?;
            if let Some(told) = triggers::told(&found, &self.destination)
                && !self.told_of_triggers.swap(true, Ordering::Relaxed)
            {
                tracing::warn!("{told}");
            }
            // A lock on a partition keeps nobody from writing to the others.
            if let Err(failure) = self.look_ahead(connection).await {
                tracing::warn!(%failure, "cannot look how far the partitions reach");
            }
            Ok(())
        });
        let prepared =
            prepared.await.unwrap_or_else(|_| Err(Failure::deadline(PREPARING.as_secs_f64()).into()));
        if prepared.is_ok() {
            session.give_back();
        }
        prepared
    }

    /// Taking a connection asks it whether it still answers; partitions are made when they are due.
    async fn look(&self, partitions_due: bool, horizon_due: bool) -> Result<(), Failure> {
        let look = async |connection: &Connection| {
            if partitions_due {
                schema::keep_lanes(connection, &self.schema, self.gateway).await?;
            }
            if partitions_due && self.makes_partitions() {
                self.partitions.forget();
                self.partitions.ensure_ahead(connection, &self.schema).await?;
            }
            if horizon_due { self.look_ahead(connection).await } else { Ok(()) }
        };
        self.pool.session(PREPARING, look).await
    }

    /// Looks how far the partitions reach. Those of an existing table are somebody else's.
    async fn look_ahead(&self, connection: &Connection) -> Result<(), Failure> {
        if self.destination.mapping().is_some() {
            return Ok(());
        }
        self.horizon.look(connection, &self.schema).await
    }
}
