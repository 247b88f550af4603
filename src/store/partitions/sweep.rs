//! Deletes records from the default partition whose time is too far from now for a partition that retention could drop.
//!
//! `max_age` deletes each by itself, also those further in the future than `max_age`. `max_size` deletes all of them, once the
//! default partition takes more than its share. If nothing stays, it is truncated, which frees the disk at once; otherwise rows are
//! deleted some pages at a time.

use std::ops::Range;

use super::catalogue::{Partition, PartitionState, bytes, default_of, partition_states, partitions};
use super::now;
use super::retention::RetentionReason;
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::{Connection, attempt};
use crate::store::Store;
use crate::store::schema::{DDL_LOCK, IN_A_MOMENT};
use crate::table::partition::Period;

/// The number of pages whose rows one transaction deletes: 16 MB.
const PAGES: i64 = 2048;

/// Records of these times stay, in seconds since 1970.
type Kept = Range<i64>;

impl Store {
    /// Deletes records that are too old or too far ahead, if the hourly scan `is_due`, and those beyond the share of `max_size`.
    pub(super) async fn sweep(&self, connection: &Connection, is_due: bool) -> Result<(), Failure> {
        let policy = &self.config.retention;
        let seen = self.clocks(connection).await?;
        let age = policy.max_age.0.as_secs() as i64;
        let there = partitions(connection, &self.schema).await?;
        let Some(default) = default_of(&there).filter(|default| default.is_table) else { return Ok(()) };
        let reach = self.reach(&seen);
        if is_due && age > 0 {
            let kept = seen.start - age..(seen.end + age).max(reach.end);
            self.delete_strays(connection, default, &kept, RetentionReason::MaxAge, true).await?;
        }
        if policy.max_size.0 > 0 && bytes(connection, Some(default)).await? > policy.share() {
            self.delete_strays(connection, default, &reach, RetentionReason::MaxSize, is_due).await?;
        }
        Ok(())
    }

    /// Truncates the default partition on a full disk, before any other is dropped, if it has more than a tenth of all bytes and no
    /// record near now. Returns whether it did.
    pub(super) async fn clear_strays_for_room(&self, connection: &Connection) -> Result<bool, Failure> {
        let (seen, _) = partition_states(connection, &self.schema).await?;
        let total: u64 = seen.iter().map(PartitionState::bytes).sum();
        let is_large = |state: &&PartitionState| {
            state.partition.range.is_none() && state.partition.is_table && state.bytes() > total / 10
        };
        let Some(default) = seen.iter().find(is_large) else { return Ok(false) };
        let kept = self.reach(&self.clocks(connection).await?);
        let rows = Some(default.rows.unwrap_or(0));
        self.truncate(connection, &default.partition, &kept, RetentionReason::DiskFull, rows).await
    }

    /// The range between the clocks of forebay and PostgreSQL: if one is wrong, records stay.
    async fn clocks(&self, connection: &Connection) -> Result<Range<i64>, Failure> {
        let theirs: i64 = connection.query_one("SELECT extract(epoch FROM now())::int8", &[]).await?.get(0);
        Ok(theirs.min(now())..theirs.max(now()))
    }

    /// The times that can have partitions.
    fn reach(&self, clocks: &Range<i64>) -> Kept {
        let recent = |now| self.partitions.recent(now);
        let (first, last): (Period, Period) = (*recent(clocks.start).start(), *recent(clocks.end).end());
        first.start()..last.end()
    }

    /// Deletes the records that are not `kept`: by truncating if that is all of them, or else row by row if it `may_last`.
    async fn delete_strays(
        &self,
        connection: &Connection,
        default: &Partition,
        kept: &Kept,
        reason: RetentionReason,
        may_last: bool,
    ) -> Result<(), Failure> {
        let goes = format!("SELECT EXISTS (SELECT FROM {} WHERE NOT {})", default.qualified, is_kept(kept));
        if !connection.query_one(&goes, &[]).await?.get::<_, bool>(0) {
            return Ok(());
        }
        match attempt(connection, self.truncate(connection, default, kept, reason, None)).await? {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // Somebody reads it, or the scan takes too long while writers wait.
            Err(failure) if failure.class == Class::Busy => {}
            Err(failure) => return Err(failure),
        }
        if !may_last {
            return Ok(());
        }
        let deleted =
            delete_by_pages(connection, &default.qualified, &format!("NOT {}", is_kept(kept))).await?;
        self.metrics.deleted("log_records_default", <&str>::from(reason), deleted);
        tracing::warn!(
            records = deleted,
            reason = <&str>::from(reason),
            "deleted records of times out of reach from the default partition"
        );
        make_room(connection, &default.qualified).await;
        Ok(())
    }

    /// Truncates the default partition if nothing in it is `kept`; returns whether it did. Its rows are counted before, unless
    /// `rows` has an estimate, because there is no time.
    async fn truncate(
        &self,
        connection: &Connection,
        default: &Partition,
        kept: &Kept,
        reason: RetentionReason,
        rows: Option<i64>,
    ) -> Result<bool, Failure> {
        let table = &default.qualified;
        let stays = format!("SELECT EXISTS (SELECT FROM {table} WHERE {})", is_kept(kept));
        if connection.query_one(&stays, &[]).await?.get(0) {
            return Ok(false);
        }
        let size = bytes(connection, Some(default)).await?;
        let records: i64 = match rows {
            Some(rows) => rows,
            None => connection.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0),
        };
        connection.batch_execute(IN_A_MOMENT).await?;
        connection.batch_execute(DDL_LOCK).await?;
        connection.batch_execute(&format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")).await?;
        if connection.query_one(&stays, &[]).await?.get(0) {
            connection.batch_execute("ROLLBACK").await?;
            return Ok(false);
        }
        connection.batch_execute(&format!("TRUNCATE ONLY {table}; COMMIT")).await?;
        self.metrics.dropped(reason, size);
        self.metrics.deleted("log_records_default", <&str>::from(reason), records as u64);
        tracing::warn!(
            records,
            bytes = size,
            reason = <&str>::from(reason),
            "emptied the default partition, whose records were all of times out of reach"
        );
        Ok(true)
    }
}

/// The condition that a record stays.
fn is_kept(kept: &Kept) -> String {
    format!("(time >= to_timestamp({}) AND time < to_timestamp({}))", kept.start, kept.end)
}

/// Deletes the rows of `table`, which is quoted, for which `goes` is true, some pages in each transaction; returns their number.
pub(super) async fn delete_by_pages(
    connection: &Connection,
    table: &str,
    goes: &str,
) -> Result<u64, Failure> {
    let size = "SELECT coalesce(pg_relation_size(to_regclass($1)), 0) / current_setting('block_size')::int8, \
                current_setting('server_version_num')::int4 >= 140000";
    let row = connection.query_one(size, &[&table]).await?;
    let (pages, has_ranges): (i64, bool) = (row.get(0), row.get(1));
    // An older PostgreSQL reads the whole table each time.
    let step = if has_ranges { PAGES } else { pages.max(1) };
    let mut deleted = 0;
    for first in (0..pages).step_by(step as usize) {
        let end = first + step;
        let pages = format!("ctid >= '({first},0)' AND ctid < '({end},0)'");
        deleted +=
            connection.execute(&format!("DELETE FROM ONLY {table} WHERE {pages} AND {goes}"), &[]).await?;
    }
    Ok(deleted)
}

/// Frees the room of deleted rows of `table`. If it is locked or the VACUUM fails, autovacuum does it later.
pub(super) async fn make_room(connection: &Connection, table: &str) {
    if let Err(error) = connection.batch_execute(&format!("VACUUM (SKIP_LOCKED) {table}")).await {
        tracing::debug!(table, %error, "the room of deleted rows is not free yet");
    }
}
