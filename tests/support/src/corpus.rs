//! Realistic records, encoded once and sent again and again.
//!
//! 16 services with ten resource attributes each; requests of one service, as SDKs send them; records of about
//! 400 bytes on the wire: a body of about 140, six attributes, trace context, severity. The text varies as logs do:
//! words in templates, with numbers and identifiers in them. The seed is fixed, so that every run has the same.

use bytes::Bytes;
use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, InstrumentationScope, LogRecord, Resource, ResourceLogs, ScopeLogs,
};
use forebay::table::{Rows, Space, Transcoder};
use prost::Message;

use crate::records::{int, now, pair, text};

const SERVICES: usize = 16;
/// Different requests; together they are some 100,000 records.
const REQUESTS: usize = 208;
/// Stands where a record's time goes, to be found again in the encoded request.
const TIME: u64 = 0x1122_3344_5566_7788;

/// Encoded requests of equal size.
pub struct Corpus {
    /// The requests.
    pub requests: Vec<Bytes>,
    /// Records in each request.
    pub size: u64,
    /// Where the times stand in each request.
    pub times: Vec<Vec<usize>>,
}

impl Corpus {
    /// Requests of `size` records.
    pub fn new(size: u64) -> Self {
        Self::seeded(size, 7)
    }

    /// The same with other numbers and texts in them.
    pub fn seeded(size: u64, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = (REQUESTS * 500 / size as usize).clamp(SERVICES, 4096);
        let mut requests = Vec::with_capacity(count);
        let mut times = Vec::with_capacity(count);
        for index in 0..count {
            let mut bytes = request(&mut random, index % SERVICES, size).encode_to_vec();
            let found = positions(&bytes, &TIME.to_le_bytes());
            assert_eq!(found.len() as u64, size);
            let now = now();
            stamp(&mut bytes, &found, |_| now);
            requests.push(bytes.into());
            times.push(found);
        }
        Self { requests, size, times }
    }

    /// The rows that forebay makes of each request.
    pub fn rows(&self) -> Vec<Rows> {
        let transcoder = Transcoder::default();
        let transcode = |request| {
            transcoder.transcode(request, usize::MAX, 1, &mut Space::unlimited()).expect("well-formed").rows
        };
        self.requests.iter().map(|request| transcode(request)).collect()
    }

    /// Request `index` with the time of now in its records.
    pub fn request_now(&self, index: usize) -> Bytes {
        let index = index % self.requests.len();
        let now = now();
        self.request_at(index, |_| now)
    }

    /// Request `index` with a time for each of its records, in nanoseconds since 1970.
    pub fn request_at(&self, index: usize, time: impl Fn(usize) -> u64) -> Bytes {
        let mut bytes = self.requests[index].to_vec();
        stamp(&mut bytes, &self.times[index], time);
        bytes.into()
    }
}

/// Writes the times at `positions`.
fn stamp(bytes: &mut [u8], positions: &[usize], time: impl Fn(usize) -> u64) {
    for (number, &at) in positions.iter().enumerate() {
        bytes[at..at + 8].copy_from_slice(&time(number).to_le_bytes());
    }
}

fn positions(bytes: &[u8], pattern: &[u8]) -> Vec<usize> {
    (0..bytes.len().saturating_sub(pattern.len() - 1))
        .filter(|&at| bytes[at..].starts_with(pattern))
        .collect()
}

fn request(random: &mut fastrand::Rng, service: usize, size: u64) -> ExportLogsServiceRequest {
    const NAMES: [&str; SERVICES] = [
        "cart",
        "checkout",
        "payment",
        "shipping",
        "catalog",
        "search",
        "frontend",
        "currency",
        "email",
        "ads",
        "recommend",
        "inventory",
        "auth",
        "profile",
        "reviews",
        "billing",
    ];
    let name = NAMES[service];
    let resource = Resource {
        attributes: vec![
            pair("service.name", text(name)),
            pair("service.namespace", text("shop")),
            pair("service.version", text(format!("1.{service}.3"))),
            pair("service.instance.id", text(format!("{name}-6c9f7d{service:02x}b4-x{service:03}q"))),
            pair("deployment.environment.name", text("production")),
            pair("host.name", text(format!("node-{:02}.eu-west-1.internal", service % 5))),
            pair("k8s.pod.name", text(format!("{name}-6c9f7d{service:02x}b4-x{service:03}q"))),
            pair("k8s.namespace.name", text("shop")),
            pair("telemetry.sdk.language", text(["go", "java", "python", "rust"][service % 4])),
            pair("process.pid", int(1000 + service as i64)),
        ],
        dropped_attributes_count: 0,
    };
    let scope = InstrumentationScope {
        name: format!("shop.{name}.http"),
        version: "0.4.1".into(),
        ..Default::default()
    };
    // A trace has some records of a service, one after the other.
    let mut trace = 0;
    let log_records = (0..size).map(|_| {
        if trace == 0 || random.u8(..6) == 0 {
            trace = random.u128(1..);
        }
        record(random, trace)
    });
    let log_records = log_records.collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, ..Default::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: Some(resource), scope_logs, ..Default::default() }],
    }
}

fn record(random: &mut fastrand::Rng, trace: u128) -> LogRecord {
    let (severity_number, severity_text) =
        [(9, "INFO"), (9, "INFO"), (9, "INFO"), (5, "DEBUG"), (13, "WARN"), (17, "ERROR")][random.usize(..6)];
    let route = ["/api/cart", "/api/checkout", "/api/products", "/api/orders", "/healthz"][random.usize(..5)];
    LogRecord {
        time_unix_nano: TIME,
        observed_time_unix_nano: TIME.swap_bytes(),
        severity_number,
        severity_text: severity_text.into(),
        body: Some(text(body(random))),
        attributes: vec![
            pair("http.request.method", text(["GET", "POST", "PUT"][random.usize(..3)])),
            pair("url.path", text(format!("{route}/{}", random.u32(..1_000_000)))),
            pair("http.response.status_code", int([200, 201, 404, 500][random.usize(..4)])),
            pair("user.id", text(format!("u-{:08x}", random.u32(..)))),
            pair(
                "duration_ms",
                AnyValue { value: Some(Value::DoubleValue((random.f64() * 1e5).round() / 100.0)) },
            ),
            pair("thread.name", text(format!("worker-{}", random.u8(..32)))),
        ],
        trace_id: trace.to_be_bytes().to_vec().into(),
        span_id: random.u64(..).to_be_bytes().to_vec().into(),
        flags: 1,
        ..Default::default()
    }
}

/// Some 140 bytes.
fn body(random: &mut fastrand::Rng) -> String {
    const WORDS: [&str; 24] = [
        "request",
        "completed",
        "order",
        "payment",
        "retrying",
        "upstream",
        "timeout",
        "cache",
        "miss",
        "connection",
        "pool",
        "exhausted",
        "user",
        "session",
        "refreshed",
        "queue",
        "depth",
        "batch",
        "committed",
        "in",
        "after",
        "for",
        "with",
        "\"quoted value\"",
    ];
    let mut body = format!("[{:08x}] ", random.u32(..));
    while body.len() < 132 {
        body.push_str(WORDS[random.usize(..WORDS.len())]);
        match random.u8(..6) {
            0 => body.push_str(&format!("={} ", random.u32(..100_000))),
            1 => body.push_str(": "),
            _ => body.push(' '),
        }
    }
    body
}
