//! The records in the default partition: stray, because there was no partition for their time. Those whose time is near now get
//! theirs, whenever it can be made, and are moved into it.
//!
//! Over the connection of the indexer, because moving many takes its time.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::catalogue::{Partition, default_of, partitions, table_bytes};
use super::indexer::LONGEST;
use super::make::Maker;
use super::now;
use crate::exporter::Exporter;
use crate::exporter::error::Failure;
use crate::exporter::pool::{Connection, discard};
use crate::table::partition::Period;

/// How often it is looked whether records near now lie in the default partition.
const EVERY: Duration = Duration::from_secs(3600);
/// The first wait after a partition could not be made; each further one is twice as long, up to [`EVERY`].
const AGAIN: Duration = Duration::from_secs(60);

impl Exporter {
    /// Gives stray records their partitions, at once and now and then, and those that lanes and keeper have left.
    pub(in crate::exporter) async fn place_strays(&self) {
        if !self.makes_partitions() {
            return std::future::pending().await;
        }
        let mut left = self.partitions.left.subscribe();
        let (mut wanted, mut wait) = (BTreeSet::new(), EVERY);
        loop {
            self.partitions.left.send_if_modified(|left| {
                wanted.append(left);
                false
            });
            let placed = self.place(&mut wanted).await;
            if let Err(failure) = &placed {
                tracing::debug!(%failure, "stray records cannot be looked after now");
            }
            let is_done = placed.is_ok() && wanted.is_empty();
            wait = match is_done {
                true => EVERY,
                false if wait == EVERY => AGAIN,
                false => (wait * 2).min(EVERY),
            };
            tokio::select! {
                () = sleep(wait) => {}
                _ = left.wait_for(|left| !left.is_empty()), if is_done => {}
            }
        }
    }

    /// Makes the partitions that are `wanted`, and those of stray records near now. What cannot be made stays wanted.
    async fn place(&self, wanted: &mut BTreeSet<Period>) -> Result<(), Failure> {
        let look = async |c: &Connection| {
            let default = default_of(&partitions(c, &self.schema).await?).cloned();
            let bytes = table_bytes(c, default.as_ref()).await?;
            Ok((default, bytes))
        };
        let (default, bytes) = self.connected(look).await?;
        if bytes == 0 && wanted.is_empty() {
            return Ok(());
        }
        let connection = self.builders.get().await?;
        let placed = timeout(LONGEST, self.place_by(&connection, default.as_ref(), wanted)).await;
        discard(connection);
        placed.unwrap_or_else(|_| Err(Failure::deadline(LONGEST.as_secs_f64())))
    }

    async fn place_by(
        &self,
        connection: &Connection,
        default: Option<&Partition>,
        wanted: &mut BTreeSet<Period>,
    ) -> Result<(), Failure> {
        let (schema, indexes) = (&self.schema, &self.partitions.indexes[..]);
        if let Some(default) = default {
            wanted.append(&mut self.strays(connection, default).await?);
        }
        let maker = Maker { connection, schema, default, indexes, patient: true };
        for period in wanted.clone() {
            if !self.partitions.is_made(period, now()) || maker.makes(period).await? {
                wanted.remove(&period);
            }
        }
        Ok(())
    }

    /// The periods near now of which there are records in `default`.
    async fn strays(
        &self,
        connection: &Connection,
        default: &Partition,
    ) -> Result<BTreeSet<Period>, Failure> {
        let (recent, width) = (self.partitions.recent(now()), self.partitions.width);
        let select = format!(
            "SELECT DISTINCT floor(extract(epoch FROM time) / {0})::int8 * {0} FROM {1} \
             WHERE time >= to_timestamp($1) AND time < to_timestamp($2)",
            width.seconds(),
            default.qualified
        );
        let (from, to) = (recent.start().start() as f64, recent.end().end() as f64);
        let rows = connection.query(&select, &[&from, &to]).await?;
        Ok(rows.iter().map(|row| Period::at(row.get(0), width)).collect())
    }
}
