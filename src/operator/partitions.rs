//! The partitions with their sizes, and what happens to each next, for the command line.

use std::collections::HashSet;
use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;
use strum::VariantArray as _;

use crate::operator::command_error::CommandError;
use crate::postgres::dsn::Target;
use crate::postgres::pool::Pool;
use crate::postgres::session::Connection;
use crate::store::Config;
use crate::store::partitions::beside;
use crate::store::partitions::catalogue::{PartitionState, partition_states};
use crate::store::partitions::retention::{RetentionReason, due, is_closed};
use crate::store::partitions::steps::{Step, lacks};
use crate::table::identifier::Schema;
use crate::table::index::Index;
use crate::values::plain::{plain, plain_json};
use crate::values::size::ByteSize;

/// One partition as it is shown.
#[derive(Debug, PartialEq, Serialize)]
struct Shown {
    partition: String,
    from: Option<String>,
    until: Option<String>,
    /// PostgreSQL's estimate, if it has one.
    rows_estimated: Option<i64>,
    table_bytes: u64,
    index_bytes: u64,
    indexes: Vec<&'static str>,
    /// Configured indexes that are missing.
    missing: Vec<&'static str>,
    /// Invalid indexes that a build has left.
    invalid: Vec<&'static str>,
    next: String,
}

#[derive(Debug, Default, Serialize)]
struct Total {
    partitions: usize,
    rows_estimated: i64,
    table_bytes: u64,
    index_bytes: u64,
}

/// Shows the partitions of the store at `target`, the oldest first: a line for each, for people or as JSON, and the total.
///
/// # Errors
///
/// If the store cannot be reached or denies access.
pub async fn show(
    target: Target,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let (pool, schema) = (Pool::new(target, 1, config.timeout)?, Schema::new(config.schema.clone()));
    let ask = async |c: &Connection| {
        let beside = beside::bytes(c, &schema, config.retention.share()).await?;
        Ok((partition_states(c, &schema).await?, beside))
    };
    let ((seen, now), beside) = pool.session(config.timeout, ask).await?;
    let mut total = Total::default();
    if !json {
        writeln!(out, "{}", line(["partition", "rows", "table", "indexes", "has", "next"]))?;
    }
    for state in &seen {
        total.add(state);
        let shown = Shown::of(state, &seen, beside, config, now);
        let text = if json {
            plain_json(&serde_json::to_string(&shown).map_err(std::io::Error::from)?)
        } else {
            plain(&shown.line())
        };
        writeln!(out, "{text}")?;
    }
    if json {
        writeln!(out, "{}", serde_json::json!({ "total": total }))?;
    } else {
        writeln!(out, "{}", total.line())?;
    }
    Ok(())
}

impl Shown {
    fn of(state: &PartitionState, seen: &[PartitionState], beside: u64, config: &Config, now: i64) -> Self {
        let named = |names: &[String]| -> Vec<&'static str> {
            let of = |index: &&Index| names.contains(&index.name(&state.partition.name));
            Index::VARIANTS.iter().filter(of).map(<&str>::from).collect()
        };
        let (indexes, invalid) = (named(&state.valid), named(&state.invalid));
        let lacking = lacks(state, config, now);
        let missing = lacking.filter_map(|step| match step {
            Step::Build(index) => Some(<&str>::from(index)).filter(|label| !invalid.contains(label)),
            Step::Count | Step::Finish => None,
        });
        let end = |seconds| Timestamp::from_second(seconds).ok().map(|time| time.to_string());
        Self {
            partition: state.partition.name.clone(),
            from: state.partition.range.and_then(|(from, _)| end(from)),
            until: state.partition.range.and_then(|(_, until)| end(until)),
            rows_estimated: state.rows,
            table_bytes: state.table_bytes,
            index_bytes: state.index_bytes,
            missing: missing.collect(),
            indexes,
            invalid,
            next: next(state, seen, beside, config, now),
        }
    }

    fn line(&self) -> String {
        let mut has = self.indexes.join(" ");
        for (what, names) in [("no", &self.missing), ("invalid:", &self.invalid)] {
            if !names.is_empty() {
                let comma = if has.is_empty() { "" } else { ", " };
                has.push_str(&format!("{comma}{what} {}", names.join(" ")));
            }
        }
        let rows = self.rows_estimated.map_or("?".to_owned(), |rows| format!("~{rows}"));
        let sizes = [self.table_bytes, self.index_bytes].map(|bytes| ByteSize(bytes).rounded());
        line([&self.partition, &rows, &sizes[0], &sizes[1], &has, &self.next])
    }
}

impl Total {
    fn add(&mut self, state: &PartitionState) {
        self.partitions += 1;
        self.rows_estimated += state.rows.unwrap_or_default();
        self.table_bytes += state.table_bytes;
        self.index_bytes += state.index_bytes;
    }

    fn line(&self) -> String {
        let all = format!("{} partitions", self.partitions);
        let sizes = [self.table_bytes, self.index_bytes].map(|bytes| ByteSize(bytes).rounded());
        let sum = ByteSize(self.table_bytes + self.index_bytes).rounded();
        line([&all, &format!("~{}", self.rows_estimated), &sizes[0], &sizes[1], "", &format!("{sum} in all")])
    }
}

fn line([partition, rows, table, indexes, has, next]: [&str; 6]) -> String {
    format!("{partition:<26} {rows:>12} {table:>10} {indexes:>10}  {has:<28} {next}")
}

/// The next event for a partition, in words.
fn next(state: &PartitionState, seen: &[PartitionState], beside: u64, config: &Config, now: i64) -> String {
    let policy = &config.retention;
    let Some(range) = state.partition.range else { return next_of_default(state, config) };
    if !state.partition.is_table {
        return "left alone: it is no table".to_owned();
    }
    if range.0 > now {
        return "ahead".to_owned();
    }
    if !is_closed(range, now) {
        return "being written".to_owned();
    }
    let is_it = |(first, _): &(&PartitionState, RetentionReason)| first.partition.oid == state.partition.oid;
    if policy.is_past(range.1, now) {
        return "dropped next by max_age".to_owned();
    }
    if due(seen, beside, policy, now, false, &HashSet::new()).filter(is_it).is_some() {
        return "dropped next by max_size".to_owned();
    }
    match lacks(state, config, now).next() {
        Some(Step::Build(index)) => return format!("indexes: {} next", <&str>::from(index)),
        Some(Step::Count) => return "counting next".to_owned(),
        Some(Step::Finish) => return "vacuum next".to_owned(),
        None => {}
    }
    if !policy.max_age.0.is_zero() {
        let end = Timestamp::from_second(range.1 + policy.max_age.0.as_secs() as i64).unwrap_or_default();
        return format!("dropped on {} by max_age", end.strftime("%Y-%m-%d %H:%M"));
    }
    if policy.max_size.0 > 0 {
        return format!("kept while all take no more than {}", policy.max_size);
    }
    "kept".to_owned()
}

fn next_of_default(state: &PartitionState, config: &Config) -> String {
    let policy = &config.retention;
    if state.rows == Some(0) {
        "empty, as it should be".to_owned()
    } else if policy.max_size.0 > 0 && state.bytes() > policy.share() {
        "WARNING: emptied next: its rows, of times out of reach, take more than a tenth of max_size"
            .to_owned()
    } else if policy.max_age.0.is_zero() {
        "WARNING: kept: its rows were of times without a partition".to_owned()
    } else {
        "WARNING: its rows were of times without a partition; each goes by max_age".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::partitions::catalogue::Partition;
    use crate::table::counts::Counts;
    use crate::values::duration::GoDuration;

    const DAY: i64 = 86_400;
    const NOW: i64 = 100 * DAY + DAY / 2;

    fn day(number: i64) -> PartitionState {
        let range = Some((number * DAY, (number + 1) * DAY));
        let name = format!("p{number}");
        let partition = Partition { oid: number as u32, name, range, is_table: true, ..Partition::default() };
        let valid = Index::VARIANTS.iter().map(|index| index.name(&partition.name)).collect();
        let counts = Counts::Done(String::new());
        PartitionState {
            partition,
            valid,
            is_settled: true,
            counts,
            table_bytes: 10,
            ..PartitionState::default()
        }
    }

    #[test]
    fn each_partition_has_its_future() {
        let mut config = Config::default();
        let next = |state: &PartitionState, config: &Config| {
            next(state, &[day(90), state.clone(), day(100)], 0, config, NOW)
        };
        assert_eq!(next(&day(101), &config), "ahead");
        assert_eq!(next(&day(100), &config), "being written");
        assert_eq!(next(&day(97), &config), "kept");
        let bare = PartitionState { valid: vec![Index::Errors.name("p97")], ..day(97) };
        assert_eq!(next(&bare, &config), "indexes: service next");
        assert_eq!(next(&PartitionState { counts: Counts::None, ..day(97) }, &config), "counting next");
        assert_eq!(next(&PartitionState { is_settled: false, ..day(97) }, &config), "vacuum next");
        config.retention.max_age = GoDuration(Duration::from_secs(3 * DAY as u64));
        assert_eq!(next(&day(97), &config), "dropped on 1970-04-12 00:00 by max_age");
        assert_eq!(next(&day(96), &config), "dropped next by max_age");
        config.retention.max_age = GoDuration::default();
        config.retention.max_size = ByteSize(25);
        assert_eq!(next(&day(97), &config), "kept while all take no more than 25");
        assert_eq!(next(&day(90), &config), "dropped next by max_size");
        let default =
            PartitionState { partition: Partition::default(), rows: Some(0), ..PartitionState::default() };
        assert_eq!(next(&default, &config), "empty, as it should be");
        assert!(next(&PartitionState { rows: None, ..default }, &config).starts_with("WARNING"));
    }
}
