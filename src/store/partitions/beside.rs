//! What retention deletes from the tables beside the records: resources and scopes that no kept record names, and losses and dead
//! letters that are too old, or take too much, with what nothing but these letters named.
//!
//! Which resources records name is not looked up in the partitions, which would be to read all of them. A lane notes once a day that
//! it uses one. A record's time is at most some days after it is stored, or it is in the default partition, which is
//! looked through. So one that was last used some days before the oldest partition begins is named nowhere else. Where a record has
//! come to a partition long before its time, from the default one (`make.rs`) or because somebody has made it ahead, it is a use as well.

use std::time::SystemTime;

use super::catalogue::{Partition, default_of, partitions};
use super::retention::RetentionReason;
use super::sweep::{delete_by_pages, make_room};
use super::{ahead, periods_ahead};
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::{Connection, attempt};
use crate::store::Store;
use crate::store::origins::{forget_unnamed, note_use_by};
use crate::table::identifier::Schema;

/// The tables that are bounded beside the partitions, in the order of the sizes that [`sizes`] gives.
const TABLES: [&str; 5] = ["resources", "scopes", "losses", "dead_letters", "dead_letter_origins"];
/// Those of which the old rows are deleted: the column of their time, and how much a row takes.
const DATED: [Dated; 2] =
    [("losses", "until", "pg_column_size(t.*)"), ("dead_letters", "at", "octet_length(row) + 200")];
type Dated = (&'static str, &'static str, &'static str);
/// What records name, and by which column.
pub(crate) const NAMED: [(&str, &str); 2] = [("resources", "resource_id"), ("scopes", "scope_id")];
/// The same number of rows goes in one transaction.
const ROWS: u64 = 10_000;
/// A use is noted within two days, and those of the last days before the oldest partition may be of records in it.
const MARGIN: i64 = 3 * 86_400;

/// What the tables beside the partitions take, in bytes, each up to `most`.
pub(crate) async fn bytes(connection: &Connection, schema: &Schema, most: u64) -> Result<u64, Failure> {
    Ok(sizes(connection, schema).await?.into_iter().map(|bytes| bytes.min(most)).sum())
}

async fn sizes(connection: &Connection, schema: &Schema) -> Result<Vec<u64>, Failure> {
    let tables: Vec<_> = TABLES.iter().map(|table| format!("{schema}.{table}")).collect();
    let select = "SELECT coalesce(pg_total_relation_size(to_regclass(name)), 0) \
                  FROM unnest($1::text[]) WITH ORDINALITY t (name, number) ORDER BY number";
    let rows = connection.query(select, &[&tables]).await?;
    Ok(rows.iter().map(|row| row.get::<_, i64>(0).max(0) as u64).collect())
}

impl Store {
    /// Deletes losses and dead letters that are too old or too many, and what only these named.
    pub(crate) async fn tidy_dated(&self, connection: &Connection) -> Result<(), Failure> {
        let policy = &self.config.retention;
        if !policy.drops() && !policy.drop_when_disk_is_full {
            return Ok(());
        }
        let (age, share) = (policy.max_age.0.as_secs(), policy.share());
        for (dated, bytes) in DATED.into_iter().zip(sizes(connection, &self.schema).await?.split_off(2)) {
            let (_, time, _) = dated;
            if age > 0 {
                let goes = format!("{time} < now() - interval '{age} seconds'");
                self.delete_dated(connection, dated, &goes, RetentionReason::MaxAge).await?;
            }
            if policy.max_size.0 > 0
                && bytes > share
                && let Some(goes) = self.beyond(connection, dated, share).await?
            {
                self.delete_dated(connection, dated, &goes, RetentionReason::MaxSize).await?;
            }
        }
        self.forget_unnamed(connection).await
    }

    /// The condition that a row is older than the newest ones, which take `share` bytes; `None` where all fit.
    async fn beyond(
        &self,
        connection: &Connection,
        (table, time, size): Dated,
        share: u64,
    ) -> Result<Option<String>, Failure> {
        let last = format!(
            "SELECT max({time}) FROM (SELECT {time}, \
             sum({size}) OVER (ORDER BY {time} DESC) AS bytes FROM {}.{table} t) newest WHERE bytes > {share}",
            self.schema
        );
        let last: Option<SystemTime> = connection.query_one(&last, &[]).await?.get(0);
        let since_1970 = last.map(|last| last.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        // Before PostgreSQL 14, extract gives a double; before 15, an interval of so many microseconds is out of range as a text. A
        // product is exact until 2255.
        Ok(since_1970.map(|last| {
            format!("{time} <= timestamptz 'epoch' + {} * interval '1 microsecond'", last.as_micros())
        }))
    }

    /// Deletes what no dead letter names any more. Lanes that keep letters wait meanwhile, so that it is done in a moment or another time.
    async fn forget_unnamed(&self, connection: &Connection) -> Result<(), Failure> {
        match attempt(connection, forget_unnamed(connection, &self.schema)).await? {
            Err(failure) if failure.class == Class::Busy => Ok(()),
            other => other,
        }
    }

    async fn delete_dated(
        &self,
        connection: &Connection,
        (table, ..): Dated,
        goes: &str,
        reason: RetentionReason,
    ) -> Result<(), Failure> {
        let qualified = format!("{}.{table}", self.schema);
        let deleted = delete_by_pages(connection, &qualified, goes).await?;
        self.metrics.deleted(table, <&str>::from(reason), deleted);
        match table {
            _ if deleted == 0 => {}
            "dead_letters" => tracing::warn!(
                records = deleted,
                reason = <&str>::from(reason),
                "deleted the oldest dead letters, which nobody can retry any more"
            ),
            _ => {
                tracing::info!(
                    table,
                    rows = deleted,
                    reason = <&str>::from(reason),
                    "deleted the oldest losses"
                )
            }
        }
        if deleted > 0 {
            make_room(connection, &qualified).await;
        }
        Ok(())
    }

    /// Deletes resources and scopes that no kept record names.
    pub(crate) async fn forget_unused(&self, connection: &Connection) -> Result<(), Failure> {
        if !self.config.retention.drops() && !self.config.retention.drop_when_disk_is_full {
            return Ok(());
        }
        let there = partitions(connection, &self.schema).await?;
        let width = self.partitions.width;
        let Some(reach) = periods_ahead(width, super::now()).last() else { return Ok(()) };
        let (Some((oldest, _)), Some(default)) =
            (there.first().and_then(|first| first.range), default_of(&there))
        else {
            return Ok(());
        };
        let is_ahead = |partition: &&Partition| partition.range.is_some_and(|(from, _)| from > super::now());
        for partition in there.iter().filter(is_ahead) {
            for (table, column) in NAMED {
                let named = format!("SELECT {column} FROM {}", partition.qualified);
                note_use_by(connection, &self.schema, table, &named).await?;
            }
        }
        // In partitions that somebody has made for later there may be records that were stored long before.
        if there.iter().any(|partition| partition.range.is_some_and(|(from, _)| from > reach.end())) {
            return Ok(());
        }
        let Some(before) = oldest.checked_sub((ahead(width) + 1) * width.seconds() + MARGIN) else {
            return Ok(());
        };
        for (table, column) in NAMED {
            let deleted = self.delete_unused(connection, table, column, default, before).await?;
            self.metrics.deleted(table, "unused", deleted);
            if deleted > 0 {
                tracing::info!(table, rows = deleted, "deleted what no kept record names");
            }
        }
        Ok(())
    }

    /// Deletes what was last used before `before` and is not named in `default`; gives their number.
    async fn delete_unused(
        &self,
        connection: &Connection,
        table: &str,
        column: &str,
        default: &Partition,
        before: i64,
    ) -> Result<u64, Failure> {
        // One that a lane is just noting is used.
        let delete = format!(
            "DELETE FROM {0}.{table} WHERE id IN (SELECT id FROM {0}.{table} t \
             WHERE last_used < least(to_timestamp({before}), now() - interval '6 days') \
             AND NOT EXISTS (SELECT FROM {1} d WHERE d.{column} = t.id) LIMIT {ROWS} FOR UPDATE SKIP LOCKED)",
            self.schema, default.qualified
        );
        let mut deleted = 0;
        loop {
            let rows = connection.execute(&delete, &[]).await?;
            deleted += rows;
            if rows < ROWS {
                return Ok(deleted);
            }
        }
    }
}
