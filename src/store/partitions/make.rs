//! Makes one partition: creates its table, moves the records of its time there from the default partition, and attaches it.
//!
//! It is one transaction, so that each record is visible exactly once at any time, and a crash changes nothing. Most records are
//! moved while writing goes on; then writers to the default partition wait for a moment, in which the rest is moved and the table
//! attached. PostgreSQL refuses to attach it while the default partition has a record of its time.
//!
//! A query that was planned before and waits for the default partition meanwhile would look for the moved records in the wrong
//! place. So if any are moved, all queries wait in that moment, before they are planned; unless the default partition is so large
//! that PostgreSQL scans it for longer than that.
//!
//! The resources and scopes of the moved records are marked as used before, in transactions of their own: the records may be old,
//! and nobody looks for references in their new place (`beside.rs`).
//!
//! A lock on the default partition that excludes only itself, not readers or writers, keeps several gateways from moving the same
//! records. It is taken before the lock for DDL, which is held only at the end: nothing else waits for a long move.

use std::time::Duration;

use tokio::time::sleep;

use super::beside::NAMED;
use super::catalogue::{Partition, bytes, partitions, ranges};
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::{Connection, attempt};
use crate::store::origins::note_use_by;
use crate::store::schema::DDL_LOCK;
use crate::table::ddl::LOG_RECORDS;
use crate::table::identifier::Schema;
use crate::table::index::Index;
use crate::table::partition::Period;

/// Makes partitions.
#[derive(Clone, Copy)]
pub(super) struct Maker<'a> {
    pub(super) connection: &'a Connection,
    pub(super) schema: &'a Schema,
    /// The default partition, if there is one.
    pub(super) default: Option<&'a Partition>,
    /// Those of them that a partition has while it is written are made with it.
    pub(super) indexes: &'a [Index],
    /// There may be much to move, which is worth several attempts at the lock at its end.
    pub(super) patient: bool,
}

/// How often a patient maker tries to lock the default partition, and how long it waits in between.
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// PostgreSQL scans this many bytes of the default partition in less than half a second.
const QUICK: u64 = 256 << 20;

impl Maker<'_> {
    /// Makes the partitions that `period` lacks; returns whether it has them all. A failure is logged.
    pub(super) async fn makes(&self, period: Period) -> Result<bool, Failure> {
        match attempt(self.connection, self.make(period)).await? {
            Ok(()) => Ok(true),
            Err(failure) => {
                tracing::warn!(
                    partition = period.name(),
                    %failure,
                    "the partition cannot be made; the default partition takes its records"
                );
                Ok(false)
            }
        }
    }

    async fn make(&self, period: Period) -> Result<(), Failure> {
        let Self { connection, schema, .. } = *self;
        self.note_use(period).await?;
        connection.batch_execute("BEGIN").await?;
        match self.default {
            Some(default) => {
                let lock = format!("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE", default.qualified);
                connection.batch_execute(&lock).await?;
            }
            None => connection.batch_execute(DDL_LOCK).await?,
        }
        // Checked behind the lock, since somebody else may have made it. Partitions of another width serve as well.
        let missing = period.missing(&ranges(&partitions(connection, schema).await?));
        if missing.is_empty() {
            return Ok(connection.batch_execute("COMMIT").await?);
        }
        let (columns, is_quick) = (self.columns().await?, bytes(connection, self.default).await? <= QUICK);
        if self.patient {
            // If somebody locks the table for long, all the moving would be for nothing.
            connection.batch_execute("SAVEPOINT begun").await?;
            self.lock(is_quick).await?;
            connection.batch_execute("ROLLBACK TO begun; RELEASE begun").await?;
        }
        let mut moved = Vec::new();
        for period in &missing {
            connection.batch_execute(&period.create_statements(schema, self.indexes)).await?;
            moved.push(self.move_rows(*period, &columns).await?);
        }
        self.lock(is_quick && moved.iter().any(|moved| *moved > 0)).await?;
        for (period, moved) in missing.iter().zip(&mut moved) {
            *moved += self.move_rows(*period, &columns).await?;
            // Deferred triggers have to fire now: a table with pending trigger events cannot be altered.
            connection.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
            connection.batch_execute(&period.attach_statement(schema)).await?;
        }
        connection.batch_execute("COMMIT").await?;
        for (period, moved) in missing.iter().zip(moved) {
            tracing::info!(partition = period.name(), moved, "made a partition");
        }
        Ok(())
    }

    /// Marks as used the resources and scopes of the records of `period` in the default partition.
    async fn note_use(&self, period: Period) -> Result<(), Failure> {
        let Some(default) = self.default else { return Ok(()) };
        for (table, column) in NAMED {
            let named = period.select_statement(&default.qualified, column);
            note_use_by(self.connection, self.schema, table, &named).await?;
        }
        Ok(())
    }

    /// Moves the records of `period` out of the default partition; returns their number.
    async fn move_rows(&self, period: Period, columns: &str) -> Result<u64, Failure> {
        let Some(default) = self.default else { return Ok(0) };
        let statement = period.move_statement(self.schema, &default.qualified, columns);
        Ok(self.connection.execute(&statement, &[]).await?)
    }

    /// Takes the lock for DDL, and locks the default partition, or the `whole` table, against everybody. Others queue while it
    /// waits, so it waits for a moment only.
    async fn lock(&self, whole: bool) -> Result<(), Failure> {
        let Some(default) = self.default else { return Ok(()) };
        let whole = if whole { format!("{}.{LOG_RECORDS}, ONLY ", self.schema) } else { String::new() };
        let lock =
            format!("{DDL_LOCK}; LOCK TABLE ONLY {whole}{} IN ACCESS EXCLUSIVE MODE", default.qualified);
        let mut left = if self.patient { TRIES } else { 1 };
        loop {
            left -= 1;
            self.connection.batch_execute("SAVEPOINT unlocked; SET LOCAL lock_timeout = '500ms'").await?;
            match self.connection.batch_execute(&lock).await.map_err(Failure::from) {
                Err(failure) if failure.class == Class::Busy && left > 0 => {
                    self.connection.batch_execute("ROLLBACK TO unlocked; RELEASE unlocked").await?;
                    sleep(BETWEEN_TRIES).await;
                }
                locked => {
                    locked?;
                    // From here on, moved rows belong to the top-level transaction, as `forebay tail` expects.
                    return Ok(self.connection.batch_execute("RELEASE unlocked").await?);
                }
            }
        }
    }

    /// The columns of the table, quoted: partitions may have them in another order. PostgreSQL fills generated columns itself.
    async fn columns(&self) -> Result<String, Failure> {
        let select = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
                      WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let table = format!("{}.{LOG_RECORDS}", self.schema);
        Ok(self.connection.query_one(select, &[&table]).await?.get(0))
    }
}
