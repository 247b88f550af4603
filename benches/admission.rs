//! How long the buffer itself holds up a request: `reserve` and `enqueue`, call by call, on as many threads of the
//! runtime as there are senders, back to back, which is more contention than any receiver makes. Two lanes take
//! batches meanwhile, each as long at work on one as the shortest of transactions.
//!
//! The contract is one microsecond at the 99th percentile with four threads and room for all. Run it with
//! `cargo bench --bench admission`; every figure includes reading the clock once, whose cost is printed.

#![expect(clippy::print_stdout, reason = "the table is the output")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::buffer::Buffer;
use forebay::buffer::config::{BatchConfig, Overflow, QueueConfig};
use forebay::duration::GoDuration;
use forebay::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord, ResourceLogs, ScopeLogs, any_value::Value,
};
use forebay::table::{Rows, Transcoder};
use prost::Message;
use tokio::sync::Barrier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LANES: usize = 2;
const ROUNDS: usize = 20;
const TRANSACTION: Duration = Duration::from_millis(1);

/// One row of the table.
struct Case {
    name: &'static str,
    threads: usize,
    /// Records of each request.
    records: usize,
    calls: usize,
    queue_size: usize,
    overflow: Overflow,
    /// Whether a lane takes and settles meanwhile.
    lane: bool,
}

fn main() {
    // Without this argument it is a test of all targets that runs here, which only shows that it runs.
    let scale = if std::env::args().any(|argument| argument == "--bench") { 1 } else { 1000 };
    println!(
        "{:<34}{:>8}{:>9}{:>8}{:>8}{:>8}{:>10}",
        "ns per call", "threads", "calls", "p50", "p99", "p99.9", "max"
    );
    show("reading the clock", 1, clock(1_000_000 / scale));
    for threads in [1, 4, 16] {
        for (name, records, calls) in
            [("room, 1 record a request", 1, 160_000), ("room, 100 records a request", 100, 8_000)]
        {
            let case = Case {
                name,
                threads,
                records,
                calls: calls / scale,
                queue_size: 1_000_000,
                overflow: Overflow::DropNewest,
                lane: true,
            };
            show(name, threads, run(&case));
        }
    }
    for (name, overflow) in [
        ("full, drop_newest", Overflow::DropNewest),
        ("full, drop_oldest", Overflow::DropOldest),
        ("full, reject", Overflow::Reject),
    ] {
        for threads in [1, 4, 16] {
            let case = Case {
                name,
                threads,
                records: 1,
                calls: 160_000 / scale,
                queue_size: 1_000,
                overflow,
                lane: false,
            };
            show(name, threads, run(&case));
        }
    }
}

/// The times of all calls.
fn run(case: &Case) -> Vec<u32> {
    let queue = QueueConfig {
        queue_size: case.queue_size,
        overflow: case.overflow,
        max_bytes: 1 << 40,
        enabled: true,
    };
    let batch = BatchConfig {
        send_batch_size: 100,
        timeout: GoDuration(Duration::from_secs(1)),
        send_batch_max_size: 10_000,
    };
    let buffer = Arc::new(Buffer::new(&queue, &batch));
    let request = request(case.records);
    let transcoder = Transcoder::default();
    let rows = || transcoder.transcode(&request, usize::MAX, 1).expect("it is well-formed").rows;
    let mut pools: Vec<Vec<Rows>> = Vec::new();
    pools.resize_with(case.threads, || (0..case.calls / case.threads).map(|_| rows()).collect());
    if !case.lane {
        for _ in 0..case.queue_size {
            let _ = buffer.enqueue(buffer.reserve(case.records, request.len()), rows(), None);
        }
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(case.threads).enable_time().build().expect("a runtime");
    let times = runtime.block_on(async {
        let lanes = (0..if case.lane { LANES } else { 0 }).map(|_| tokio::spawn(write(buffer.clone())));
        let lanes: Vec<_> = lanes.collect();
        let start = Arc::new(tokio::sync::Barrier::new(case.threads));
        let producers = pools.into_iter().map(|pool| {
            tokio::spawn(produce(buffer.clone(), case.records, request.len(), pool, start.clone(), case.lane))
        });
        let mut times = Vec::new();
        for producer in producers.collect::<Vec<_>>() {
            times.extend(producer.await.expect("it does not panic"));
        }
        buffer.close();
        for lane in lanes {
            lane.await.expect("it does not panic");
        }
        times
    });
    if case.lane {
        let lost = buffer.books().dropped_total();
        assert!(lost == 0, "{}: there was no room for {lost} records", case.name);
    }
    times
}

/// Offers the requests one by one, as a receiver's task does: with each answer, another task has its turn. In between
/// the buffer drains some times, and the first rounds are not timed: in those the memory is touched for the first
/// time, which is the kernel's work and not the buffer's.
async fn produce(
    buffer: Arc<Buffer>,
    records: usize,
    wire: usize,
    pool: Vec<Rows>,
    start: Arc<Barrier>,
    drains: bool,
) -> Vec<u32> {
    let mut times = Vec::with_capacity(pool.len());
    let round = pool.len().div_ceil(ROUNDS).max(1);
    for (index, rows) in pool.into_iter().enumerate() {
        if index % round == 0 {
            while buffer.budget().records() > 0 && index > 0 && drains {
                tokio::time::sleep(TRANSACTION).await;
            }
            start.wait().await;
        }
        let begin = Instant::now();
        let reservation = buffer.reserve(records, wire);
        let unused = if reservation.records() == records {
            let _ = buffer.enqueue(reservation, rows, None);
            None
        } else {
            Some(rows)
        };
        let elapsed = u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX);
        if index >= 2 * round {
            times.push(elapsed);
        }
        drop(unused);
        tokio::task::yield_now().await;
    }
    times
}

/// A lane that takes as long for a batch as the shortest of transactions.
async fn write(buffer: Arc<Buffer>) {
    while let Some(batch) = buffer.take().await {
        tokio::time::sleep(TRANSACTION).await;
        batch.settle_written(&Default::default());
    }
}

fn clock(calls: usize) -> Vec<u32> {
    let time = |_| {
        let begin = black_box(Instant::now());
        begin.elapsed().as_nanos() as u32
    };
    (0..calls).map(time).collect()
}

fn show(name: &str, threads: usize, mut times: Vec<u32>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let calls = times.len();
    let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
    println!("{name:<34}{threads:>8}{calls:>9}{p50:>8}{p99:>8}{p999:>8}{max:>10}");
}

/// Records of about 300 bytes with six attributes.
fn request(records: usize) -> Vec<u8> {
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.into())) });
    let attributes =
        ["http.route", "http.request.method", "user.id", "tenant", "thread.name", "code.function"];
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        severity_number: 17,
        severity_text: "ERROR".into(),
        body: text("connection pool exhausted: could not get a connection within 30 s"),
        attributes: attributes.map(|key| KeyValue { key: key.into(), value: text("some value") }).into(),
        ..LogRecord::default()
    };
    let scope = ScopeLogs { log_records: vec![record; records], ..ScopeLogs::default() };
    let resource = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec()
}
