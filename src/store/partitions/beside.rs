//! Retention for the tables beside the records: deletes resources and scopes to which no kept record refers, losses and dead
//! letters that are too old or take too much, and the resources and scopes of deleted letters.
//!
//! References are not looked up in the partitions, because that would read all of them. Instead a lane marks each resource that it
//! uses once a day. A record's time is at most some days after it is stored, or the record is in the default partition, which is
//! scanned. So nothing refers to a resource that was last used some days before the oldest partition begins. Records that were
//! stored long before their time count as a use when their partition is made (`make.rs`), or while it is ahead of now.

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
/// The tables whose old rows are deleted: the column of their time, and the bytes of a row.
const DATED: [Dated; 2] =
    [("losses", "until", "pg_column_size(t.*)"), ("dead_letters", "at", "octet_length(row) + 200")];
type Dated = (&'static str, &'static str, &'static str);
/// The tables that records refer to, and by which column.
pub(crate) const NAMED: [(&str, &str); 2] = [("resources", "resource_id"), ("scopes", "scope_id")];
/// The most rows that one transaction deletes.
const ROWS: u64 = 10_000;
/// Seconds: a use is marked within two days, and one of the last days before the oldest partition may be of its records.
const MARGIN: i64 = 3 * 86_400;

/// The bytes of the tables beside the partitions, each counted up to `most`.
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
    /// Deletes losses and dead letters that are too old or take too much, and the resources and scopes of deleted letters.
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

    /// The condition that a row is older than the newest ones, which take `share` bytes; `None` if all fit.
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

    /// Deletes resources and scopes to which no dead letter refers any more. Lanes that write letters wait meanwhile, so it gives
    /// up after a moment.
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

    /// Deletes resources and scopes to which no kept record refers.
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
        // Partitions that somebody has made far ahead may have records that were stored long before.
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

    /// Deletes the rows of `table` last used before `before` to which no record in `default` refers; returns their number.
    async fn delete_unused(
        &self,
        connection: &Connection,
        table: &str,
        column: &str,
        default: &Partition,
        before: i64,
    ) -> Result<u64, Failure> {
        // SKIP LOCKED: a row that a lane is just marking is used.
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
