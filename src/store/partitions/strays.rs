//! The records in the default partition: stray, because their time had no partition. If their time is near now, a partition is made
//! as soon as possible, and they are moved there. The others are bounded (`sweep.rs`).
//!
//! It uses a connection of its own, because moving many takes long.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::catalogue::{Partition, bytes, default_of, partitions};
use super::indexer::LONGEST;
use super::make::Maker;
use super::now;
use crate::postgres::error::Failure;
use crate::postgres::session::{Connection, attempt};
use crate::store::{HOUSEKEEPING, Store};
use crate::table::partition::Period;

/// The work on stray records.
struct Strays<'a> {
    store: &'a Store,
    /// The periods that need partitions.
    wanted: BTreeSet<Period>,
    /// The time of the next attempt, and the wait after a failure.
    next_try: Instant,
    wait: Duration,
    /// When the whole default partition was last scanned.
    seen: Option<Instant>,
}

/// How often the size of the default partition is checked.
const EVERY: Duration = Duration::from_secs(60);
/// How often it is scanned.
const HOUR: Duration = Duration::from_secs(3600);

impl Store {
    /// Makes the partitions for stray records, at once and periodically, and those that lanes and keeper have left; deletes other
    /// stray records beyond their bounds.
    pub(crate) async fn look_after_strays(&self) {
        if !self.makes_partitions() {
            return std::future::pending().await;
        }
        let now = Instant::now();
        let mut strays =
            Strays { store: self, wanted: BTreeSet::new(), next_try: now, wait: EVERY, seen: None };
        let mut left = self.partitions.left.subscribe();
        loop {
            self.partitions.left.send_if_modified(|left| {
                strays.wanted.append(left);
                false
            });
            if let Err(failure) = strays.round().await {
                tracing::debug!(%failure, "stray records cannot be looked after now");
            }
            tokio::select! {
                () = sleep(EVERY) => {}
                _ = left.wait_for(|left| !left.is_empty()) => {}
            }
        }
    }
}

/// Runs one `part`, whose failure does not stop the others. It is a warning if the next attempt is an hour away.
async fn went_on(
    connection: &Connection,
    part: impl Future<Output = Result<(), Failure>>,
    for_an_hour: bool,
) -> Result<(), Failure> {
    let Err(failure) = attempt(connection, part).await? else { return Ok(()) };
    if for_an_hour {
        tracing::warn!(%failure, "retention could not do all of its work beside the partitions; it tries again in an hour");
    } else {
        tracing::debug!(%failure, "stray records cannot be looked after now");
    }
    Ok(())
}

async fn has_rows(connection: &Connection, default: &Partition) -> Result<bool, Failure> {
    let exists = format!("SELECT EXISTS (SELECT FROM {})", default.qualified);
    Ok(connection.query_one(&exists, &[]).await?.get(0))
}

impl Strays<'_> {
    async fn round(&mut self) -> Result<(), Failure> {
        let store = self.store;
        let look = async |c: &Connection| {
            let default = default_of(&partitions(c, &store.schema).await?).cloned();
            let bytes = bytes(c, default.as_ref()).await?;
            let has_rows = match &default {
                Some(default) => has_rows(c, default).await?,
                None => false,
            };
            Ok((default, bytes, has_rows))
        };
        let (default, bytes, has_rows) = store.pool.session(HOUSEKEEPING, look).await?;
        let policy = &store.config.retention;
        let hour_is_due = self.seen.is_none_or(|seen| seen.elapsed() >= HOUR);
        let is_too_large = policy.max_size.0 > 0 && bytes > policy.share();
        let is_tried = !self.wanted.is_empty() && Instant::now() >= self.next_try;
        if hour_is_due {
            // Also if it fails: a scan each minute would be too much.
            self.seen = Some(Instant::now());
        }
        let all_is_due = hour_is_due && (has_rows || policy.drops());
        if !(all_is_due || is_too_large || is_tried) {
            return Ok(());
        }
        // An additional connection, which ends with its work.
        let mut session = store.builders.get().await?;
        let work = async |c: &Connection| -> Result<(), Failure> {
            if is_tried || all_is_due {
                went_on(c, self.place(c, default.as_ref()), all_is_due).await?;
            }
            went_on(c, store.sweep(c, all_is_due), all_is_due).await?;
            if all_is_due {
                went_on(c, store.forget_unused(c), true).await?;
                went_on(c, store.tidy_dated(c), true).await?;
            }
            Ok(())
        };
        let done = session.within(LONGEST, work).await;
        session.end();
        done
    }

    /// Makes the wanted partitions, and those of stray records near now. One that cannot be made stays wanted.
    async fn place(&mut self, connection: &Connection, default: Option<&Partition>) -> Result<(), Failure> {
        let Store { schema, partitions, .. } = self.store;
        if let Some(default) = default {
            self.wanted.append(&mut self.strays(connection, default).await?);
        }
        let maker = Maker { connection, schema, default, indexes: &partitions.indexes, patient: true };
        for period in self.wanted.clone() {
            if !partitions.is_made(period, now()) || maker.makes(period).await? {
                self.wanted.remove(&period);
            }
        }
        if self.wanted.is_empty() {
            self.wait = EVERY;
        } else {
            self.next_try = Instant::now() + self.wait;
            self.wait = (self.wait * 2).min(HOUR);
        }
        Ok(())
    }

    /// The periods near now that have records in `default`.
    async fn strays(
        &self,
        connection: &Connection,
        default: &Partition,
    ) -> Result<BTreeSet<Period>, Failure> {
        let partitions = &self.store.partitions;
        let (recent, width) = (partitions.recent(now()), partitions.width);
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
