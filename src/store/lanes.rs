//! The sequence rows in the table of lanes: one for each lane of each forebay, and one for its clerk. Each writer moves its row in
//! the transaction that writes, so that the outcome of a COMMIT without an answer can be looked up.

use uuid::Uuid;

use super::schema::SchemaError;
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::table::identifier::Schema;

/// The clerk's sequence row is in the same table.
pub const CLERK: i16 = -1;

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

/// Removes the sequence rows of forebays that ended long ago.
pub async fn forget_old_lanes(connection: &Connection, schema: &Schema) -> Result<(), SchemaError> {
    let delete = format!("DELETE FROM {schema}.lanes WHERE updated_at < now() - interval '30 days'");
    match connection.execute(&delete, &[]).await.map_err(Failure::from) {
        // A role without DELETE is a good idea, and a few old rows cost nothing.
        Err(failure) if failure.sqlstate.as_deref() != Some("42501") => Err(failure.into()),
        _ => Ok(()),
    }
}
