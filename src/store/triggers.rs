//! Triggers that may keep a row out of its table without an error: they return NULL before the insert, after they have put the row
//! elsewhere (partitioning by inheritance) or left it out (sampling). COPY does not count such rows.

use bytes::Bytes;

use crate::postgres::copy::copy;
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::Connection;
use crate::table::Destination;
use crate::table::ddl::SEARCH_PATH;

/// A trigger BEFORE INSERT FOR EACH ROW. COPY does count the rows that it hands to a trigger INSTEAD OF INSERT.
#[derive(Debug)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// Its function may return NULL: its source says so, or is not PL/pgSQL.
    pub may_return_null: bool,
}

/// The triggers of the table or of one of its partitions. Rules do not matter: COPY ignores them.
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

/// Whether there is such a trigger. It may be called in a transaction whose `search_path` is the role's own.
pub async fn may_divert(connection: &Connection, destination: &Destination) -> Result<bool, Failure> {
    connection.batch_execute(&format!("SAVEPOINT look; SET LOCAL search_path = {SEARCH_PATH}")).await?;
    let found = of(connection, destination).await?;
    // Restores the path, which deferred triggers use to look up names.
    connection.batch_execute("ROLLBACK TO SAVEPOINT look; RELEASE SAVEPOINT look").await?;
    Ok(!found.is_empty())
}

/// Sends `runs` of `expected` rows to `statement`, a COPY into `destination`. Returns how many of them a trigger has kept out of
/// the table.
pub async fn copy_past(
    connection: &Connection,
    statement: &str,
    destination: &Destination,
    runs: impl IntoIterator<Item = Bytes>,
    expected: u64,
) -> Result<u64, Failure> {
    match copy(connection, statement, destination.table(), runs).await? {
        written if written == expected => Ok(0),
        // Asked only here, because such a trigger may have been made since the start.
        written if written < expected && may_divert(connection, destination).await? => Ok(expected - written),
        written => Err(Failure::new(Class::Unknown, format!("PostgreSQL took {written} rows of {expected}"))),
    }
}

/// A warning about the triggers that may keep rows out of `destination`, if there are any.
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
