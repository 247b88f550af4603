//! The store: its version and columns, its dead letters and its size.

use super::{Checked, Patient, ok, problem, warning};
use crate::postgres::error::Failure;
use crate::store::partitions::catalogue::partitions;
use crate::store::schema::differences;
use crate::table::ddl::{LOG_RECORDS, MIGRATIONS};

/// The most rows that are counted one by one.
pub(super) const COUNTED: i64 = 10_000;

pub(super) async fn schema(p: &Patient<'_>) -> Checked {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let (schema, create) = (&p.schema, p.config.create_schema);
    if !p.has(LOG_RECORDS).await? {
        return Ok(vec![if create {
            ok(format!("{schema} is not there yet; forebay makes it when it starts"))
        } else {
            problem(format!("{schema} is not there: run the DDL that `forebay schema` prints"))
        }]);
    }
    let found = version(p).await?;
    match found {
        Some(found) if found > known && create => {
            return Ok(vec![problem(format!(
                "{schema} has version {found}, and this forebay knows versions up to {known}: use the newer forebay"
            ))]);
        }
        Some(found) if found < known && create => {
            return Ok(vec![ok(format!(
                "{schema} has version {found}; this forebay migrates it to {known} when it starts"
            ))]);
        }
        _ => {}
    }
    let cure = match found {
        Some(found) if found < known => format!("run the DDL that `forebay schema --since {found}` prints"),
        _ => "compare with the DDL that `forebay schema` prints".to_owned(),
    };
    let differences = differences(p.connection, schema).await?;
    if !differences.is_empty() {
        return Ok(differences.into_iter().map(|what| problem(format!("{what}: {cure}"))).collect());
    }
    let version = found.map_or("unknown".to_owned(), |found| found.to_string());
    Ok(vec![ok(format!("{schema} has version {version}, and the columns fit"))])
}

/// The version of the store; `None` if there is none, or the role may not read it.
pub(super) async fn version(p: &Patient<'_>) -> Result<Option<i32>, Failure> {
    if !p.has("schema_migrations").await? {
        return Ok(None);
    }
    let select = format!("SELECT max(version) FROM {}.schema_migrations", p.schema);
    Ok(p.readable(&select).await?.and_then(|row| row.get(0)))
}

pub(super) async fn dead_letters(p: &Patient<'_>) -> Checked {
    if !p.has("dead_letters").await? {
        return Ok(vec![ok("there is no table yet to have any")]);
    }
    let select =
        format!("SELECT count(*) FROM (SELECT FROM {}.dead_letters LIMIT {COUNTED}) letters", p.schema);
    let count = p.readable(&select).await?.map(|row| row.get::<_, i64>(0));
    Ok(vec![match count {
        None => ok("cannot be counted: the role may not SELECT them, which forebay does not need to write"),
        Some(0) => ok("none"),
        Some(count) => {
            let at_least = if count == COUNTED { "at least " } else { "" };
            let cure = "look at them with `forebay dead-letters list`, and retry or purge them";
            warning(format!(
                "{at_least}{count} in {}.dead_letters, refused for their content: {cure}",
                p.schema
            ))
        }
    }])
}

/// The disk's used space. SQL has no way to ask for the free space.
pub(super) async fn disk(p: &Patient<'_>) -> Checked {
    let select = "SELECT pg_size_pretty(pg_database_size(current_database())), \
                  pg_size_pretty(coalesce((SELECT sum(pg_total_relation_size(oid)) FROM unnest($1::oid[]) oid), 0)), \
                  has_function_privilege('pg_ls_waldir()', 'EXECUTE')";
    let partitions = partitions(p.connection, &p.schema).await?;
    let oids: Vec<_> = partitions.iter().map(|partition| partition.oid).collect();
    let row = p.connection.query_one(select, &[&oids]).await?;
    let (database, records): (String, String) = (row.get(0), row.get(1));
    let wal = if row.get(2) {
        let wal = "SELECT pg_size_pretty(coalesce(sum(size), 0)) FROM pg_ls_waldir()";
        format!(", the WAL {}", p.connection.query_one(wal, &[]).await?.get::<_, String>(0))
    } else {
        String::new()
    };
    Ok(vec![ok(format!(
        "the database takes {database}, of which log records {records}{wal}; how much is free cannot be asked by SQL: \
         watch the server's file systems"
    ))])
}
