//! The partitions of the store: made ahead by the keeper, and on demand by a lane with records of a new day or hour.
//!
//! If a time has no partition, the default partition takes its records, so that no time is refused. A new partition gets the
//! records of its time from there (`make.rs`). Lanes and keeper make one only while the default partition is small, so that no
//! batch waits for it; otherwise a task with a connection of its own does it (`strays.rs`).

mod again;
pub(crate) mod beside;
pub(crate) mod catalogue;
pub(crate) mod indexer;
mod make;
mod memory;
pub mod retention;
pub(crate) mod steps;
mod strays;
mod sweep;

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::postgres::error::{Class, Failure};
use crate::postgres::session::Connection;
use crate::store::config::{Config, RetentionConfig};
use crate::table::identifier::Schema;
use crate::table::index::Index;
use crate::table::partition::{Period, Width};
use catalogue::{bytes, default_of, partitions, ranges};
use make::Maker;

/// The partitions that are known to exist, and the settings for new ones.
#[derive(Debug)]
pub struct Partitions {
    width: Width,
    /// A new partition gets those of them that are kept while it is written.
    indexes: Vec<Index>,
    /// No partition is made that would be dropped at once.
    retention: RetentionConfig,
    /// The periods that need no look-up until then: their partition exists, or is left to the task for stray records.
    known: Mutex<HashMap<Period, Instant>>,
    /// The periods left to that task.
    left: watch::Sender<BTreeSet<Period>>,
}

/// How long a period needs no look-up. (The keeper looks up those ahead more often.)
const SETTLED: Duration = Duration::from_secs(24 * 3600);
/// The same for a period left to the task for stray records.
const LEFT: Duration = Duration::from_secs(600);
/// Up to this many bytes in the default partition, moving its rows takes less than a second, and so does checking that there are
/// none to move.
const SMALL: u64 = 8 << 20;

/// After this time, further partitions are left to that task.
const PATIENCE: Duration = Duration::from_secs(3);

/// The number of past periods that get partitions. A sender's clock or malice must not make thousands of tables.
pub(crate) const fn back(width: Width) -> i64 {
    match width {
        Width::Day => 31,
        Width::Hour => 72,
    }
}

/// The number of future periods that get partitions: enough hours for every time zone that a sender's clock may be set to by
/// mistake.
pub(crate) const fn ahead(width: Width) -> i64 {
    match width {
        Width::Day => 3,
        Width::Hour => 24,
    }
}

impl Partitions {
    /// No partition is known yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            width: config.partition,
            indexes: config.indexes.clone(),
            retention: config.retention.clone(),
            known: Mutex::default(),
            left: watch::Sender::default(),
        }
    }

    /// Makes the partitions of the current and the coming periods.
    pub(crate) async fn ensure_ahead(&self, connection: &Connection, schema: &Schema) -> Result<(), Failure> {
        self.ensure(connection, schema, periods_ahead(self.width, now())).await
    }

    /// Makes the partitions of those `periods` that are near now.
    pub(crate) async fn ensure_recent(
        &self,
        connection: &Connection,
        schema: &Schema,
        periods: BTreeSet<Period>,
    ) -> Result<(), Failure> {
        let now = now();
        self.ensure(connection, schema, periods.into_iter().filter(|period| self.is_made(*period, now))).await
    }

    /// Whether this period gets a partition: it is near now, and the partition would not be dropped at once.
    fn is_made(&self, period: Period, now: i64) -> bool {
        self.recent(now).contains(&period) && !self.retention.is_past(period.end(), now)
    }

    /// Forgets the known partitions, so that each is looked up when it is next needed.
    pub(crate) fn forget(&self) {
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
        let is_unknown =
            |period: &Period| self.known().get(period).is_none_or(|until| *until <= Instant::now());
        let unknown: Vec<_> = periods.filter(is_unknown).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let there = partitions(connection, schema).await?;
        let (default, ranges) = (default_of(&there), ranges(&there));
        let maker = Maker { connection, schema, default, indexes: &self.indexes, patient: false };
        let (mut is_small, began) = (None, Instant::now());
        for period in unknown {
            let has_one = period.missing(&ranges).is_empty();
            if !has_one && is_small.is_none() {
                // Somebody may lock it for long, which must not hold up a batch.
                is_small = Some(match bytes(connection, default).await {
                    Err(failure) if failure.class == Class::Connection => return Err(failure),
                    size => size.is_ok_and(|size| size <= SMALL),
                });
            }
            if has_one
                || (is_small == Some(true) && began.elapsed() < PATIENCE && maker.makes(period).await?)
            {
                self.known().insert(period, Instant::now() + SETTLED);
            } else {
                self.known().insert(period, Instant::now() + LEFT);
                self.left.send_if_modified(|left| left.insert(period));
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Period, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The period of `now`, and those that are made ahead.
pub(crate) fn periods_ahead(width: Width, now: i64) -> impl Iterator<Item = Period> {
    let first = Period::at(now, width);
    (0..=ahead(width)).map(move |count| first.later(count))
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
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
