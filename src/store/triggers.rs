//! Triggers that may keep a row out of the table that it is sent to, without an error: they return NULL before the insert, having
//! put the row elsewhere (partitioning by inheritance) or left it out (sampling). COPY does not count such rows.

use bytes::Bytes;

use crate::postgres::copy::copy;
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::Connection;
use crate::table::Destination;
use crate::table::ddl::SEARCH_PATH;

/// A trigger BEFORE INSERT FOR EACH ROW. COPY counts what it hands to one INSTEAD OF INSERT.
#[derive(Debug)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// Its function says so, or is in a language whose text does not tell.
    pub may_return_null: bool,
}

/// Those of the table or of one of its partitions. Rules are none of them: COPY passes them by.
pub async fn of(connection: &Connection, destination: &Destination) -> Result<Vec<Trigger>, Failure> {
    // The bits of tgtype: 1 is FOR EACH ROW, 2 BEFORE, 4 INSERT.
    let select = "WITH t AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname = $1 AND c.relname = $2) \
                  SELECT g.tgname::text, bool_or(l.lanname <> 'plpgsql' OR p.prosrc ~* '\\mreturn\\s+null\\M') \
                  FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_language l ON l.oid = p.prolang \
                  WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 7 = 7 \
                  AND (g.tgrelid IN (SELECT oid FROM t) \
                       OR g.tgrelid IN (SELECT relid FROM t, pg_partition_tree(t.oid::regclass))) \
                  GROUP BY g.tgname ORDER BY g.tgname";
    let (schema, table) = destination.names();
    let statement = connection.prepare_cached(select).await?;
    let rows = connection.query(&statement, &[&schema, &table]).await?;
    Ok(rows.iter().map(|row| Trigger { name: row.get(0), may_return_null: row.get(1) }).collect())
}

/// Whether there is one, asked within a transaction whose `search_path` may be the role's own.
pub async fn may_divert(connection: &Connection, destination: &Destination) -> Result<bool, Failure> {
    connection.batch_execute(&format!("SAVEPOINT look; SET LOCAL search_path = {SEARCH_PATH}")).await?;
    let found = of(connection, destination).await?;
    // Sets the path back, by which deferred triggers look up their names.
    connection.batch_execute("ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look").await?;
    Ok(!found.is_empty())
}

/// Sends `runs` of rows to `statement`, a COPY into `destination`, which has to take as many as are `expected`; gives how many
/// of them a trigger has kept out of the table.
pub async fn copy_past(
    connection: &Connection,
    statement: &str,
    destination: &Destination,
    runs: impl IntoIterator<Item = Bytes>,
    expected: u64,
) -> Result<u64, Failure> {
    match copy(connection, statement, destination.table(), runs).await? {
        written if written == expected => Ok(0),
        // Asked only now: such a trigger may have been made since the start.
        written if written < expected && may_divert(connection, destination).await? => Ok(expected - written),
        written => Err(Failure::new(Class::Unknown, format!("PostgreSQL took {written} rows of {expected}"))),
    }
}

/// A sentence about those that may keep rows out of `destination`, where there are any.
pub fn told(triggers: &[Trigger], destination: &Destination) -> Option<String> {
    let names: Vec<_> =
        triggers.iter().filter(|one| one.may_return_null).map(|one| one.name.as_str()).collect();
    let (schema, table) = destination.names();
    if names.is_empty() {
        return None;
    }
    Some(format!(
        "{schema}.{table} has triggers that may keep records out of it ({}): these records count as flushed, and in \
         log_buffer_diverted_total as well",
        names.join(", ")
    ))
}
