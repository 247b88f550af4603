//! From wire bytes to COPY rows in one pass, against a full decode of the same request by prost alone, which is what
//! a receiver would do first that has messages.
//!
//! `cargo bench --bench transcode`; the time is for one record. The contract is that transcoding takes at most 0.45
//! of the decode. Beside it: into the existing table of docs/existing-tables.md, whose 29 columns are looked up by name.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use forebay::buffer::Buffer;
use forebay::buffer::config::{BatchConfig, QueueConfig};
use forebay::buffer::fold::config::FoldConfig;
use forebay::config::load_texts;
use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord, Resource, ResourceLogs,
    ScopeLogs,
};
use forebay::table::{Mapping, Space, Transcoder};
use forebay::values::duration::GoDuration;
use prost::Message;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: usize = 500;

/// What a request is made of.
#[derive(Clone, Copy)]
struct Shape {
    /// Bytes of a record on the wire, about.
    bytes: usize,
    attributes: usize,
    resources: usize,
}

fn text(text: impl Into<String>) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.into())) }
}

fn pair(key: String, value: AnyValue) -> KeyValue {
    KeyValue { key, value: Some(value) }
}

fn record(shape: Shape, number: usize) -> LogRecord {
    const KEYS: [&str; 6] = [
        "http.request.method",
        "url.path",
        "http.response.status_code",
        "user.id",
        "duration_ms",
        "thread.name",
    ];
    let value = |index: usize| match index % 6 {
        2 => AnyValue { value: Some(Value::IntValue(number as i64)) },
        4 => AnyValue { value: Some(Value::DoubleValue(number as f64 / 8.0)) },
        _ => text(format!("value {number}")),
    };
    let key =
        |index: usize| format!("{}{}", KEYS[index % 6], ["", ".two", ".three", ".four", ".five"][index / 6]);
    let mut record = LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000 + number as u64,
        severity_number: 9,
        severity_text: "INFO".into(),
        attributes: (0..shape.attributes).map(|index| pair(key(index), value(index))).collect(),
        trace_id: vec![7; 16].into(),
        span_id: vec![8; 8].into(),
        ..LogRecord::default()
    };
    let words = "connection pool exhausted: could not get a \"connection\" within 30 s ";
    let room = shape.bytes.saturating_sub(record.encoded_len() + 4).max(8);
    record.body = Some(text(words.repeat(room / words.len() + 1)[..room].to_owned()));
    record
}

fn request(shape: Shape) -> Vec<u8> {
    let resource_logs = (0..shape.resources).map(|index| {
        let attributes =
            (0..10).map(|n| pair(format!("resource.attribute.{n}"), text(format!("{index}/{n}"))));
        let scope = InstrumentationScope { name: "shop.http".into(), ..Default::default() };
        let records = (0..RECORDS / shape.resources).map(|number| record(shape, number));
        ResourceLogs {
            resource: Some(Resource { attributes: attributes.collect(), dropped_attributes_count: 0 }),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope),
                log_records: records.collect(),
                ..Default::default()
            }],
            schema_url: String::new(),
        }
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }.encode_to_vec()
}

/// The mapping that stands in docs/existing-tables.md.
fn mapping() -> Arc<Mapping> {
    let page = include_str!("../docs/existing-tables.md");
    let yaml =
        page.split_once("```yaml partial\n").and_then(|(_, rest)| rest.split_once("```")).expect("a block").0;
    let texts = [include_str!("../otel-config.yaml"), yaml].map(|text| ("page".to_owned(), text.to_owned()));
    let config = load_texts(&texts, &[], &|_| None).expect("it is valid");
    config.exporter.store().destination().expect("it is valid").mapping().expect("it has a table").clone()
}

/// The time for one record, where one call takes [`RECORDS`].
fn per_record(calls: u64, mut call: impl FnMut()) -> Duration {
    let started = Instant::now();
    (0..calls.div_ceil(RECORDS as u64)).for_each(|_| call());
    started.elapsed().mul_f64(calls as f64 / (calls.div_ceil(RECORDS as u64) * RECORDS as u64) as f64)
}

fn transcode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a record");
    let mut shapes = Vec::new();
    let existing = Transcoder::new(Default::default(), Some(mapping()), Default::default());
    for bytes in [100, 400, 4096] {
        shapes.extend([0, 6, 30].map(|attributes| Shape { bytes, attributes, resources: 1 }));
    }
    shapes.push(Shape { bytes: 400, attributes: 6, resources: 50 });
    for shape in shapes {
        let request = request(shape);
        let Shape { attributes, resources, .. } = shape;
        let name = format!("{} B, {attributes} attributes, {resources} resources", shape.bytes);
        let transcoder = Transcoder::default();
        group.bench_function(BenchmarkId::new("transcode", &name), |bencher| {
            bencher.iter_custom(|calls| {
                per_record(calls, || {
                    drop(black_box(transcoder.transcode(&request, RECORDS, 1, &mut Space::unlimited())))
                })
            });
        });
        group.bench_function(BenchmarkId::new("existing table", &name), |bencher| {
            bencher.iter_custom(|calls| {
                per_record(calls, || {
                    drop(black_box(existing.transcode(&request, RECORDS, 1, &mut Space::unlimited())))
                })
            });
        });
        group.bench_function(BenchmarkId::new("prost decode", &name), |bencher| {
            bencher.iter_custom(|calls| {
                per_record(calls, || drop(black_box(ExportLogsServiceRequest::decode(&*request))))
            });
        });
    }
    group.finish();
}

/// Records that do not repeat each other, in a buffer that folds those that do. The contract is 20 ns more for a record.
fn folding(criterion: &mut Criterion) {
    // Each request begins a new window, so that none repeats the one before.
    let fold = FoldConfig { window: GoDuration(Duration::from_nanos(1)), ..FoldConfig::default() };
    let queue = QueueConfig { queue_size: 4 * RECORDS, fold, ..QueueConfig::default() };
    let buffer = Buffer::new(&queue, &BatchConfig::default());
    let request = request(Shape { bytes: 400, attributes: 6, resources: 1 });
    let _held = buffer.reserve(2 * RECORDS + 1, request.len());
    let mut reservation = buffer.reserve(RECORDS, request.len());
    assert!(buffer.is_folding());
    let transcoder = Transcoder::default();
    let mut group = criterion.benchmark_group("a record under pressure");
    for name in ["as it is", "looked for among repeats"] {
        let folds = name != "as it is";
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|calls| {
                per_record(calls, || {
                    let space = &mut Space::unlimited();
                    let done = if folds {
                        let mut gate =
                            buffer.find_repeats(&request, Some(&mut reservation), 1).expect("it folds");
                        transcoder.transcode_through(&mut gate, &request, RECORDS, 1, space)
                    } else {
                        transcoder.transcode(&request, RECORDS, 1, space)
                    };
                    assert_eq!(black_box(done).expect("it is valid").rows.len(), RECORDS);
                })
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = transcode, folding
}
criterion_main!(benches);
