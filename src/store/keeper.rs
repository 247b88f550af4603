//! The keeper of the store: prepares it at start, makes partitions ahead, has old ones dropped, and looks whether it still
//! answers.

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
/// How often it is looked whether somebody has dropped what no batch would miss.
const PARTS_EVERY: Duration = Duration::from_secs(30);
/// How often what waits of a migration is tried again.
const WAITS_EVERY: Duration = Duration::from_secs(30);
/// The longest that preparing the store may take at a time.
const PREPARING: Duration = Duration::from_secs(60);

impl Store {
    /// Prepares the store, however often that takes, then keeps it prepared. It does not end by itself.
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

    /// Makes partitions ahead, and looks whether the store still answers.
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
                // Both connections are at work: that is an answer as well.
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

    /// Creates or checks the schema, and makes the partitions of the next days. Gives whether it has made anything of the schema.
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
                // Later on the lanes' rows have other numbers.
                lanes::register_lanes(connection, &self.schema, self.gateway, self.config.pool_size).await?;
                lanes::forget_old_lanes(connection, &self.schema).await?;
            }
            let found = triggers::of(connection, &self.destination).await?;
            if let Some(told) = triggers::told(&found, &self.destination)
                && self.triggers_are_news()
            {
                tracing::warn!("{told}");
            }
            // A lock on a partition keeps nobody from writing to the others.
            if let Err(failure) = self.look_ahead(connection).await {
                tracing::warn!(%failure, "cannot look how far the partitions reach");
            }
            Ok(made)
        };
        self.pool.get().await?.within(PREPARING, prepare).await
    }

    /// Taking a connection asks it whether it still answers; partitions are made when they are due.
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

    /// Makes again what somebody has dropped: the view is missed by nobody who writes. What waits is tried again beside this.
    async fn look_for_parts(&self) {
        let parts = async |connection: &Connection| schema::parts(connection, &self.schema).await;
        let there = self.pool.session(HOUSEKEEPING, parts).await;
        let is_looked_for = self.config.create_schema && !self.waits.any();
        if is_looked_for && there.is_ok_and(|there| !there.are_complete(&self.schema)) {
            self.renew().await;
        }
    }

    /// Tries again what waits.
    async fn catch_up(&self, connection: &Connection) -> Result<(), Failure> {
        match attempt(connection, schema::prepare(connection, &self.schema, true, true)).await {
            Ok(Ok(prepared)) => self.waits.are(prepared.waits),
            // What waited is the newer forebay's by now.
            Ok(Err(SchemaError::TooNew { .. })) => self.waits.are(Vec::new()),
            // Lanes say for themselves what they cannot write to.
            Ok(Err(_)) => {}
            Err(cause) => return cause.failure().cloned().map_or(Ok(()), Err),
        }
        Ok(())
    }

    /// Looks how far the partitions reach. Those of an existing table are somebody else's.
    async fn look_ahead(&self, connection: &Connection) -> Result<(), Failure> {
        if self.destination.mapping().is_some() {
            return Ok(());
        }
        self.horizon.look(connection, &self.schema).await
    }
}
