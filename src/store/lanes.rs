//! The sequence rows in the table of lanes: one for each lane of each forebay, and one for its clerk. Each writer moves its row in
//! the transaction that writes, so that the outcome of a COMMIT without an answer can be looked up.
//!
//! A durable queue has a row as well, its anchor. The lanes that write the queue keep in their rows which of its records they have
//! stored. A takeover collects all of that in the anchor, and keeps others from writing the queue.

use uuid::Uuid;

use super::schema::SchemaError;
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::table::identifier::Schema;
use crate::values::positions::{Positions, Run};
use crate::values::when::unix_nanos;

/// The clerk's sequence row is in the same table.
pub const CLERK: i16 = -1;
/// The anchor of a durable queue is in the same table, with the queue's id in place of the gateway's.
pub const ANCHOR: i16 = -2;
/// The lowest bits of the anchor's stamp. Those of a lane's stamp are its number, which is less.
const ANCHOR_BITS: i64 = 0xff;
/// With more ranges of stored records, the oldest runs that the directory has nothing of are forgotten.
const MOST_RANGES: usize = 1000;
/// The number of the last batch of a lane that was fenced. Its next one is not the next to this.
const FENCED: i64 = 1 << 62;

/// A durable queue, and the forebay that writes it.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The schema of the table of lanes.
    pub schema: &'a Schema,
    /// The queue's id.
    pub queue: Uuid,
    /// This run of forebay.
    pub gateway: Uuid,
    /// Its number of lanes.
    pub lanes: usize,
}

/// The result of a takeover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The anchor's stamp. No other takeover has the same.
    pub stamp: i64,
    /// The records that are stored, which the anchor has now.
    pub stored: Positions,
    /// The stamps in the rows of this forebay's lanes.
    pub stamps: Vec<i64>,
}

/// Takes the queue of `owner` over: waits for transactions of its earlier owner, puts all that is stored into the anchor, and keeps
/// other forebays' lanes from writing the queue. Positions of runs before `oldest` may be forgotten. After an earlier takeover of
/// the same owner, whose stamp was `last`, this is not done if another forebay has taken it over since.
///
/// # Errors
///
/// [`Failure::fenced`] in that case; or PostgreSQL's.
pub async fn take_over(
    connection: &Connection,
    owner: Owner<'_>,
    last: Option<i64>,
    oldest: Run,
) -> Result<TakenOver, Failure> {
    let Owner { schema, queue, gateway, .. } = owner;
    connection.batch_execute("BEGIN").await?;
    let anchor = format!(
        "INSERT INTO {schema}.lanes (gateway, lane, sequence, queue, stored) VALUES ($1, $2, 0, $1, '{{}}') \
         ON CONFLICT (gateway, lane) DO UPDATE SET queue = excluded.queue RETURNING stored"
    );
    let anchored: Option<Vec<i64>> = connection.query_one(&anchor, &[&queue, &ANCHOR]).await?.get(0);
    let before = anchored.as_deref().and_then(<[i64]>::first).copied().unwrap_or_default();
    // A statement of its own, so that it sees what was committed while the anchor was waited for.
    let select = format!(
        "SELECT gateway, stored FROM {schema}.lanes WHERE queue = $1 ORDER BY gateway, lane FOR UPDATE"
    );
    let rows = connection.query(&select, &[&queue]).await?;
    let of = |row: &crate::postgres::Row| row.get::<_, Uuid>(0);
    let has_others = rows.iter().any(|row| ![gateway, queue].contains(&of(row)));
    if has_others && last.is_some_and(|last| before > last) {
        connection.batch_execute("ROLLBACK").await?;
        return Err(fenced(queue));
    }
    let (mut stored, mut stamps) = (Positions::default(), Vec::new());
    for row in &rows {
        if let Some([stamp, positions @ ..]) = row.get::<_, Option<Vec<i64>>>(1).as_deref() {
            stored.add(&Positions::from_numbers(positions));
            stamps.extend((of(row) == gateway).then_some(*stamp));
        }
    }
    while stored.ranges() > MOST_RANGES && stored.first_run().is_some_and(|run| run < oldest) {
        stored.forget_before(stored.first_run().map_or(oldest, |run| run + 1));
    }
    let stamp = (unix_nanos() / 1000).max((before >> 8) + 1) << 8 | ANCHOR_BITS;
    settle(connection, owner, &[vec![stamp], stored.to_numbers()].concat()).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(TakenOver { stamp, stored, stamps })
}

/// Puts `anchored` into the anchor, fences the lanes of others, and makes those of the owner lanes of the queue.
async fn settle(connection: &Connection, owner: Owner<'_>, anchored: &[i64]) -> Result<(), Failure> {
    let Owner { schema, queue, gateway, lanes } = owner;
    let settle = format!(
        "WITH anchor AS (UPDATE {schema}.lanes SET stored = $4, updated_at = now() WHERE gateway = $1 AND lane = $5), \
         others AS (UPDATE {schema}.lanes SET queue = NULL, stored = NULL, sequence = {FENCED} \
           WHERE queue = $1 AND gateway NOT IN ($1, $2)), \
         own AS (UPDATE {schema}.lanes SET queue = $1 WHERE gateway = $2 AND lane >= 0 RETURNING lane) \
         INSERT INTO {schema}.lanes (gateway, lane, sequence, queue) \
         SELECT $2, number::int2, 0, $1 FROM generate_series(0, $3 - 1) number WHERE NOT EXISTS (SELECT FROM own)"
    );
    let lanes = i32::try_from(lanes).unwrap_or(i32::MAX);
    connection.execute(&settle, &[&queue, &gateway, &lanes, &anchored, &ANCHOR]).await?;
    Ok(())
}

/// The failure of a forebay whose queue another one has taken over.
pub fn fenced(queue: Uuid) -> Failure {
    Failure::fenced(&format!(
        "another forebay has taken over this queue ({queue}); this one writes nothing more: stop it, or give it a directory of its own"
    ))
}

/// The records of `queue` that are stored.
pub async fn stored_of(connection: &Connection, schema: &Schema, queue: Uuid) -> Result<Positions, Failure> {
    let select = format!("SELECT stored[2:] FROM {schema}.lanes WHERE queue = $1 AND stored IS NOT NULL");
    let mut stored = Positions::default();
    for row in connection.query(&select, &[&queue]).await? {
        stored.add(&Positions::from_numbers(&row.get::<_, Vec<i64>>(0)));
    }
    Ok(stored)
}

/// Makes the sequence rows of this forebay's lanes and of its clerk, so that a session that holds one can be found from the first
/// batch on.
pub async fn register_lanes(
    connection: &Connection,
    schema: &Schema,
    gateway: Uuid,
    lanes: usize,
) -> Result<(), SchemaError> {
    let insert = format!(
        "INSERT INTO {schema}.lanes (gateway, lane, sequence) \
         SELECT $1, number::int2, 0 FROM generate_series($3, $2 - 1) number ON CONFLICT DO NOTHING"
    );
    connection
        .execute(&insert, &[&gateway, &i32::try_from(lanes).unwrap_or(i32::MAX), &i32::from(CLERK)])
        .await?;
    Ok(())
}

/// Shows that this forebay is alive while it has nothing to write. A row that is locked needs no update.
pub async fn keep_lanes(connection: &Connection, schema: &Schema, gateway: Uuid) -> Result<(), Failure> {
    let update = format!(
        "UPDATE {schema}.lanes l SET updated_at = now() \
         FROM (SELECT lane FROM {schema}.lanes WHERE gateway = $1 FOR UPDATE SKIP LOCKED) free \
         WHERE l.gateway = $1 AND l.lane = free.lane"
    );
    connection.execute(&update, &[&gateway]).await?;
    Ok(())
}

/// Removes the sequence rows of forebays that ended long ago. What is stored of a durable queue is kept: its directory may come back.
pub async fn forget_old_lanes(connection: &Connection, schema: &Schema) -> Result<(), SchemaError> {
    let delete =
        format!("DELETE FROM {schema}.lanes WHERE updated_at < now() - interval '30 days' AND queue IS NULL");
    match connection.execute(&delete, &[]).await.map_err(Failure::from) {
        // A role without DELETE is a good idea, and a few old rows cost nothing.
        Err(failure) if failure.sqlstate.as_deref() != Some("42501") => Err(failure.into()),
        _ => Ok(()),
    }
}
