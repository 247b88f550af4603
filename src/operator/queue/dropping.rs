//! Drops records that wait.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::Outcome;
use super::settled::Settled;
use super::show::Sums;
use crate::buffer::disk::view::{Part, View};
use crate::buffer::disk::{DirectoryError, Positions};
use crate::operator::command_error::CommandError;
use crate::values::plain::plain;
use crate::values::when::unix_nanos;

/// The view of a directory that no forebay uses.
pub(super) fn lock(directory: &Path) -> Result<View, CommandError> {
    View::lock(directory).map_err(|error| match error {
        DirectoryError::Locked(path) => CommandError::InUse(path),
        error => error.into(),
    })
}

/// Drops the records of `view` that are not `settled`, or says how many it would drop.
pub(super) fn drop_records(
    view: View,
    settled: &Settled,
    older_than: Option<Duration>,
    unreadable: bool,
    confirmed: bool,
    out: &mut dyn Write,
) -> Result<Outcome, CommandError> {
    let limit = older_than.map(before);
    let (mut dropped, mut sums) = (Positions::default(), Sums::default());
    let (mut damaged, mut kept) = (0, 0);
    view.read(&settled.positions, |part| {
        match part {
            Part::Rows { segment, rows, range, first, time } => {
                let records = range.len() as u64;
                if limit.is_some_and(|limit| time >= limit) {
                    kept += records;
                } else {
                    dropped.insert(segment.run, first..first + records);
                    sums.add(&rows.tally(range));
                }
            }
            Part::Damaged { segment, numbers, .. } => {
                damaged += numbers.end - numbers.start;
                if unreadable {
                    dropped.insert(segment.run, numbers);
                }
            }
            Part::Torn { .. } => {}
        }
        Ok::<_, CommandError>(())
    })?;
    let closed = view.segments().iter().filter(|segment| segment.about.is_err()).count();
    let severities = if sums.total() > 0 { format!(" ({})", sums.severities()) } else { String::new() };
    let records = sums.total();
    writeln!(out, "{}", plain(&settled.source.to_string()))?;
    let stay = |unread: String| {
        if unreadable { format!(", and {unread}") } else { format!("; {unread} would go with --unreadable") }
    };
    let mut others = String::new();
    if damaged > 0 {
        others += &stay(format!("{damaged} damaged records"));
    }
    if closed > 0 {
        others += &stay(format!("{closed} segments that this version cannot read"));
    }
    if kept > 0 {
        others += &format!("; {kept} newer records stay");
    }
    if !confirmed {
        writeln!(out, "{records} records{severities} would be dropped{others}; nothing is without --yes")?;
        return Ok(Outcome::Unconfirmed);
    }
    let segments = view.drop_records(&dropped, unreadable)?;
    writeln!(out, "{records} records{severities} dropped, {segments} segments deleted{others}")?;
    Ok(Outcome::Done)
}

/// The time that was so long ago, in nanoseconds since 1970.
fn before(span: Duration) -> u64 {
    (unix_nanos() as u64).saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}
