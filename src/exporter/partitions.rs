//! The days' partitions: made ahead by the keeper, and on demand by a lane that meets a new day.
//!
//! Where a day has no partition, the default partition takes its rows, so that no time fails. A partition for a
//! day of which the default partition has rows already cannot be attached; the rows stay readable where they are.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::error::{Class, Failure};
use super::pool::Connection;
use super::schema::DDL_LOCK;
use crate::table::ddl::{partition_name, partition_statements};
use crate::table::identifier::Schema;

/// The days that need no look: their partition is there, or was found not to be had.
#[derive(Debug, Default)]
pub struct Partitions {
    known: Mutex<HashMap<i64, Instant>>,
}

/// How long a day needs no look. (The keeper looks at the days ahead more often.)
const SETTLED: Duration = Duration::from_secs(24 * 3600);
/// The same for a day whose partition was kept from being made by something that passes, such as a lock.
const IN_THE_WAY: Duration = Duration::from_secs(60);

/// Partitions are made for so many days before today. A sender's clock or a sender's malice must not make
/// thousands of tables.
pub(super) const DAYS_BACK: i64 = 31;
/// Partitions are made for so many days after today.
pub(super) const DAYS_AHEAD: i64 = 3;

impl Partitions {
    /// Makes the partitions of today and the days to come.
    pub(super) async fn ensure_ahead(&self, connection: &Connection, schema: &Schema) -> Result<(), Failure> {
        let today = today();
        self.ensure(connection, schema, today..=today + DAYS_AHEAD).await
    }

    /// Makes the partitions of those `days` that are near today.
    pub(super) async fn ensure_recent(
        &self,
        connection: &Connection,
        schema: &Schema,
        days: BTreeSet<i64>,
    ) -> Result<(), Failure> {
        let recent = recent(today());
        self.ensure(connection, schema, days.into_iter().filter(|day| recent.contains(day))).await
    }

    /// Looks each partition up again when it is next needed.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    async fn ensure(
        &self,
        connection: &Connection,
        schema: &Schema,
        days: impl Iterator<Item = i64>,
    ) -> Result<(), Failure> {
        for day in days {
            if self.known().get(&day).is_some_and(|until| Instant::now() < *until) {
                continue;
            }
            let mut needs_no_look = SETTLED;
            match create(connection, schema, day).await {
                Ok(()) => {}
                Err(failure) if failure.class == Class::Connection => return Err(failure),
                Err(failure) => {
                    connection.batch_execute("ROLLBACK").await?;
                    if failure.class == Class::Busy {
                        needs_no_look = IN_THE_WAY;
                    }
                    tracing::warn!(
                        partition = partition_name(day),
                        %failure,
                        "the partition cannot be made; the default partition takes the day's records"
                    );
                }
            }
            self.known().insert(day, Instant::now() + needs_no_look);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<i64, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes one day's partition, unless it is there.
async fn create(connection: &Connection, schema: &Schema, day: i64) -> Result<(), Failure> {
    let name = format!("{schema}.{}", partition_name(day));
    let exists = "SELECT to_regclass($1) IS NOT NULL";
    if connection.query_one(exists, &[&name]).await?.get(0) {
        return Ok(());
    }
    connection.batch_execute("BEGIN").await?;
    connection.batch_execute(DDL_LOCK).await?;
    if !connection.query_one(exists, &[&name]).await?.get::<_, bool>(0) {
        connection.batch_execute(&partition_statements(schema, day)).await?;
        tracing::info!(partition = partition_name(day), "made a partition");
    }
    connection.batch_execute("COMMIT").await?;
    Ok(())
}

fn recent(today: i64) -> RangeInclusive<i64> {
    today - DAYS_BACK..=today + DAYS_AHEAD
}

/// Days since 1970, in UTC.
fn today() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since_1970.as_secs() / 86_400) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_near_today_are_recent() {
        let recent = recent(20_000);
        for (day, expected) in
            [(19_968, false), (19_969, true), (20_000, true), (20_003, true), (20_004, false)]
        {
            assert_eq!(recent.contains(&day), expected, "{day}");
        }
        assert!(!recent.contains(&0), "1970 goes to the default partition");
    }
}
