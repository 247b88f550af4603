//! The engine that stores the rows of an existing table, if it is not PostgreSQL itself.
//!
//! Such an engine answers a COPY in its own way: it names neither the line nor the SQLSTATE, or commits by itself. forebay could
//! then not tell a refused row from the others, and could store a batch twice.

use crate::postgres::error::Failure;
use crate::postgres::session::Connection;

/// Engines with a catalogue of their own: its schema and table, the condition that a row of it belongs to the table `t` in the
/// schema `n`, and the words for the message.
const CATALOGUES: [(&str, &str, &str, &str); 2] = [
    ("pg_catalog", "pg_dist_partition", "e.logicalrelid = t.oid", "is distributed by Citus"),
    (
        "_timescaledb_catalog",
        "hypertable",
        "e.schema_name = n.nspname AND e.table_name = t.relname",
        "is a hypertable of TimescaleDB, whose chunks may be compressed or distributed",
    ),
];

/// The engine that has `table` or a partition of it, in the words of a message; `None` is PostgreSQL itself.
pub(super) async fn of(connection: &Connection, table: u32) -> Result<Option<&'static str>, Failure> {
    let tree = "WITH t AS (SELECT c.* FROM pg_class c WHERE c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)))";
    let own = format!(
        "{tree} SELECT coalesce(bool_or(t.relkind = 'f'), false), coalesce(bool_or(m.amname IN ('columnar', 'hypercore')), false) \
         FROM t LEFT JOIN pg_am m ON m.oid = t.relam"
    );
    let row = connection.query_one(&own, &[&table]).await?;
    if row.get(0) {
        return Ok(Some(
            "is a foreign table or has one as a partition, where another server commits by itself",
        ));
    }
    if row.get(1) {
        return Ok(Some("is compressed, in a columnar access method"));
    }
    for (schema, catalogue, condition, words) in CATALOGUES {
        let is_there = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 \
                        AND c.relname = $2 AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))";
        if !connection.query_one(is_there, &[&schema, &catalogue]).await?.get::<_, bool>(0) {
            continue;
        }
        let has = format!(
            "{tree} SELECT EXISTS (SELECT FROM {schema}.{catalogue} e, t JOIN pg_namespace n ON n.oid = t.relnamespace \
             WHERE {condition})"
        );
        if connection.query_one(&has, &[&table]).await?.get(0) {
            return Ok(Some(words));
        }
    }
    Ok(None)
}
