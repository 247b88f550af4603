//! How long the buffer itself holds up a request: `reserve` and `enqueue`, call by call, on as many threads of the
//! runtime as there are senders. As in a receiver, the request is transcoded in between, which is not timed; requests
//! follow each other without a socket in between, which is more contention than any receiver makes. Two lanes take
//! batches meanwhile, each as long at work on one as the shortest of transactions.
//!
//! The contract is one microsecond at the 99th percentile with four threads and room for all. Run it with
//! `cargo bench --bench admission`; every figure includes reading the clock twice, whose cost is printed.

#![expect(clippy::print_stdout, reason = "the table is the output")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::buffer::Buffer;
use forebay::buffer::config::{BatchConfig, Overflow, QueueConfig};
use forebay::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord, ResourceLogs, ScopeLogs, any_value::Value,
};
use forebay::table::{Space, Transcoder};
use forebay::values::duration::GoDuration;
use forebay::values::size::ByteSize;
use prost::Message;
use tokio::sync::Barrier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LANES: usize = 2;
const ROUNDS: usize = 20;
const TRANSACTION: Duration = Duration::from_millis(1);

/// One row of the table.
#[derive(Clone)]
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
    show("reading the clock twice", 1, clock(1_000_000 / scale));
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
                overflow: Overflow::Fair,
                lane: true,
            };
            show(name, threads, run(&case));
        }
    }
    for (name, overflow) in [
        ("over its share, fair", Overflow::Fair),
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
        max_bytes: ByteSize(1 << 40),
        ..QueueConfig::default()
    };
    let batch = BatchConfig {
        send_batch_size: 100,
        timeout: GoDuration(Duration::from_secs(1)),
        send_batch_max_size: 10_000,
    };
    let buffer = Arc::new(Buffer::new(&queue, &batch));
    let sender =
        Sender { buffer: buffer.clone(), transcoder: Arc::default(), request: request(case.records).into() };
    if !case.lane {
        for _ in 0..case.queue_size {
            sender.send(case.records);
        }
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(case.threads).enable_time().build().expect("a runtime");
    let times = runtime.block_on(async {
        let lanes = (0..if case.lane { LANES } else { 0 }).map(|_| tokio::spawn(write(buffer.clone())));
        let lanes: Vec<_> = lanes.collect();
        let start = Arc::new(Barrier::new(case.threads));
        let producers =
            (0..case.threads).map(|_| tokio::spawn(produce(sender.clone(), case.clone(), start.clone())));
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

/// What each producer shares.
#[derive(Clone)]
struct Sender {
    buffer: Arc<Buffer>,
    transcoder: Arc<Transcoder>,
    request: Arc<[u8]>,
}

impl Sender {
    /// Puts one request into the buffer; gives how long that took, but for the transcoding.
    fn send(&self, records: usize) -> Duration {
        let begin = Instant::now();
        let mut reservation = self.buffer.reserve(records, self.request.len());
        let reserved = begin.elapsed();
        if reservation.records() < records {
            return reserved;
        }
        let mut space = Space::unlimited();
        let transcoded = match self.buffer.gate(&mut reservation) {
            None => self.transcoder.transcode(&self.request, records, 1, &mut space),
            Some(mut gate) => {
                self.transcoder.transcode_through(&mut gate, &self.request, records, 1, &mut space)
            }
        };
        let rows = transcoded.expect("it is well-formed").rows;
        let begin = Instant::now();
        let _ = self.buffer.enqueue(reservation, rows, None);
        reserved + begin.elapsed()
    }
}

/// Sends one request after the other, as a receiver's tasks do: with each answer, another task has its turn. In between
/// the buffer drains some times, and the first rounds are not timed: in those the memory is touched for the first
/// time, which is the kernel's work and not the buffer's.
async fn produce(sender: Sender, case: Case, start: Arc<Barrier>) -> Vec<u32> {
    let calls = case.calls / case.threads;
    let mut times = Vec::with_capacity(calls);
    let round = calls.div_ceil(ROUNDS).max(1);
    for index in 0..calls {
        if index % round == 0 {
            while sender.buffer.budget().records() > 0 && index > 0 && case.lane {
                tokio::time::sleep(TRANSACTION).await;
            }
            start.wait().await;
        }
        let elapsed = sender.send(case.records).as_nanos();
        if index >= 2 * round {
            times.push(u32::try_from(elapsed).unwrap_or(u32::MAX));
        }
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
        let first = begin.elapsed();
        let begin = black_box(Instant::now());
        (first + begin.elapsed()).as_nanos() as u32
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
