//! The place of a batch in its lane's sequence: the lane's row, which its transaction moves to this batch first.
//!
//! With a durable queue the row says as well which of the queue's records are stored. Then the transaction has to see the rows of
//! the others that it speaks for, and the anchor as this process has made it.

use std::time::Duration;

use uuid::Uuid;

use super::known::Files;
use crate::buffer::disk::{Claim, DurableQueue};
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::Connection;
use crate::postgres::{Row, ToSql};
use crate::store::lanes::{ANCHOR, fenced};
use crate::table::identifier::Schema;

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
    /// The transaction's claim on the durable queue, if the batch is of one.
    pub(super) queued: Option<Queued<'a>>,
}

/// The claim of a transaction on a durable queue.
#[derive(Clone, Copy)]
pub(super) struct Queued<'a> {
    pub(super) queue: &'a DurableQueue,
    pub(super) claim: &'a Claim,
    /// The number of lanes, by which the number of a lane's row grows.
    pub(super) lanes: i16,
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
    /// The database has lost transactions that the batch's claim speaks for. Nothing may be written.
    Lost,
}

impl Turn<'_> {
    /// The state of a row that is behind this batch.
    fn behind(self, batches: i64) -> Advanced {
        match self.queued {
            Some(Queued { claim, .. }) if claim.has_confirmed() => Advanced::Lost,
            // The loss is known since the queue was taken over.
            Some(_) => Advanced::AfterALoss,
            None => {
                tracing::error!(lane = self.lane, batches, "{LOST}");
                Advanced::AfterALoss
            }
        }
    }

    /// Whether the queue was taken over again since the claim was made.
    pub(super) fn is_outdated(self) -> bool {
        self.queued.is_some_and(|Queued { queue, claim, .. }| !queue.claims().is_current(claim))
    }

    /// Whether the transaction sees all that the claim speaks for; `stamps` is a column of `row`.
    fn sees(self, row: &Row, stamps: usize) -> bool {
        self.queued.is_none_or(|Queued { claim, .. }| {
            let stamps: Vec<i64> = row.get::<_, Vec<Option<i64>>>(stamps).into_iter().flatten().collect();
            claim.is_seen_in(&stamps)
        })
    }
}

impl Queued<'_> {
    /// The numbers that the rows of the other lanes have now: each as it was confirmed last, or the next one.
    fn rows(self) -> Vec<i16> {
        self.claim.other_rows().flat_map(|row| [Some(row), row.checked_add(self.lanes)]).flatten().collect()
    }
}

/// Whether the batch, whose COMMIT had no answer, is stored.
pub(super) async fn is_stored(connection: &Connection, turn: Turn<'_>) -> Result<bool, Failure> {
    let advanced = begin(connection, turn).await?;
    if !matches!(advanced, Advanced::Before | Advanced::Lost) {
        connection.batch_execute("ROLLBACK").await?;
    }
    Ok(advanced == Advanced::Before)
}

/// Begins the transaction that writes the batch, and ends it if the batch is stored already or may not be written.
pub(super) async fn begin(connection: &Connection, turn: Turn<'_>) -> Result<Advanced, Failure> {
    // Not pipelined: if BEGIN failed, the sequence row would be committed by itself.
    connection.batch_execute("BEGIN").await?;
    let advanced = advance(connection, turn).await?;
    match advanced {
        // The lock on the lane's row is in the write-ahead log, so this COMMIT waits for a synchronous standby, which then
        // also has the batch. The session that wrote the batch may have ended during that very wait.
        Advanced::Before => connection.batch_execute("COMMIT").await?,
        Advanced::Lost => connection.batch_execute("ROLLBACK").await?,
        Advanced::Next(_) | Advanced::AfterALoss => {}
    }
    Ok(advanced)
}

const LOST: &str = "PostgreSQL has lost batches that it had committed; was the store made again, or was there a failover to a \
                    standby that lagged?";

/// Moves the lane's sequence row to this batch.
pub(super) async fn advance(connection: &Connection, turn: Turn<'_>) -> Result<Advanced, Failure> {
    let Turn { schema, gateway, lane, sequence, before, queued } = turn;
    let is_moved = match before {
        Some(before) => move_row(connection, turn, before).await?,
        None => sequence == 1,
    };
    if let Some(row) = upsert(connection, turn).await? {
        if !turn.sees(&row, 3) {
            return Ok(Advanced::Lost);
        }
        // A new row for a batch that is not the first one: somebody has deleted the old row.
        if row.get::<_, bool>(0) && !is_moved {
            return Ok(turn.behind(sequence - 1));
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
        return Err(queued.map_or_else(
            || Failure::new(Class::Unknown, message),
            |Queued { queue, .. }| fenced(queue.id()),
        ));
    }
    // As when an asynchronous standby takes over.
    let behind = turn.behind(sequence - 1 - found);
    if behind != Advanced::Lost && !catch_up(connection, turn).await? {
        return Ok(Advanced::Lost);
    }
    Ok(behind)
}

/// Moves the row to this batch if it is at the one before, or makes it. Returns whether it is new, the files of the resources and
/// scopes, and with a durable queue the stamps of the others.
async fn upsert(connection: &Connection, turn: Turn<'_>) -> Result<Option<Row>, Failure> {
    let Turn { schema, gateway, lane, sequence, queued, .. } = turn;
    let (columns, values, set, stamps) = match queued {
        None => ("", "", "", String::new()),
        Some(_) => (
            ", queue, stored",
            ", $6, $7",
            ", queue = excluded.queue, stored = excluded.stored",
            format!(", {}", stamps(schema, "$6", "$8")),
        ),
    };
    let upsert = format!(
        "INSERT INTO {schema}.lanes AS l (gateway, lane, sequence{columns}) VALUES ($1, $2, $3{values}) \
         ON CONFLICT (gateway, lane) DO UPDATE SET sequence = excluded.sequence, updated_at = now(){set} \
         WHERE l.sequence = excluded.sequence - 1 RETURNING l.xmax = 0, \
         pg_relation_filenode(to_regclass($4)), pg_relation_filenode(to_regclass($5)){stamps}"
    );
    let statement = connection.prepare_cached(&upsert).await?;
    let [resources, scopes] = ["resources", "scopes"].map(|table| format!("{schema}.{table}"));
    let of_queue = queued.map(|queued| (queued.queue.id(), &queued.claim.row, queued.rows()));
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&gateway, &lane, &sequence, &resources, &scopes];
    if let Some((queue, stored, rows)) = &of_queue {
        values.extend([queue as &(dyn ToSql + Sync), stored, rows]);
    }
    Ok(connection.query_opt(&statement, &values).await?)
}

/// Moves a row that is behind to this batch. Returns whether the transaction sees all that the claim speaks for.
async fn catch_up(connection: &Connection, turn: Turn<'_>) -> Result<bool, Failure> {
    let Turn { schema, gateway, lane, sequence, queued, .. } = turn;
    let at = "WHERE gateway = $1 AND lane = $2";
    let Some(queued) = queued else {
        let update = format!("UPDATE {schema}.lanes SET sequence = $3 {at}");
        connection.execute(&update, &[&gateway, &lane, &sequence]).await?;
        return Ok(true);
    };
    let stamps = stamps(schema, "$4", "$6");
    let update =
        format!("UPDATE {schema}.lanes SET sequence = $3, queue = $4, stored = $5 {at} RETURNING {stamps}");
    let values: [&(dyn ToSql + Sync); 6] =
        [&gateway, &lane, &sequence, &queued.queue.id(), &queued.claim.row, &queued.rows()];
    let row = connection.query_one(&update, &values).await?;
    Ok(turn.sees(&row, 0))
}

/// The stamps of the other lanes' rows and of the anchor, each looked up by its key: all versions of rows remain while somebody
/// has a transaction open.
fn stamps(schema: &Schema, queue: &str, rows: &str) -> String {
    format!(
        "ARRAY(SELECT stored[1] FROM {schema}.lanes WHERE gateway = $1 AND lane = ANY ({rows}) \
         UNION ALL SELECT stored[1] FROM {schema}.lanes WHERE gateway = {queue} AND lane = {ANCHOR})"
    )
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

/// Ends sessions that have been in the lane's transaction for longer than `timeout`; returns their number.
pub(super) async fn end_holder(
    connection: &Connection,
    Turn { schema, gateway, lane, before, .. }: Turn<'_>,
    timeout: Duration,
) -> Result<u64, Failure> {
    let lanes: Vec<i16> = before.iter().map(|(before, _)| *before).chain([lane]).collect();
    end(connection, schema, "gateway = $1 AND lane = ANY ($3)", &[&gateway, &timeout.as_secs_f64(), &lanes])
        .await
}

/// Ends sessions that have held a row of `queue` for longer than `timeout`; returns their number.
pub(super) async fn end_holders_of(
    connection: &Connection,
    schema: &Schema,
    queue: Uuid,
    timeout: Duration,
) -> Result<u64, Failure> {
    end(connection, schema, "queue = $1", &[&queue, &timeout.as_secs_f64()]).await
}

async fn end(
    connection: &Connection,
    schema: &Schema,
    rows: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, Failure> {
    let end = format!(
        "SELECT pg_terminate_backend(session.pid) FROM {schema}.lanes \
         JOIN pg_locks held ON held.locktype = 'transactionid' AND held.mode = 'ExclusiveLock' AND held.granted \
            AND held.transactionid = lanes.xmax \
         JOIN pg_stat_activity session ON session.pid = held.pid AND session.usename IN (current_user, session_user) \
         WHERE {rows} AND session.pid <> pg_backend_pid() \
            AND session.xact_start < clock_timestamp() - make_interval(secs => $2)"
    );
    Ok(connection.execute(&end, values).await?)
}
