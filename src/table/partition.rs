//! The partitions of `log_records`: their widths, their names, and the statements that create them.
//!
//! A partition holds a day or an hour, in UTC. The widths can be mixed: an hour is in one day, and a day that has partitions for
//! some of its hours can get the others.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::ddl::LOG_RECORDS;
use super::identifier::{Schema, quoted};
use super::index::Index;

/// The width of a partition.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Width {
    /// A day.
    #[default]
    Day,
    /// An hour.
    Hour,
}

/// The range of time of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    /// Its begin, in seconds since 1970.
    start: i64,
    width: Width,
}

const NANOS: u64 = 1_000_000_000;

impl Width {
    /// Its length in seconds.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Day => 86_400,
            Self::Hour => 3_600,
        }
    }

    /// Its unit, in the plural.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Day => "days",
            Self::Hour => "hours",
        }
    }
}

impl Period {
    /// The period that contains the second `seconds` after 1970.
    pub fn at(seconds: i64, width: Width) -> Self {
        Self { start: seconds - seconds.rem_euclid(width.seconds()), width }
    }

    /// The period that contains this time, and its range, in nanoseconds since 1970.
    pub(super) fn of_nanos(unix_nano: u64, width: Width) -> (Self, std::ops::Range<u64>) {
        let length = width.seconds() as u64 * NANOS;
        let start = unix_nano - unix_nano % length;
        let period = Self { start: (start / NANOS) as i64, width };
        (period, start..start.saturating_add(length))
    }

    /// Its begin, in seconds since 1970.
    pub fn start(self) -> i64 {
        self.start
    }

    /// Its width.
    pub fn width(self) -> Width {
        self.width
    }

    /// The begin of the next period.
    pub fn end(self) -> i64 {
        self.start + self.width.seconds()
    }

    /// The period `count` periods later.
    #[must_use]
    pub fn later(self, count: i64) -> Self {
        Self { start: self.start + count * self.width.seconds(), ..self }
    }

    /// The partitions to create so that this period is covered, given the existing ranges `there`: itself if nothing overlaps it.
    /// A day with partitions for some hours gets the other hours. An hour that any partition overlaps needs none.
    pub fn missing(self, there: &[(i64, i64)]) -> Vec<Self> {
        let free = |period: &Self| !there.iter().any(|(from, to)| *from < period.end() && period.start < *to);
        match self.width {
            _ if free(&self) => vec![self],
            Width::Day => {
                let first = Self { width: Width::Hour, ..self };
                (0..24).map(|hour| first.later(hour)).filter(free).collect()
            }
            Width::Hour => Vec::new(),
        }
    }

    /// The name of its partition, such as `log_records_20261123` or `log_records_20261123_13`.
    pub fn name(self) -> String {
        let suffix = match self.width {
            Width::Day => "%Y%m%d",
            Width::Hour => "%Y%m%d_%H",
        };
        format!("{LOG_RECORDS}_{}", utc(self.start).strftime(suffix))
    }

    /// The statements that create its table, with those of `indexes` that a partition has while it is written.
    ///
    /// The table is created on its own and then attached. Attaching does not block reads and writes of the parent, which
    /// `CREATE TABLE ... PARTITION OF` does (PostgreSQL manual, "Table Partitioning"). It needs the parent's constraints to be
    /// attached. An existing table of that name that is not attached was detached by somebody, and is an error. The replica
    /// identity allows changes of its rows by hand even if the table is in a publication.
    pub fn create_statements(self, schema: &Schema, indexes: &[Index]) -> String {
        let table = self.name();
        let kept = indexes.iter().filter(|index| index.is_kept_while_written());
        let indexes: String =
            kept.map(|index| format!(";\n{}", index.statement_for_new(schema, &table))).collect();
        let like = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING COMMENTS";
        format!(
            "CREATE TABLE {schema}.{0} (LIKE {schema}.{LOG_RECORDS} {like});\n\
             ALTER TABLE {schema}.{0} REPLICA IDENTITY FULL{indexes}",
            quoted(&table)
        )
    }

    /// The statement that moves the rows of this period from the table `default` into its table, by `columns`; both are quoted.
    pub fn move_statement(self, schema: &Schema, default: &str, columns: &str) -> String {
        let [from, to] = self.bounds();
        format!(
            "WITH moved AS (DELETE FROM {default} WHERE time >= '{from}' AND time < '{to}' RETURNING {columns}) \
             INSERT INTO {schema}.{} ({columns}) SELECT {columns} FROM moved",
            quoted(&self.name())
        )
    }

    /// The statement that selects `column` of the rows of this period in the table `default`; both are quoted.
    pub fn select_statement(self, default: &str, column: &str) -> String {
        let [from, to] = self.bounds();
        format!("SELECT {column} FROM {default} WHERE time >= '{from}' AND time < '{to}'")
    }

    /// The statement that attaches its table.
    pub fn attach_statement(self, schema: &Schema) -> String {
        let [from, to] = self.bounds();
        format!(
            "ALTER TABLE {schema}.{LOG_RECORDS} ATTACH PARTITION {schema}.{} FOR VALUES FROM ('{from}') TO ('{to}')",
            quoted(&self.name())
        )
    }

    fn bounds(self) -> [String; 2] {
        [self.start, self.end()].map(|seconds| utc(seconds).strftime("%Y-%m-%d %H:%M:%S+00").to_string())
    }
}

/// Such as `2026-11-23`, or `2026-11-23 13:00`.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.width {
            Width::Day => "%Y-%m-%d",
            Width::Hour => "%Y-%m-%d %H:%M",
        };
        write!(f, "{}", utc(self.start).strftime(form))
    }
}

fn utc(seconds: i64) -> jiff::civil::DateTime {
    // Times come from 64-bit nanoseconds, so they end in the year 2554.
    Timestamp::from_second(seconds).unwrap_or_default().to_zoned(TimeZone::UTC).datetime()
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    const DAY: i64 = 20_780 * 86_400;

    #[test]
    fn a_partition_holds_its_day_or_hour_in_utc() {
        let schema = Schema::new("otel");
        let day = Period::at(DAY + 13 * 3600 + 59, Width::Day);
        assert_eq!(day.name(), "log_records_20261123");
        let sql = day.create_statements(&schema, Index::VARIANTS);
        assert_eq!(sql.matches("CREATE INDEX").count(), 1, "{sql}");
        let sql = day.attach_statement(&schema);
        assert!(sql.contains("FROM ('2026-11-23 00:00:00+00') TO ('2026-11-24 00:00:00+00')"), "{sql}");
        let hour = Period::at(DAY + 23 * 3600 + 59, Width::Hour);
        assert_eq!(hour.name(), "log_records_20261123_23");
        let sql = hour.create_statements(&schema, &[]);
        assert!(!sql.contains("CREATE INDEX"), "{sql}");
        let sql = hour.attach_statement(&schema);
        assert!(sql.contains("FROM ('2026-11-23 23:00:00+00') TO ('2026-11-24 00:00:00+00')"), "{sql}");
        let (last, range) = Period::of_nanos(u64::MAX, Width::Day);
        assert_eq!(last.name(), "log_records_25540721");
        assert_eq!(range.end, u64::MAX);
    }

    #[test]
    fn a_day_that_was_begun_by_hours_is_ended_by_hours() {
        let (day, hour) = (Period::at(DAY, Width::Day), Period::at(DAY, Width::Hour));
        assert_eq!(day.missing(&[]), [day]);
        assert_eq!(
            day.missing(&[(DAY - 86_400, DAY), (day.end(), i64::MAX)]),
            [day],
            "neighbours are no matter"
        );
        let from_ten: Vec<_> = (10..24).map(|n| (hour.later(n).start(), hour.later(n).end())).collect();
        assert_eq!(day.missing(&from_ten), (0..10).map(|n| hour.later(n)).collect::<Vec<_>>());
        assert_eq!(day.missing(&[(DAY, day.end())]), []);
        assert_eq!(hour.later(5).missing(&[(DAY, day.end())]), [], "the day has it");
        assert_eq!(day.missing(&[(DAY + 1800, DAY + 5400)]).len(), 22, "somebody's own");
        assert_eq!(hour.missing(&[(DAY + 1800, DAY + 5400)]), []);
    }
}
