//! The partitions of the store: made ahead by the keeper, and on demand by a lane that meets a new day or hour.
//!
//! Where a time has no partition, the default partition takes its rows, so that no time fails. A partition for a
//! range of which the default partition has rows already cannot be attached; the rows stay readable where they are.

pub(super) mod catalogue;
pub(super) mod indexer;
mod memory;
pub(super) mod retention;
pub mod show;
pub(super) mod steps;

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::config::{Config, RetentionConfig};
use super::error::{Class, Failure};
use super::pool::Connection;
use super::schema::DDL_LOCK;
use crate::table::identifier::Schema;
use crate::table::index::Index;
use crate::table::partition::{Period, Width};
use catalogue::{partitions, ranges};

/// What is known of the partitions, and how they are to be.
#[derive(Debug)]
pub struct Partitions {
    width: Width,
    /// Those of them that a partition has while it is written are made with it.
    indexes: Vec<Index>,
    /// What is past its age would be dropped at once.
    retention: RetentionConfig,
    /// The periods that need no look: their partition is there, or was found not to be had.
    known: Mutex<HashMap<Period, Instant>>,
}

/// How long a period needs no look. (The keeper looks at those ahead more often.)
const SETTLED: Duration = Duration::from_secs(24 * 3600);
/// The same for a period whose partition was kept from being made by something that passes, such as a lock.
const IN_THE_WAY: Duration = Duration::from_secs(60);

/// Partitions are made for so many periods before the one of now. A sender's clock or a sender's malice must not make
/// thousands of tables.
pub(super) const fn back(width: Width) -> i64 {
    match width {
        Width::Day => 31,
        Width::Hour => 72,
    }
}

/// Partitions are made for so many periods after the one of now: hours for every time zone that a sender's clock may be
/// set to by mistake.
pub(super) const fn ahead(width: Width) -> i64 {
    match width {
        Width::Day => 3,
        Width::Hour => 24,
    }
}

impl Partitions {
    /// Partitions as `config` wants them.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            width: config.partition,
            indexes: config.indexes.clone(),
            retention: config.retention.clone(),
            known: Mutex::default(),
        }
    }

    /// Makes the partitions of now and of what is to come.
    pub(super) async fn ensure_ahead(&self, connection: &Connection, schema: &Schema) -> Result<(), Failure> {
        self.ensure(connection, schema, periods_ahead(self.width, now())).await
    }

    /// Makes the partitions of those `periods` that are near now.
    pub(super) async fn ensure_recent(
        &self,
        connection: &Connection,
        schema: &Schema,
        periods: BTreeSet<Period>,
    ) -> Result<(), Failure> {
        let now = now();
        let recent = self.recent(now);
        let stays = |period: &Period| recent.contains(period) && !self.retention.is_past(period.end(), now);
        let periods = periods.into_iter().filter(stays);
        self.ensure(connection, schema, periods).await
    }

    /// Looks each partition up again when it is next needed.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    fn recent(&self, now: i64) -> RangeInclusive<Period> {
        let period = Period::at(now, self.width);
        period.later(-back(self.width))..=period.later(ahead(self.width))
    }

    async fn ensure(
        &self,
        connection: &Connection,
        schema: &Schema,
        periods: impl Iterator<Item = Period>,
    ) -> Result<(), Failure> {
        for period in periods {
            if self.known().get(&period).is_some_and(|until| Instant::now() < *until) {
                continue;
            }
            let mut needs_no_look = SETTLED;
            match create(connection, schema, period, &self.indexes).await {
                Ok(()) => {}
                Err(failure) if failure.class == Class::Connection => return Err(failure),
                Err(failure) => {
                    connection.batch_execute("ROLLBACK").await?;
                    if failure.class == Class::Busy {
                        needs_no_look = IN_THE_WAY;
                    }
                    tracing::warn!(
                        partition = period.name(),
                        %failure,
                        "the partition cannot be made; the default partition takes its records"
                    );
                }
            }
            self.known().insert(period, Instant::now() + needs_no_look);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Period, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what one period lacks, where that is anything. Partitions of another width serve as well, whoever has made them.
async fn create(
    connection: &Connection,
    schema: &Schema,
    period: Period,
    indexes: &[Index],
) -> Result<(), Failure> {
    if period.missing(&ranges(&partitions(connection, schema).await?)).is_empty() {
        return Ok(());
    }
    connection.batch_execute("BEGIN").await?;
    connection.batch_execute(DDL_LOCK).await?;
    for missing in period.missing(&ranges(&partitions(connection, schema).await?)) {
        connection.batch_execute(&missing.statements(schema, indexes)).await?;
        tracing::info!(partition = missing.name(), "made a partition");
    }
    connection.batch_execute("COMMIT").await?;
    Ok(())
}

/// The period of `now`, and those that are made ahead.
pub(super) fn periods_ahead(width: Width, now: i64) -> impl Iterator<Item = Period> {
    let first = Period::at(now, width);
    (0..=ahead(width)).map(move |count| first.later(count))
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_recent(width: Width, seconds: i64, now: i64) -> bool {
        let partitions = Partitions::new(&Config { partition: width, ..Config::default() });
        partitions.recent(now).contains(&Period::at(seconds, width))
    }

    #[test]
    fn only_times_near_now_are_recent() {
        for (width, unit) in [(Width::Day, 86_400), (Width::Hour, 3_600)] {
            let now = 20_000 * 86_400 + 1800;
            for (count, expected) in [
                (-back(width) - 1, false),
                (-back(width), true),
                (0, true),
                (ahead(width), true),
                (ahead(width) + 1, false),
            ] {
                assert_eq!(is_recent(width, now + count * unit, now), expected, "{width:?} {count}");
            }
            assert!(!is_recent(width, 0, now), "1970 goes to the default partition");
        }
    }
}
