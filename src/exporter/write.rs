//! One attempt to write one batch in one transaction.
//!
//! First the lane's sequence row is advanced (`turn.rs`), if it still holds the previous number. The row's lock makes this
//! transaction wait for an earlier one of a lost connection, and its content tells whether that one was committed. Then come dead
//! letters, new resources and scopes, and the COPY, whose row count is checked before the COMMIT.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::postgres::ToSql;
use serde::Serialize;
use uuid::Uuid;

use super::known::Known;
use super::sample::Stored;
use super::turn::{Advanced, Turn, begin};
use crate::buffer::Batch;
use crate::postgres::error::Failure;
use crate::postgres::pool::AS_THE_ROLE_HAS_THEM;
use crate::postgres::session::Connection;
use crate::store::origins::{Origin, store};
use crate::store::triggers::copy_past;
use crate::table::columns::COLUMNS;
use crate::table::decode::id_at;
use crate::table::identifier::Schema;
use crate::table::interned::Id;
use crate::table::{Destination, Resource, Scope};

/// A batch to write, with its place in the lane's sequence.
pub(super) struct Job<'a> {
    pub(super) turn: Turn<'a>,
    pub(super) destination: &'a Destination,
    pub(super) batch: &'a Batch,
    /// Dead letters of the batch by index; they are not written to the table.
    pub(super) dead: &'a BTreeMap<usize, DeadLetter>,
    /// A row is or was at fault, so that only resources and scopes that the rows refer to are inserted.
    pub(super) divided: bool,
    /// Resources and scopes that are known to be stored.
    pub(super) known: &'a mut Known,
    /// Set to the number of rows that a trigger keeps out of the table.
    pub(super) diverted: &'a mut u64,
}

/// Why a row became a dead letter.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    pub(super) sqlstate: String,
    pub(super) message: String,
}

/// How far an attempt came, which decides what a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No row was sent, so that none is at fault.
    Begun,
    /// No earlier attempt was committed, and the dead letters are inserted. Resources, scopes and rows are being sent.
    Advanced,
    /// COMMIT was sent.
    Committing,
}

/// How an attempt succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// This attempt wrote the batch.
    Now,
    /// An earlier attempt had written it, and its answer was lost.
    Before,
}

/// Writes `job`, and notes in `progress` how far it came. Returns `None` if the transaction does not see all that it would say of
/// the durable queue, or that is not so any more; then nothing is written.
pub(super) async fn write(
    connection: &Connection,
    job: &mut Job<'_>,
    progress: &mut Progress,
) -> Result<Option<Written>, Failure> {
    match begin(connection, job.turn).await? {
        Advanced::Before => return Ok(Some(Written::Before)),
        Advanced::Lost => return Ok(None),
        // If somebody has truncated their tables, or created them again, none is stored.
        Advanced::Next(files) => job.known.is_of(files),
        // The resources and scopes of the lost batches are not stored either.
        Advanced::AfterALoss => job.known.clear(),
    }
    insert_dead_letters(connection, job).await.map_err(Failure::of_dead_letters)?;
    *progress = Progress::Advanced;
    if job.destination.mapping().is_none() {
        insert_new(connection, job, job.batch.resources()).await?;
        insert_new(connection, job, job.batch.scopes()).await?;
    } else {
        connection.batch_execute(&AS_THE_ROLE_HAS_THEM).await?;
    }
    copy_rows(connection, job).await?;
    if job.turn.is_outdated() {
        connection.batch_execute("ROLLBACK").await?;
        return Ok(None);
    }
    *progress = Progress::Committing;
    connection.batch_execute("COMMIT").await?;
    Ok(Some(Written::Now))
}

impl Job<'_> {
    /// The id in the column of `T` in row `index` of `log_records`.
    fn named<T: Origin>(&self, index: usize) -> Option<Id> {
        let at = match self.batch.format() {
            Some(format) => format.index_of(T::COLUMN),
            None => COLUMNS.iter().position(|column| column.name == T::COLUMN),
        };
        id_at(self.batch.row(index), at?)
    }

    /// The existing table that the rows were made for.
    fn mark(&self) -> Option<String> {
        let of_now = || self.destination.mark();
        self.batch.format().map_or_else(of_now, |format| format.destination.clone())
    }
}

/// Inserts those of `all` that are not known to be stored, and if the batch is divided only those that its rows refer to.
async fn insert_new<'b, T: Origin + 'b>(
    connection: &Connection,
    job: &Job<'_>,
    all: impl Iterator<Item = &'b Arc<T>>,
) -> Result<(), Failure> {
    let mut new: Vec<&T> = all.map(|one| &**one).filter(|one| !job.known.has(&one.id())).collect();
    if job.divided && !new.is_empty() {
        let rows = (0..job.batch.len()).filter(|index| !job.dead.contains_key(index));
        let named: BTreeSet<_> = rows.filter_map(|index| job.named::<T>(index)).collect();
        new.retain(|one| named.contains(&one.id()));
    }
    store(connection, job.turn.schema, new).await
}

/// Stores the refused rows, byte for byte, with the reason.
async fn insert_dead_letters(connection: &Connection, job: &Job<'_>) -> Result<(), Failure> {
    if job.dead.is_empty() {
        return Ok(());
    }
    let [resources, scopes] = keep_origins(connection, job).await?;
    let insert = format!(
        "INSERT INTO {}.dead_letters (sqlstate, message, columns, row, service, destination, resource_id, scope_id) \
         SELECT sqlstate, message, $4, row, service, $6, resource, scope \
         FROM unnest($1::text[], $2::text[], $3::bytea[], $5::text[], $7::uuid[], $8::uuid[]) \
         u(sqlstate, message, row, service, resource, scope)",
        job.turn.schema
    );
    let codes: Vec<_> = job.dead.values().map(|letter| letter.sqlstate.as_str()).collect();
    let messages: Vec<_> = job.dead.values().map(|letter| letter.message.as_str()).collect();
    let rows: Vec<_> = job.dead.keys().map(|index| job.batch.row(*index)).collect();
    let (format, mark) = (job.batch.format(), job.mark());
    let columns = format.map_or_else(|| job.destination.columns(), |format| format.names());
    let service = |index: &usize| job.batch.resource(*index)?.service_name.as_deref();
    let services: Vec<_> = job.dead.keys().map(service).collect();
    let statement = connection.prepare_cached(&insert).await?;
    let values: [&(dyn ToSql + Sync); 8] =
        [&codes, &messages, &rows, &columns, &services, &mark, &resources, &scopes];
    connection.execute(&statement, &values).await?;
    Ok(())
}

/// Stores the resources and scopes of the refused rows, for when the rows are sent again; returns the ids for each row. They are
/// bytes, which no type or check can refuse. The rows of an existing table have none.
async fn keep_origins(connection: &Connection, job: &Job<'_>) -> Result<[Vec<Option<Uuid>>; 2], Failure> {
    if job.mark().is_some() {
        return Ok([(); 2].map(|()| vec![None; job.dead.len()]));
    }
    let (resources, scopes) = (named::<Resource>(job), named::<Scope>(job));
    let is_named = |ids: &[Option<Uuid>], id: Id| ids.contains(&Some(Uuid::from_bytes(id)));
    let mut origins = BTreeMap::new();
    for resource in job.batch.resources().filter(|resource| is_named(&resources, resource.id)) {
        origins.entry(resource.id).or_insert_with(|| json(&**resource));
    }
    for scope in job.batch.scopes().filter(|scope| is_named(&scopes, scope.id)) {
        origins.entry(scope.id).or_insert_with(|| json(&**scope));
    }
    let insert = format!(
        "INSERT INTO {}.dead_letter_origins (id, content) SELECT id, content \
         FROM unnest($1::uuid[], $2::bytea[]) u(id, content) ON CONFLICT DO NOTHING",
        job.turn.schema
    );
    let (ids, contents): (Vec<_>, Vec<_>) =
        origins.into_iter().map(|(id, content)| (Uuid::from_bytes(id), content)).unzip();
    let statement = connection.prepare_cached(&insert).await?;
    connection.execute(&statement, &[&ids, &contents]).await?;
    Ok([resources, scopes])
}

/// The ids in the column of `T` in the refused rows.
fn named<T: Origin>(job: &Job<'_>) -> Vec<Option<Uuid>> {
    job.dead.keys().map(|index| job.named::<T>(*index).map(Uuid::from_bytes)).collect()
}

fn json(origin: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(origin).expect("it has only texts and numbers")
}

/// Tests whether the tables accept a record that they accepted before, and dead letters. The transaction is rolled back.
pub(super) async fn takes(
    connection: &Connection,
    schema: &Schema,
    destination: &Destination,
    sample: &Stored,
) -> Result<(), Failure> {
    connection.batch_execute("BEGIN").await?;
    if destination.mapping().is_none() {
        store(connection, schema, sample.resource.as_deref()).await?;
        store(connection, schema, sample.scope.as_deref()).await?;
        let origin = format!("INSERT INTO {schema}.dead_letter_origins (id, content) VALUES ($1, '{{}}')");
        let origin = connection.prepare_cached(&origin).await?;
        connection.execute(&origin, &[&Uuid::new_v4()]).await?;
    }
    let letter = format!(
        "INSERT INTO {schema}.dead_letters (sqlstate, message, columns, row) VALUES ('', '', '{{}}', $1)"
    );
    let letter = connection.prepare_cached(&letter).await?;
    connection.execute(&letter, &[&&sample.row[..]]).await?;
    if destination.mapping().is_some() {
        connection.batch_execute(&AS_THE_ROLE_HAS_THEM).await?;
    }
    copy_past(connection, &destination.copy_statement(), destination, [sample.row.clone()], 1).await?;
    // Deferred constraints, which a COMMIT would check.
    connection.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK").await?;
    Ok(())
}

/// Sends the rows and checks their number.
async fn copy_rows(connection: &Connection, job: &mut Job<'_>) -> Result<(), Failure> {
    let expected = (job.batch.len() - job.dead.len()) as u64;
    *job.diverted = 0;
    if expected == 0 {
        return Ok(());
    }
    let excluded = job.dead.keys().copied().collect();
    let of_now = || job.destination.copy_statement();
    let statement =
        job.batch.format().map_or_else(of_now, |format| job.destination.copy_statement_of(format));
    let runs = job.batch.runs(&excluded);
    *job.diverted = copy_past(connection, &statement, job.destination, runs, expected).await?;
    Ok(())
}
