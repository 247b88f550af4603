//! One partition is made: its table beside the parent, with the records of its time that lie in the default partition, and attached.
//!
//! All of it is one transaction, so that each record is seen once at any moment, and a crash leaves everything as it was.
//! Most records are moved while writing goes on; then writers to the default partition wait for a moment, in which the rest is
//! moved and the table attached. PostgreSQL would refuse to attach it with a record of its time left in the default partition.
//!
//! A query that is planned before and waits for the default partition meanwhile would look for the moved records where they are
//! not any more. So where any are moved, all wait in that moment, before they are planned; but for a default partition that
//! PostgreSQL has to look through for longer than that.
//!
//! What the moved records name is noted as used before, in transactions of its own: they may have lain there for long, and where they
//! are then nobody looks for what they name (`beside.rs`).
//!
//! A lock on the default partition that excludes itself, and nobody who reads or writes, keeps several gateways from moving the
//! same. It is taken before the lock for DDL, which is held at the end only: nothing else waits for a long move.

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
    /// The default partition, where there is one.
    pub(super) default: Option<&'a Partition>,
    /// Those of them that a partition has while it is written are made with it.
    pub(super) indexes: &'a [Index],
    /// There may be much to move, which is worth some tries for the lock at its end.
    pub(super) patient: bool,
}

/// How often a patient one tries to have the default partition for itself, and how long it waits in between.
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// PostgreSQL looks through so many bytes of the default partition in less than half a second.
const QUICK: u64 = 256 << 20;

impl Maker<'_> {
    /// Makes what `period` lacks; gives whether it has all of it then. What keeps it from being made is said.
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
        // Behind the lock, since somebody else may have made it. Partitions of another width serve as well, whoever has made them.
        let missing = period.missing(&ranges(&partitions(connection, schema).await?));
        if missing.is_empty() {
            return Ok(connection.batch_execute("COMMIT").await?);
        }
        let (columns, is_quick) = (self.columns().await?, bytes(connection, self.default).await? <= QUICK);
        if self.patient {
            // Whoever has the table for long would have all the moving be for nothing.
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
            // A trigger that fires at the end would fire too late: a table that it is to fire for cannot be altered.
            connection.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
            connection.batch_execute(&period.attach_statement(schema)).await?;
        }
        connection.batch_execute("COMMIT").await?;
        for (period, moved) in missing.iter().zip(moved) {
            tracing::info!(partition = period.name(), moved, "made a partition");
        }
        Ok(())
    }

    /// Notes the use of what the records of `period` in the default partition name.
    async fn note_use(&self, period: Period) -> Result<(), Failure> {
        let Some(default) = self.default else { return Ok(()) };
        for (table, column) in NAMED {
            let named = period.select_statement(&default.qualified, column);
            note_use_by(self.connection, self.schema, table, &named).await?;
        }
        Ok(())
    }

    /// Moves the records of `period` out of the default partition; gives their number.
    async fn move_rows(&self, period: Period, columns: &str) -> Result<u64, Failure> {
        let Some(default) = self.default else { return Ok(0) };
        let statement = period.move_statement(self.schema, &default.qualified, columns);
        Ok(self.connection.execute(&statement, &[]).await?)
    }

    /// Takes the lock for DDL, and from all others the default partition, or the `whole` table. They queue while it waits for those
    /// who have it, so that it waits for a moment only.
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
                    // The rows that are moved from here on belong to the transaction itself, as `forebay tail` expects.
                    return Ok(self.connection.batch_execute("RELEASE unlocked").await?);
                }
            }
        }
    }

    /// The columns of the table, quoted: partitions may have them in another order. PostgreSQL computes the others by itself.
    async fn columns(&self) -> Result<String, Failure> {
        let select = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
                      WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let table = format!("{}.{LOG_RECORDS}", self.schema);
        Ok(self.connection.query_one(select, &[&table]).await?.get(0))
    }
}
