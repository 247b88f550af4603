//! How much waits in the queue.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Outcome;
use super::settled::Settled;
use crate::buffer::disk::files::Directory;
use crate::buffer::disk::view::{Part, View, quarantined};
use crate::operator::command_error::CommandError;
use crate::table::{SeverityCounts, Tally};
use crate::values::duration::GoDuration;
use crate::values::plain::{plain, plain_json};
use crate::values::size::ByteSize;

/// Numbers of records by service and severity.
#[derive(Default)]
pub(super) struct Sums {
    by_service: BTreeMap<Option<String>, SeverityCounts>,
}

/// The answer of `show`.
#[derive(Serialize)]
struct Summary<'a> {
    directory: &'a Path,
    in_use: bool,
    records: usize,
    /// When the oldest and the newest of them were accepted.
    #[serde(skip)]
    times: Option<[Timestamp; 2]>,
    oldest: Option<String>,
    newest: Option<String>,
    services: Vec<Service>,
    /// Records that wait and cannot be read.
    damaged: u64,
    segments: usize,
    bytes: u64,
    unreadable: Vec<Unreadable<'a>>,
    quarantine: Quarantine,
    stored_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_error: Option<&'a str>,
}

#[derive(Serialize)]
struct Service {
    service: Option<String>,
    records: usize,
    severities: Map<String, Value>,
    #[serde(skip)]
    words: String,
}

/// A segment that this version cannot read.
#[derive(Serialize)]
struct Unreadable<'a> {
    segment: &'a str,
    bytes: u64,
    reason: String,
}

/// Damaged bytes that were put aside.
#[derive(Serialize)]
struct Quarantine {
    files: u64,
    bytes: u64,
}

/// Shows the records of `view` that are not `settled`.
pub(super) fn show(
    directory: &Path,
    view: &View,
    settled: &Settled,
    json: bool,
    out: &mut dyn Write,
) -> Result<Outcome, CommandError> {
    let (mut sums, mut damaged) = (Sums::default(), 0);
    let mut times: Option<(u64, u64)> = None;
    view.read(&settled.positions, |part| {
        match part {
            Part::Rows { rows, range, time, .. } => {
                sums.add(&rows.tally(range));
                let (oldest, newest) = times.unwrap_or((time, time));
                times = Some((oldest.min(time), newest.max(time)));
            }
            Part::Damaged { numbers, .. } => damaged += numbers.end - numbers.start,
            Part::Torn { .. } => {}
        }
        Ok::<_, CommandError>(())
    })?;
    let times = times.and_then(|(oldest, newest)| Some([at(oldest)?, at(newest)?]));
    let unreadable = view.segments().iter().filter_map(|segment| {
        let reason = segment.about.as_ref().err()?.to_string();
        Some(Unreadable { segment: &segment.name, bytes: segment.bytes, reason })
    });
    let (files, bytes) = quarantined(directory);
    let summary = Summary {
        directory,
        in_use: Directory::is_in_use(directory),
        records: sums.total(),
        times,
        oldest: times.map(|[oldest, _]| oldest.to_string()),
        newest: times.map(|[_, newest]| newest.to_string()),
        services: sums.services(),
        damaged,
        segments: view.segments().len(),
        bytes: view.segments().iter().map(|segment| segment.bytes).sum(),
        unreadable: unreadable.collect(),
        quarantine: Quarantine { files, bytes },
        stored_by: settled.source.name(),
        store_error: settled.source.why(),
    };
    if json {
        let json = serde_json::to_string(&summary).map_err(std::io::Error::from)?;
        writeln!(out, "{}", plain_json(&json))?;
    } else {
        writeln!(out, "{}{}", summary.lines(), plain(&settled.source.to_string()))?;
    }
    Ok(Outcome::Done)
}

impl Sums {
    pub(super) fn add(&mut self, tally: &Tally) {
        for (service, counts) in tally.by_service().filter(|(_, counts)| counts.total() > 0) {
            *self.by_service.entry(service.map(str::to_owned)).or_default() += *counts;
        }
    }

    pub(super) fn total(&self) -> usize {
        self.by_service.values().map(SeverityCounts::total).sum()
    }

    /// All services together, in words.
    pub(super) fn severities(&self) -> String {
        let mut all = SeverityCounts::default();
        self.by_service.values().for_each(|counts| all += *counts);
        words(&all)
    }

    /// The services, the one with the most records first.
    fn services(self) -> Vec<Service> {
        let service = |(service, counts): (Option<String>, SeverityCounts)| {
            let severities = named(&counts).map(|(name, records)| (name.to_owned(), records.into()));
            let (records, severities) = (counts.total(), severities.collect());
            Service { service, records, severities, words: words(&counts) }
        };
        let mut services: Vec<_> = self.by_service.into_iter().map(service).collect();
        services.sort_by_key(|service| std::cmp::Reverse(service.records));
        services
    }
}

impl Summary<'_> {
    fn lines(&self) -> String {
        let user = if self.in_use { "a forebay uses it" } else { "no forebay uses it" };
        let mut lines = vec![
            format!("{}: {user}", self.directory.display()),
            format!(
                "{} records wait; {} segments with {}, which are kept for a while after their records are stored",
                self.records,
                self.segments,
                ByteSize(self.bytes).rounded()
            ),
        ];
        if let Some([oldest, newest]) = self.times {
            lines.push(format!("accepted from {} to {}", when(oldest), when(newest)));
        }
        for Service { service, records, words, .. } in &self.services {
            let service = service.as_deref().map_or("(no service)".to_owned(), plain);
            lines.push(format!("  {service:<30} {records:>10}  {words}"));
        }
        if self.damaged > 0 {
            lines.push(format!("{} more are damaged; `forebay queue check` says where", self.damaged));
        }
        for Unreadable { segment, bytes, reason } in &self.unreadable {
            lines.push(format!("{segment} ({}) cannot be read: {reason}", ByteSize(*bytes).rounded()));
        }
        let Quarantine { files, bytes } = self.quarantine;
        if files > 0 {
            let size = ByteSize(bytes).rounded();
            lines.push(format!("quarantine: {files} files with {size} of damaged records"));
        }
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

/// The numbers of each severity, as people read them.
fn words(counts: &SeverityCounts) -> String {
    named(counts).map(|(name, records)| format!("{records} {name}")).collect::<Vec<_>>().join(", ")
}

/// The severities that there are, with their names and numbers.
fn named(counts: &SeverityCounts) -> impl Iterator<Item = (&'static str, usize)> {
    let some = counts.iter().filter(|(_, records)| *records > 0);
    some.map(|(severity, records)| (severity.name().unwrap_or("UNSPECIFIED"), records))
}

/// A time in nanoseconds since 1970.
fn at(nanos: u64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(nanos)).ok()
}

/// `time`, and how long ago that is.
fn when(time: Timestamp) -> String {
    let ago = Timestamp::now().duration_since(time).as_secs().max(0).unsigned_abs();
    let ago = GoDuration(std::time::Duration::from_secs(ago));
    format!("{} ({ago} ago)", time.strftime("%Y-%m-%dT%H:%M:%SZ"))
}
