//! The partitions in the catalogue. It has all state: forebay keeps none of its own that could disagree.

use std::collections::HashMap;

use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::table::counts::{self, Counts};
use crate::table::identifier::{Schema, quoted};

/// One partition of `log_records`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) oid: u32,
    /// Its bare name.
    pub(crate) name: String,
    /// The bare name of its schema.
    pub(crate) schema: String,
    /// Its name with its schema, quoted.
    pub(crate) qualified: String,
    /// Its begin and its end, in seconds since 1970; `None` for the default partition.
    pub(crate) range: Option<(i64, i64)>,
    /// It is a plain table, neither partitioned further nor on another server.
    pub(crate) is_table: bool,
}

/// The partitions, one a row. A missing bound is infinity. The bound of a partition that is just being dropped is NULL.
const PARTITIONS: &str = "SELECT c.oid, c.relname::text, n.nspname::text, c.relkind = 'r', \
     bound.text = 'DEFAULT', \
     extract(epoch FROM coalesce(substring(bound.text FROM 'FROM \\(''([^'']*)''\\)'), '-infinity')::timestamptz)::float8, \
     extract(epoch FROM coalesce(substring(bound.text FROM 'TO \\(''([^'']*)''\\)'), 'infinity')::timestamptz)::float8 \
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace, \
     LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS text) bound \
     WHERE i.inhparent = (SELECT p.oid FROM pg_class p JOIN pg_namespace s ON s.oid = p.relnamespace \
     WHERE s.nspname = $1 AND p.relname = 'log_records') AND bound.text IS NOT NULL";

/// The partitions of `log_records`, the oldest first and the default partition last.
pub(crate) async fn partitions(connection: &Connection, schema: &Schema) -> Result<Vec<Partition>, Failure> {
    let statement = connection.prepare_cached(PARTITIONS).await?;
    let rows = connection.query(&statement, &[&schema.name()]).await?;
    let mut found: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            // If it is dropped between the two look-ups of its bound, the second is NULL.
            let is_default: bool = row.get::<_, Option<bool>>(4)?;
            // An infinite float becomes the last integer.
            let range = (row.get::<_, f64>(5) as i64, row.get::<_, f64>(6) as i64);
            Some(Partition {
                oid: row.get(0),
                name: row.get(1),
                qualified: format!("{}.{}", quoted(row.get(2)), quoted(row.get(1))),
                schema: row.get(2),
                is_table: row.get(3),
                range: (!is_default).then_some(range),
            })
        })
        .collect();
    found.sort_by_key(|partition| partition.range.unwrap_or((i64::MAX, i64::MAX)));
    Ok(found)
}

/// The ranges of those that have one.
pub(crate) fn ranges(partitions: &[Partition]) -> Vec<(i64, i64)> {
    partitions.iter().filter_map(|partition| partition.range).collect()
}

/// The default partition.
pub(crate) fn default_of(partitions: &[Partition]) -> Option<&Partition> {
    partitions.iter().find(|partition| partition.range.is_none())
}

/// The bytes of a partition with its indexes; 0 for none, or if somebody has dropped it meanwhile.
pub(crate) async fn bytes(connection: &Connection, partition: Option<&Partition>) -> Result<u64, Failure> {
    let Some(partition) = partition else { return Ok(0) };
    let size = "SELECT coalesce(pg_total_relation_size($1::oid), 0)";
    Ok(connection.query_one(size, &[&partition.oid]).await?.get::<_, i64>(0).max(0) as u64)
}

/// A partition with its size, indexes and counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionState {
    pub(crate) partition: Partition,
    pub(crate) table_bytes: u64,
    pub(crate) index_bytes: u64,
    /// PostgreSQL's estimate, if it has one.
    pub(crate) rows: Option<i64>,
    /// The names of its indexes.
    pub(crate) valid: Vec<String>,
    /// The names of its invalid indexes: being built, or left by a build that failed.
    pub(crate) invalid: Vec<String>,
    /// All its pages are all-visible, and it was analysed.
    pub(crate) is_settled: bool,
    /// The state of its counts.
    pub(crate) counts: Counts,
}

impl PartitionState {
    /// The size of the table with its indexes.
    pub(crate) fn bytes(&self) -> u64 {
        self.table_bytes + self.index_bytes
    }
}

/// The state of partitions, and PostgreSQL's clock. One that somebody has dropped meanwhile has no size. `{}` is [`counts::STATE`].
const HELD: &str = "SELECT c.oid, extract(epoch FROM now())::int8, \
     coalesce(pg_table_size(c.oid), 0), coalesce(pg_indexes_size(c.oid), 0), \
     CASE WHEN pg_relation_size(c.oid) = 0 THEN 0 \
     ELSE nullif(greatest(c.reltuples::int8, pg_stat_get_live_tuples(c.oid), 0), 0) END, \
     ARRAY(SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
     WHERE x.indrelid = c.oid AND x.indisvalid), \
     ARRAY(SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
     WHERE x.indrelid = c.oid AND NOT x.indisvalid), \
     c.reltuples >= 0 AND c.relallvisible >= c.relpages AND (c.relpages > 0 OR pg_relation_size(c.oid) = 0), {} \
     FROM pg_class c WHERE c.oid = ANY ($1::oid[])";

/// The state of the partitions, and the current time by forebay's or PostgreSQL's clock, whichever is behind: it takes two wrong
/// clocks to drop too much.
pub(crate) async fn partition_states(
    connection: &Connection,
    schema: &Schema,
) -> Result<(Vec<PartitionState>, i64), Failure> {
    let partitions = partitions(connection, schema).await?;
    let oids: Vec<_> = partitions.iter().map(|partition| partition.oid).collect();
    let statement = connection.prepare_cached(&HELD.replace("{}", counts::STATE)).await?;
    let rows = connection.query(&statement, &[&oids]).await?;
    let theirs = rows.first().map_or(i64::MAX, |row| row.get(1));
    let rows: HashMap<u32, _> = rows.iter().map(|row| (row.get(0), row)).collect();
    let state = partitions.into_iter().filter_map(|partition| {
        let row = rows.get(&partition.oid)?;
        let bytes = |column| row.get::<_, i64>(column).max(0) as u64;
        Some(PartitionState {
            partition,
            table_bytes: bytes(2),
            index_bytes: bytes(3),
            rows: row.get(4),
            valid: row.get(5),
            invalid: row.get(6),
            is_settled: row.get::<_, Option<bool>>(7).unwrap_or_default(),
            counts: Counts::of(row.get(8), row.get(0)),
        })
    });
    Ok((state.collect(), super::now().min(theirs)))
}
