//! The partitions: whether what is about to be written has one, what can be dropped, and what can be indexed.

use super::store::COUNTED;
use super::{Checked, Patient, Verdict, ok, problem, warning};
use crate::postgres::error::Failure;
use crate::store::partitions::catalogue::{PartitionState, partition_states, partitions, ranges};
use crate::store::partitions::indexer::trigrams;
use crate::store::partitions::retention::is_closed;
use crate::store::partitions::steps::{Step, lacks};
use crate::store::partitions::{ahead, back, now, periods_ahead};
use crate::table::ddl::LOG_RECORDS;
use crate::table::partition::Width;

pub(super) async fn check(p: &Patient<'_>) -> Checked {
    if !p.has(LOG_RECORDS).await? {
        return Ok(vec![ok("there is no table yet to have any")]);
    }
    let there = partitions(p.connection, &p.schema).await?;
    let ranges = ranges(&there);
    let wanted = periods_ahead(p.config.partition, now());
    let lacking: Vec<_> = wanted.map(|period| (period, !period.missing(&ranges).is_empty())).collect();
    let current = lacking.first().is_some_and(|(_, lacks)| *lacks);
    let missing: Vec<_> =
        lacking.iter().filter(|(_, lacks)| *lacks).map(|(period, _)| period.to_string()).collect();
    let default = there.iter().find(|partition| partition.range.is_none());
    let mut found = judge(&missing, current, default.is_some(), p.config.partition, p.config.create_schema);
    match default {
        Some(default) => found.extend(default_rows(p, &default.qualified, &default.name).await?),
        None => found.push(problem(format!(
            "there is no default partition, so that a record of a time without a partition stops its batch: \
             CREATE TABLE {0}.log_records_default PARTITION OF {0}.log_records DEFAULT",
            p.schema
        ))),
    }
    Ok(found)
}

/// `current` is whether the period of now is among the `missing`.
fn judge(
    missing: &[String],
    current: bool,
    default: bool,
    width: Width,
    create: bool,
) -> Vec<(Verdict, String)> {
    if missing.is_empty() {
        let this = match width {
            Width::Day => "today",
            Width::Hour => "this hour",
        };
        return vec![ok(format!("{this} and the next {} {} have theirs", ahead(width), width.plural()))];
    }
    let cure = if create {
        "forebay makes them while it runs"
    } else {
        "make them, or have create_schema: true do it"
    };
    let what = format!("missing for {}: {cure}", missing.join(", "));
    vec![if current && !default { problem(what) } else { warning(what) }]
}

/// Rows of times near now in the default partition are moved into partitions of their own by a forebay that runs.
async fn default_rows(p: &Patient<'_>, table: &str, name: &str) -> Checked {
    let (width, plural) = (p.config.partition, p.config.partition.plural());
    let count = format!(
        "SELECT count(*), count(*) FILTER (WHERE time BETWEEN now() - interval '{} {plural}' AND \
         now() + interval '{} {plural}') FROM (SELECT time FROM {table} LIMIT {COUNTED}) rows",
        back(width),
        ahead(width)
    );
    let Some(row) = p.readable(&count).await? else { return Ok(Vec::new()) };
    let (rows, near): (i64, i64) = (row.get(0), row.get(1));
    let at_least = if rows == COUNTED { "at least " } else { "" };
    Ok(match (rows, near) {
        (0, _) => Vec::new(),
        (_, 0) => vec![ok(format!("{at_least}{rows} rows of far {plural} are in the default partition"))],
        _ => vec![warning(format!(
            "{at_least}{near} rows of {plural} near now are in {name}; a forebay that runs moves them into \
             partitions of their own within the hour, or its log says why it cannot"
        ))],
    })
}

/// Only the owner of a table can drop it.
pub(super) async fn retention(p: &Patient<'_>) -> Checked {
    let policy = &p.config.retention;
    if !policy.drops() && !policy.drop_when_disk_is_full {
        return Ok(vec![ok(
            "none: every partition is kept, for which exporters.postgres.retention has the limits",
        )]);
    }
    let foreign = not_owned(p).await?;
    if !foreign.is_empty() {
        let (role, _) = p.role().await?;
        let cures = foreign.iter().map(|table| format!("ALTER TABLE {table} OWNER TO {role}"));
        let cures: Vec<_> = cures.collect();
        return Ok(vec![warning(format!("role {role} cannot drop what is due: {}", cures.join("; ")))]);
    }
    let age = if policy.max_age.0.is_zero() { "any age".to_owned() } else { policy.max_age.to_string() };
    let size = if policy.max_size.0 == 0 { "any size".to_owned() } else { policy.max_size.to_string() };
    let full = if policy.drop_when_disk_is_full { ", and less when the disk is full" } else { "" };
    Ok(vec![ok(format!("partitions are kept for {age} and {size}{full}; the role can drop them"))])
}

/// Which closed partitions have yet to get their indexes, and whether they can.
pub(super) async fn indexes(p: &Patient<'_>) -> Checked {
    let wanted = &p.config.indexes;
    if !p.config.create_schema || wanted.is_empty() {
        return Ok(vec![ok("none are built: create_schema is false, or exporters.postgres.indexes is []")]);
    }
    let mut found = Vec::new();
    if wanted.iter().any(|index| index.needs_trigrams()) && trigrams(p.connection).await?.is_none() {
        found.push(warning("the index body cannot be built: CREATE EXTENSION pg_trgm"));
    }
    let (seen, now) = partition_states(p.connection, &p.schema).await?;
    let closed = |state: &&PartitionState| {
        state.partition.is_table && state.partition.range.is_some_and(|range| is_closed(range, now))
    };
    let lacking =
        |state: &&PartitionState| lacks(state, p.config, now).any(|step| matches!(step, Step::Build(_)));
    let (all, lacking) =
        (seen.iter().filter(closed).count(), seen.iter().filter(closed).filter(lacking).count());
    found.push(ok(match lacking {
        0 => format!("all of {all} closed partitions have them"),
        _ => format!(
            "{lacking} of {all} closed partitions have yet to get some; forebay builds them while it runs"
        ),
    }));
    Ok(found)
}

/// The partitions, quoted, that belong to a role which forebay's is no member of.
async fn not_owned(p: &Patient<'_>) -> Result<Vec<String>, Failure> {
    let there = partitions(p.connection, &p.schema).await?;
    let oids: Vec<_> =
        there.iter().filter(|partition| partition.is_table).map(|partition| partition.oid).collect();
    let select =
        "SELECT oid FROM pg_class WHERE oid = ANY ($1::oid[]) AND NOT pg_has_role(relowner, 'USAGE')";
    let foreign: Vec<u32> =
        p.connection.query(select, &[&oids]).await?.iter().map(|row| row.get(0)).collect();
    let is_foreign = there.iter().filter(|partition| foreign.contains(&partition.oid));
    Ok(is_foreign.map(|partition| partition.qualified.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_day_matters_as_far_as_its_rows_have_no_place() {
        let judge = |days: &[&str], today, default| {
            let days: Vec<_> = days.iter().map(|&day| day.to_owned()).collect();
            judge(&days, today, default, Width::Day, true)[0].0
        };
        assert_eq!(judge(&[], false, false), Verdict::Ok);
        assert_eq!(judge(&["2026-11-25"], true, true), Verdict::Warning);
        assert_eq!(judge(&["2026-11-26"], false, false), Verdict::Warning);
        assert_eq!(judge(&["2026-11-25"], true, false), Verdict::Problem);
    }
}
