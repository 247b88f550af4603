//! One attempt to write one batch in one transaction.
//!
//! First the lane's sequence row is advanced, if it still holds the previous number. The row's lock makes this transaction
//! wait for an earlier one of a lost connection, and its content tells whether that one was committed. Then come dead
//! letters, new resources and scopes, and the COPY, whose row count is checked before the COMMIT.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::postgres::ToSql;
use serde::Serialize;
use uuid::Uuid;

use super::known::{Files, Known};
use super::sample::Stored;
use crate::buffer::Batch;
use crate::postgres::error::{Class, Failure};
use crate::postgres::pool::AS_THE_ROLE_HAS_THEM;
use crate::postgres::session::Connection;
use crate::store::origins::{Origin, store};
use crate::store::triggers::copy_past;
use crate::table::Destination;
use crate::table::decode::{resource_id, scope_id};
use crate::table::identifier::Schema;
use crate::table::interned::Id;

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

/// The place of a batch in its lane's sequence.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) schema: &'a Schema,
    pub(super) gateway: Uuid,
    /// The number of the lane's row.
    pub(super) lane: i16,
    /// The number of this batch in that row; a retry has the same.
    pub(super) sequence: i64,
    /// For the first batch under a row number: the row's previous number, and its last batch.
    pub(super) before: Option<(i16, i64)>,
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

/// The state of the lane's sequence row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advanced {
    /// The batch is the next one; resources and scopes are in these files.
    Next(Files),
    /// It is the next one, but the database has lost batches before it.
    AfterALoss,
    /// An earlier attempt wrote it.
    Before,
}

/// Writes `job`, and notes in `progress` how far it came.
pub(super) async fn write(
    connection: &Connection,
    job: &mut Job<'_>,
    progress: &mut Progress,
) -> Result<Written, Failure> {
    match begin(connection, job.turn).await? {
        Advanced::Before => return Ok(Written::Before),
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
    *progress = Progress::Committing;
    connection.batch_execute("COMMIT").await?;
    Ok(Written::Now)
}

/// Whether the batch, whose COMMIT had no answer, is stored.
pub(super) async fn is_stored(connection: &Connection, turn: Turn<'_>) -> Result<bool, Failure> {
    if begin(connection, turn).await? == Advanced::Before {
        return Ok(true);
    }
    connection.batch_execute("ROLLBACK").await?;
    Ok(false)
}

/// Begins the transaction that writes the batch, and ends it if the batch is stored already.
async fn begin(connection: &Connection, turn: Turn<'_>) -> Result<Advanced, Failure> {
    // Not pipelined: if BEGIN failed, the sequence row would be committed by itself.
    connection.batch_execute("BEGIN").await?;
    let advanced = advance(connection, turn).await?;
    if advanced == Advanced::Before {
        // The lock on the lane's row is in the write-ahead log, so this COMMIT waits for a synchronous standby, which then
        // also has the batch. The session that wrote the batch may have ended during that very wait.
        connection.batch_execute("COMMIT").await?;
    }
    Ok(advanced)
}

const LOST: &str = "PostgreSQL has lost batches that it had committed; was the store made again, or was there a failover to a \
                    standby that lagged?";

/// Moves the lane's sequence row to this batch.
pub(super) async fn advance(connection: &Connection, turn: Turn<'_>) -> Result<Advanced, Failure> {
    let Turn { schema, gateway, lane, sequence, before } = turn;
    let is_moved = match before {
        Some(before) => move_row(connection, turn, before).await?,
        None => sequence == 1,
    };
    let upsert = format!(
        "INSERT INTO {schema}.lanes AS l (gateway, lane, sequence) VALUES ($1, $2, $3) \
         ON CONFLICT (gateway, lane) DO UPDATE SET sequence = excluded.sequence, updated_at = now() \
         WHERE l.sequence = excluded.sequence - 1 RETURNING l.xmax = 0, \
         pg_relation_filenode(to_regclass($4)), pg_relation_filenode(to_regclass($5))"
    );
    let statement = connection.prepare_cached(&upsert).await?;
    let [resources, scopes] = ["resources", "scopes"].map(|table| format!("{schema}.{table}"));
    let advanced =
        connection.query_opt(&statement, &[&gateway, &lane, &sequence, &resources, &scopes]).await?;
    if let Some(row) = advanced {
        // A new row for a batch that is not the first one: somebody has deleted the old row.
        if row.get::<_, bool>(0) && !is_moved {
            tracing::error!(lane, "{LOST}");
            return Ok(Advanced::AfterALoss);
        }
        return Ok(Advanced::Next([row.get(1), row.get(2)]));
    }
    let select = format!("SELECT sequence FROM {schema}.lanes WHERE gateway = $1 AND lane = $2 FOR UPDATE");
    let found: i64 = connection.query_one(&select, &[&gateway, &lane]).await?.get(0);
    if found == sequence {
        return Ok(Advanced::Before);
    }
    if found > sequence {
        let message = format!("lane {lane} of gateway {gateway} is at batch {found}, ahead of {sequence}");
        return Err(Failure::new(Class::Unknown, message));
    }
    // As when an asynchronous standby takes over.
    tracing::error!(lane, batches = sequence - 1 - found, "{LOST}");
    let update = format!("UPDATE {schema}.lanes SET sequence = $3 WHERE gateway = $1 AND lane = $2");
    connection.execute(&update, &[&gateway, &lane, &sequence]).await?;
    Ok(Advanced::AfterALoss)
}

/// Gives the lane's row its next number; returns whether the row had the number `before`. The last batch becomes batch 0, so that
/// batches that the database has lost count below it. If an earlier attempt has done so, this does nothing; if one is doing so,
/// this waits for it.
async fn move_row(
    connection: &Connection,
    Turn { schema, gateway, lane, .. }: Turn<'_>,
    (before, last): (i16, i64),
) -> Result<bool, Failure> {
    let update = format!(
        "UPDATE {schema}.lanes SET lane = $2, sequence = sequence - $4 WHERE gateway = $1 AND lane = $3 \
         AND NOT EXISTS (SELECT FROM {schema}.lanes WHERE gateway = $1 AND lane = $2)"
    );
    Ok(connection.execute(&update, &[&gateway, &lane, &before, &last]).await? == 1)
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
        let named: BTreeSet<_> = rows.filter_map(|index| T::named_by(job.batch.row(index))).collect();
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
    let (columns, mark) = (job.destination.columns(), job.destination.mark());
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
    if job.destination.mapping().is_some() {
        return Ok([(); 2].map(|()| vec![None; job.dead.len()]));
    }
    let named = |id: fn(&[u8]) -> Option<Id>| -> Vec<_> {
        job.dead.keys().map(|index| id(job.batch.row(*index)).map(Uuid::from_bytes)).collect()
    };
    let [resources, scopes] = [resource_id, scope_id].map(named);
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

fn json(origin: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(origin).expect("it has only texts and numbers")
}

/// Ends sessions that have been in the lane's transaction for longer than `timeout`; returns their number.
pub(super) async fn end_holder(
    connection: &Connection,
    Turn { schema, gateway, lane, before, .. }: Turn<'_>,
    timeout: Duration,
) -> Result<u64, Failure> {
    let end = format!(
        "SELECT pg_terminate_backend(session.pid) FROM {schema}.lanes \
         JOIN pg_locks held ON held.locktype = 'transactionid' AND held.mode = 'ExclusiveLock' AND held.granted \
            AND held.transactionid = lanes.xmax \
         JOIN pg_stat_activity session ON session.pid = held.pid AND session.usename IN (current_user, session_user) \
         WHERE gateway = $1 AND lane = ANY ($2) AND session.pid <> pg_backend_pid() \
            AND session.xact_start < clock_timestamp() - make_interval(secs => $3)"
    );
    let lanes: Vec<i16> = before.iter().map(|(before, _)| *before).chain([lane]).collect();
    Ok(connection.execute(&end, &[&gateway, &lanes, &timeout.as_secs_f64()]).await?)
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
    let (statement, runs) = (job.destination.copy_statement(), job.batch.runs(&excluded));
    *job.diverted = copy_past(connection, &statement, job.destination, runs, expected).await?;
    Ok(())
}
