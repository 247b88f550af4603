//! The partitions: whether what is about to be written has one.

use super::store::COUNTED;
use super::{Checked, Patient, Verdict, ok, problem, warning};
use crate::exporter::error::Failure;
use crate::exporter::partitions::catalogue::{partitions, ranges};
use crate::exporter::partitions::{ahead, back, now, periods_ahead};
use crate::table::ddl::LOG_RECORDS;
use crate::table::partition::Width;

pub(super) async fn check(p: &Patient<'_>) -> Checked {
    if !p.has(LOG_RECORDS).await? {
        return Ok(vec![ok("there is no table yet to have any")]);
    }
    let there = partitions(&p.connection, &p.schema).await?;
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

/// Rows of times near now in the default partition keep those times from a partition of their own.
async fn default_rows(p: &Patient<'_>, table: &str, name: &str) -> Checked {
    let (width, plural) = (p.config.partition, p.config.partition.plural());
    let count = format!(
        "SELECT count(*), count(*) FILTER (WHERE time BETWEEN now() - interval '{} {plural}' AND \
         now() + interval '{} {plural}') FROM (SELECT time FROM {table} LIMIT {COUNTED}) rows",
        back(width),
        ahead(width)
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
        (_, 0) => vec![ok(format!("{at_least}{rows} rows of far {plural} are in the default partition"))],
        _ => vec![warning(format!(
            "{at_least}{near} rows of {plural} near now are in {name}, so that those {plural} cannot have partitions \
             of their own: move the rows out, or leave them where they can be read as well"
        ))],
    })
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
