//! The keeper of the store: prepares it at the start, makes partitions ahead, drops old ones, and checks whether it still answers.

use std::time::Duration;

use tokio::time::Instant;

use super::existing;
use super::schema::{self, Prepared, SchemaError};
use super::triggers;
use super::{HOUSEKEEPING, Store, lanes};
use crate::postgres::backoff::Backoff;
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::{Cause as _, Connection, attempt};

/// How often an idle store is asked whether it still answers.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often partitions are made ahead.
const PARTITIONS_EVERY: Duration = Duration::from_secs(3600);
/// How often the metrics are told how far the store is prepared.
const HORIZON_EVERY: Duration = Duration::from_secs(60);
/// How often to check whether somebody has dropped something that no batch would miss.
const PARTS_EVERY: Duration = Duration::from_secs(30);
/// How often the deferred steps of a migration are retried.
const WAITS_EVERY: Duration = Duration::from_secs(30);
/// The longest that one attempt to prepare the store may take.
const PREPARING: Duration = Duration::from_secs(60);

impl Store {
    /// Prepares the store, retrying until it succeeds, then keeps it prepared. It never returns.
    pub async fn run_keeper(&self) {
        let mut backoff = Backoff::new(self.retry());
        while let Err(error) = self.prepare().await {
            match error {
                SchemaError::Store(failure) | SchemaError::Migration(failure) => {
                    self.standing.report(&failure)
                }
                other => self.standing.does_not_fit(other.to_string()),
            }
            backoff.follow(self.retry());
            tokio::time::sleep(backoff.next_wait()).await;
        }
        self.standing.is_prepared();
        tokio::join!(self.look_after(), self.retain(), self.look_after_strays());
    }

    /// Makes partitions ahead, and checks whether the store still answers.
    async fn look_after(&self) {
        let mut partitions_made = Instant::now();
        let (mut horizon_seen, mut parts_seen) = (Instant::now(), Instant::now());
        let mut caught_up = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if parts_seen.elapsed() >= PARTS_EVERY {
                parts_seen = Instant::now();
                self.look_for_parts().await;
            }
            let partitions_due = partitions_made.elapsed() >= PARTITIONS_EVERY;
            let horizon_due = partitions_due || horizon_seen.elapsed() >= HORIZON_EVERY;
            let waits_due = self.waits.any() && caught_up.elapsed() >= WAITS_EVERY;
            if self.standing.wrote_lately() && !horizon_due && !waits_due {
                continue;
            }
            let began = Instant::now();
            match self.look(partitions_due, horizon_due, waits_due).await {
                Ok(()) => {
                    self.standing.answered();
                    if partitions_due {
                        partitions_made = Instant::now();
                    }
                }
                // All connections are in use, so the store answers.
                Err(failure) if failure.class == Class::Busy => {}
                Err(failure) if self.makes_again(&failure, began).await => {}
                Err(failure) => self.standing.report(&failure),
            }
            if horizon_due {
                horizon_seen = Instant::now();
            }
            if waits_due {
                caught_up = Instant::now();
            }
        }
    }

    /// Creates or checks the schema, and makes the partitions of the next days. Returns whether it has made or changed tables.
    pub(crate) async fn prepare(&self) -> Result<bool, SchemaError> {
        let create = self.config.create_schema;
        let prepare = async |connection: &Connection| {
            let again = self.waits.any();
            let Prepared { made, waits } = schema::prepare(connection, &self.schema, create, again).await?;
            self.waits.are(waits);
            if let Some(mapping) = self.destination.mapping() {
                existing::check(connection, mapping).await?;
            }
            if self.makes_partitions() {
                self.partitions.forget();
                self.partitions.ensure_ahead(connection, &self.schema).await?;
            }
            if !self.standing.is_ready() {
                // Later the lanes have moved their rows to other numbers.
                lanes::register_lanes(connection, &self.schema, self.gateway, self.config.pool_size).await?;
                lanes::forget_old_lanes(connection, &self.schema).await?;
            }
            let found = triggers::of(connection, &self.destination).await?;
            if let Some(told) = triggers::told(&found, &self.destination)
                && self.triggers_are_news()
            {
                tracing::warn!("{told}");
            }
            // A lock on one partition does not block writes to the others, so this failure is not fatal.
            if let Err(failure) = self.look_ahead(connection).await {
                tracing::warn!(%failure, "cannot look how far the partitions reach");
            }
            Ok(made)
        };
        self.pool.get().await?.within(PREPARING, prepare).await
    }

    /// Takes a connection, which checks whether it still answers, and does the work that is due.
    async fn look(&self, partitions_due: bool, horizon_due: bool, waits_due: bool) -> Result<(), Failure> {
        let look = async |connection: &Connection| {
            if partitions_due {
                lanes::keep_lanes(connection, &self.schema, self.gateway).await?;
            }
            if partitions_due && self.makes_partitions() {
                self.partitions.forget();
                self.partitions.ensure_ahead(connection, &self.schema).await?;
            }
            if waits_due {
                self.catch_up(connection).await?;
            }
            if horizon_due { self.look_ahead(connection).await } else { Ok(()) }
        };
        self.pool.session(PREPARING, look).await
    }

    /// Restores what somebody has dropped: no writer would notice a missing view. Deferred steps of a migration are retried
    /// elsewhere.
    async fn look_for_parts(&self) {
        let parts = async |connection: &Connection| schema::parts(connection, &self.schema).await;
        let there = self.pool.session(HOUSEKEEPING, parts).await;
        let is_looked_for = self.config.create_schema && !self.waits.any();
        if is_looked_for && there.is_ok_and(|there| !there.are_complete(&self.schema)) {
            self.renew().await;
        }
    }

    /// Retries the deferred steps of a migration.
    async fn catch_up(&self, connection: &Connection) -> Result<(), Failure> {
        match attempt(connection, schema::prepare(connection, &self.schema, true, true)).await {
            Ok(Ok(prepared)) => self.waits.are(prepared.waits),
            // A newer forebay has migrated the store, so nothing is deferred here any more.
            Ok(Err(SchemaError::TooNew { .. })) => self.waits.are(Vec::new()),
            // Lanes report themselves if they cannot write.
            Ok(Err(_)) => {}
            Err(cause) => return cause.failure().cloned().map_or(Ok(()), Err),
        }
        Ok(())
    }

    /// Updates the metrics of how far the partitions reach. The partitions of an existing table are not forebay's.
    async fn look_ahead(&self, connection: &Connection) -> Result<(), Failure> {
        if self.destination.mapping().is_some() {
            return Ok(());
        }
        self.horizon.look(connection, &self.schema).await
    }
}
