//! The store: its version and columns, the days' partitions, what lies in it.

use super::{Checked, Patient, Verdict, ok, problem, warning};
use crate::exporter::error::Failure;
use crate::exporter::partitions::{DAYS_AHEAD, DAYS_BACK};
use crate::exporter::schema::differences;
use crate::table::ddl::{LOG_RECORDS, MIGRATIONS};

/// The most rows that are counted one by one.
const COUNTED: i64 = 10_000;

/// The partitions of `log_records`, with the ends of their days; NULL for the default partition.
const PARTITIONS: &str = "SELECT c.oid, c.relname::text, pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT' AS is_default, \
     coalesce(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \\(''([^'']*)''\\)'), '-infinity')::timestamptz AS first, \
     coalesce(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \\(''([^'']*)''\\)'), 'infinity')::timestamptz AS last \
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class parent ON parent.oid = i.inhparent \
     JOIN pg_namespace n ON n.oid = parent.relnamespace WHERE n.nspname = $1 AND parent.relname = 'log_records'";

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
    let differences = differences(&p.connection, schema).await?;
    if !differences.is_empty() {
        return Ok(differences.into_iter().map(|what| problem(format!("{what}: {cure}"))).collect());
    }
    let version = found.map_or("unknown".to_owned(), |found| found.to_string());
    Ok(vec![ok(format!("{schema} has version {version}, and the columns fit"))])
}

/// The version of the store; `None` where there is none, or the role may not see it.
async fn version(p: &Patient<'_>) -> Result<Option<i32>, Failure> {
    if !p.has("schema_migrations").await? {
        return Ok(None);
    }
    let select = format!("SELECT max(version) FROM {}.schema_migrations", p.schema);
    match p.connection.query_one(&select, &[]).await.map_err(Failure::from) {
        Ok(row) => Ok(row.get(0)),
        Err(failure) if failure.sqlstate.as_deref() == Some("42501") => Ok(None),
        Err(failure) => Err(failure),
    }
}

pub(super) async fn partitions(p: &Patient<'_>) -> Checked {
    if !p.has(LOG_RECORDS).await? {
        return Ok(vec![ok("there is no table yet to have any")]);
    }
    let missing = format!(
        "SELECT day::date::text, day::date = (now() AT TIME ZONE 'UTC')::date \
         FROM generate_series(date_trunc('day', now() AT TIME ZONE 'UTC'), \
         now() AT TIME ZONE 'UTC' + interval '{DAYS_AHEAD} days', interval '1 day') day WHERE NOT EXISTS (SELECT FROM ({PARTITIONS}) p WHERE NOT is_default \
         AND first <= day AT TIME ZONE 'UTC' AND last >= (day + interval '1 day') AT TIME ZONE 'UTC') ORDER BY day"
    );
    let schema = p.schema.name();
    let missing = p.connection.query(&missing, &[&schema]).await?;
    let default = format!("SELECT p.relname FROM ({PARTITIONS}) p WHERE is_default");
    let default: Option<String> = p.connection.query_opt(&default, &[&schema]).await?.map(|row| row.get(0));
    let days: Vec<String> = missing.iter().map(|row| row.get(0)).collect();
    let today = missing.iter().any(|row| row.get(1));
    let mut found = judge_days(&days, today, default.is_some(), p.config.create_schema);
    match default {
        Some(name) => found.extend(default_rows(p, &name).await?),
        None => found.push(problem(format!(
            "there is no default partition, so that a record of a day without a partition stops its batch: \
             CREATE TABLE {0}.log_records_default PARTITION OF {0}.log_records DEFAULT",
            p.schema
        ))),
    }
    Ok(found)
}

fn judge_days(days: &[String], today: bool, default: bool, create: bool) -> Vec<(Verdict, String)> {
    if days.is_empty() {
        return vec![ok(format!("today and the next {DAYS_AHEAD} days have theirs"))];
    }
    let cure = if create {
        "forebay makes them while it runs"
    } else {
        "make them, or have create_schema: true do it"
    };
    let what = format!("missing for {}: {cure}", days.join(", "));
    vec![if today && !default { problem(what) } else { warning(what) }]
}

/// Rows of days near today in the default partition keep those days from a partition of their own.
async fn default_rows(p: &Patient<'_>, name: &str) -> Checked {
    let count = format!(
        "SELECT count(*), count(*) FILTER (WHERE time BETWEEN now() - interval '{DAYS_BACK} days' AND \
         now() + interval '{DAYS_AHEAD} days') FROM (SELECT time FROM {}.{} LIMIT {COUNTED}) rows",
        p.schema,
        crate::table::identifier::quoted(name)
    );
    let row = match p.connection.query_one(&count, &[]).await.map_err(Failure::from) {
        Ok(row) => row,
        Err(failure) if failure.sqlstate.as_deref() == Some("42501") => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    let (rows, near): (i64, i64) = (row.get(0), row.get(1));
    let at_least = if rows == COUNTED { "at least " } else { "" };
    Ok(match (rows, near) {
        (0, _) => Vec::new(),
        (_, 0) => vec![ok(format!("{at_least}{rows} rows of far days are in the default partition"))],
        _ => vec![warning(format!(
            "{at_least}{near} rows of days near today are in {name}, so that those days cannot have partitions of \
             their own: move the rows out, or leave them where they can be read as well"
        ))],
    })
}

pub(super) async fn dead_letters(p: &Patient<'_>) -> Checked {
    if !p.has("dead_letters").await? {
        return Ok(vec![ok("there is no table yet to have any")]);
    }
    let select =
        format!("SELECT count(*) FROM (SELECT FROM {}.dead_letters LIMIT {COUNTED}) letters", p.schema);
    match p.connection.query_one(&select, &[]).await.map_err(Failure::from) {
        Ok(row) => Ok(vec![match row.get::<_, i64>(0) {
            0 => ok("none"),
            count => {
                let at_least = if count == COUNTED { "at least " } else { "" };
                let what = "look at them with `forebay dead-letters list`, and retry or purge them";
                warning(format!(
                    "{at_least}{count} in {}.dead_letters, refused for their content: {what}",
                    p.schema
                ))
            }
        }]),
        Err(failure) if failure.sqlstate.as_deref() == Some("42501") => Ok(vec![ok(
            "cannot be counted: the role may not SELECT them, which forebay does not need to write",
        )]),
        Err(failure) => Err(failure),
    }
}

/// What SQL can say of the disk: what is used. What is free, the server tells nobody.
pub(super) async fn disk(p: &Patient<'_>) -> Checked {
    let select = format!(
        "SELECT pg_size_pretty(pg_database_size(current_database())), \
         pg_size_pretty(coalesce((SELECT sum(pg_total_relation_size(oid)) FROM ({PARTITIONS}) p), 0)), \
         has_function_privilege('pg_ls_waldir()', 'EXECUTE')"
    );
    let row = p.connection.query_one(&select, &[&p.schema.name()]).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_day_matters_as_far_as_its_rows_have_no_place() {
        let judge = |days: &[&str], today, default| {
            let days: Vec<_> = days.iter().map(|&day| day.to_owned()).collect();
            judge_days(&days, today, default, true)[0].0
        };
        assert_eq!(judge(&[], false, false), Verdict::Ok);
        assert_eq!(judge(&["2026-11-25"], true, true), Verdict::Warning);
        assert_eq!(judge(&["2026-11-26"], false, false), Verdict::Warning);
        assert_eq!(judge(&["2026-11-25"], true, false), Verdict::Problem);
    }
}
