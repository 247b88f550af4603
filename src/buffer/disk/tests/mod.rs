//! The durable queue on a simulated disk, which is cut off and fails.

mod cuts;
mod damage;
mod faults;
mod reading;
mod running;
mod sharing;
mod writing;

use std::sync::{Arc, OnceLock};

use prost::Message as _;

use super::cursor::{Cursor, Found};
use super::files::Files;
use super::log::{Log, Settings};
use super::segment::Segment;
use super::simulated::Simulated;
use crate::otlp::Limits;
use crate::otlp::messages::any_value::Value;
use crate::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord, Resource, ResourceLogs,
    ScopeLogs,
};
use crate::table::partition::Width;
use crate::table::{RowFormat, Rows, Space, Transcoder};
use crate::values::positions::Run;

/// The rows of a request, and what describes them on the disk.
struct Sample {
    rows: Rows,
    described: Vec<u8>,
}

/// A record's position.
type Key = (Run, u64);

/// Requests of 1 to 80 records, one of them larger than a segment of these tests.
fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut random = fastrand::Rng::with_seed(7);
        (0..48)
            .map(|at| {
                let records = [1, 1, 1, 2, 3, 8, 20][at % 7];
                let records = if at == 20 { 80 } else { records };
                sample(&request_of(at, records, &mut random))
            })
            .collect()
    })
}

fn sample(request: &ExportLogsServiceRequest) -> Sample {
    let bytes = request.encode_to_vec();
    let transcoder = Transcoder::new(Width::Hour, None, Limits::default());
    let rows = transcoder.transcode(&bytes, usize::MAX, 1, &mut Space::unlimited()).unwrap().rows;
    let mut described = Vec::new();
    rows.describe(&mut described);
    Sample { rows, described }
}

/// A request of several resources, scopes, hours and severities.
fn request_of(name: usize, records: usize, random: &mut fastrand::Rng) -> ExportLogsServiceRequest {
    let text = |text: String| Some(AnyValue { value: Some(Value::StringValue(text)) });
    let record = |at: usize, random: &mut fastrand::Rng| LogRecord {
        time_unix_nano: 1_790_000_000_000_000_000 + random.u64(0..20) * 3_600_000_000_000,
        severity_number: random.i32(0..25),
        body: text(format!("record {at} of {name} {}", "x".repeat(random.usize(0..250)))),
        ..LogRecord::default()
    };
    let mut resources = Vec::new();
    for at in 0..records {
        if at == 0 || (at < 4 && random.bool()) {
            let service = format!("service {}", random.u8(0..5));
            let attributes = vec![KeyValue { key: "service.name".into(), value: text(service) }];
            let scope =
                InstrumentationScope { name: format!("scope {at}"), ..InstrumentationScope::default() };
            resources.push(ResourceLogs {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_logs: vec![ScopeLogs { scope: Some(scope), ..ScopeLogs::default() }],
                ..ResourceLogs::default()
            });
        }
        let within = &mut resources.last_mut().unwrap().scope_logs[0];
        within.log_records.push(record(at, random));
    }
    ExportLogsServiceRequest { resource_logs: resources }
}

fn settings(segment_bytes: u64) -> Settings {
    static FORMAT: OnceLock<Arc<RowFormat>> = OnceLock::new();
    let format = FORMAT.get_or_init(|| {
        let columns = [("time", "timestamptz"), ("body", "text")];
        let columns = columns.map(|(name, kind)| (name.to_owned(), kind.to_owned())).to_vec();
        Arc::new(RowFormat { destination: None, columns })
    });
    Settings { segment_bytes, format: format.clone() }
}

/// All that is read of some segments.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// The position of the first record of each request, and its sample.
    requests: Vec<(Key, usize)>,
    /// Positions that are not there, or damaged.
    lost: Vec<(Run, std::ops::Range<u64>)>,
    damaged: usize,
}

/// Reads `segments` to their ends, in the order of their positions. All rows are those of samples.
fn read<F: Files>(files: &F, segments: &[Segment]) -> Read {
    let mut read = Read::default();
    for segment in segments.iter().filter(|segment| segment.about.is_ok()) {
        assert_eq!(segment.format.as_ref(), Some(&settings(0).format));
        let mut cursor = Cursor::open(files, segment).unwrap();
        let mut number = segment.first;
        while number < segment.end {
            let (from, until) = match cursor.find(number).unwrap() {
                Found::Entry { first, rows } if first < segment.end => {
                    assert!(first >= number, "the cursor reads on");
                    read.requests.push(((segment.run, first), sample_of(&rows)));
                    (first, first + rows.len() as u64)
                }
                Found::Damaged { numbers, is_kept } => {
                    assert!(is_kept && numbers.start == number);
                    read.damaged += 1;
                    let end = numbers.end.min(segment.end);
                    (end, end)
                }
                _ => (segment.end, segment.end),
            };
            if from > number {
                read.lost.push((segment.run, number..from));
            }
            number = until;
        }
    }
    read
}

/// The number of the sample that `rows` are, byte for byte.
fn sample_of(rows: &Rows) -> usize {
    let mut described = Vec::new();
    rows.describe(&mut described);
    let is_same = |sample: &Sample| sample.rows.bytes() == rows.bytes() && sample.described == described;
    samples().iter().position(is_same).expect("the rows are those of a request")
}

fn open(files: &Simulated, segment_bytes: u64) -> (Log<Simulated>, Vec<Segment>) {
    Log::open(files.clone(), settings(segment_bytes)).unwrap()
}

/// Appends a request for each of `group`; returns the position of the first record of each.
fn append(log: &mut Log<Simulated>, group: &[usize]) -> Vec<Key> {
    let rows: Vec<_> = group.iter().map(|at| &samples()[*at].rows).collect();
    let appended = log.append(&rows).unwrap();
    appended.firsts.iter().map(|first| (appended.run, *first)).collect()
}

/// `FOREBAY_SEEDS`, or this many.
fn seeds(ordinary: u64) -> u64 {
    std::env::var("FOREBAY_SEEDS").map_or(ordinary, |seeds| seeds.parse().expect("a number"))
}

/// Runs `each` for so many seeds, by all processors.
fn for_each_seed(seeds: u64, each: impl Fn(u64) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let each = &each;
            scope.spawn(move || (thread..seeds).step_by(threads as usize).for_each(each));
        }
    });
}
