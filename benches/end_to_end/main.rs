//! From the sender's socket to the committed row: how fast, at whose cost, against COPY of the same rows.
//!
//! `cargo bench --bench end_to_end -- [--records N] [--runs N] [--binary NAME=PATH]... [--rates N,N] [--growth] [--durable] [--request N]
//! [--results DIR] [--transport grpc|http|json]`
//! starts a durable PostgreSQL of its own, and in alternating runs sends records through the forebay binary and replays
//! their rows as plain COPY. Several binaries are compared in the same run. Figures are medians.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod generator;
mod measure;
mod raw_copy;
mod report;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use generator::Load;
use measure::{Bench, Run};
use report::Report;
use support::corpus::Corpus;
use transport::Transport;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records in a request of the full speed.
const REQUEST: u64 = 500;
/// Requests under way at full speed.
const IN_FLIGHT: usize = 8;
const RATES: [u64; 3] = [1_000, 10_000, 100_000];
const RATE_LENGTH: Duration = Duration::from_secs(10);
/// For the growth of the table: what the disk keeps up with. Beyond that, work on refusals would be measured as well.
const GROWTH_RATE: u64 = 100_000;
/// The default buffer holds 25 ms of a full speed, which is less than two batches are on their way.
const LARGE_BUFFER: [&str; 2] = [
    "exporters.postgres.sending_queue.queue_size=200000",
    "exporters.postgres.sending_queue.max_bytes=268435456",
];

/// One of those that take turns.
enum Case<'a> {
    RawCopy,
    Forebay { name: String, path: &'a str, sets: &'static [&'static str], durable: bool },
}

/// What the command line asks for.
struct Options {
    records: u64,
    runs: usize,
    binaries: Vec<(String, String)>,
    rates: Vec<u64>,
    growth: bool,
    /// With the durable queue as well.
    durable: bool,
    request: u64,
    results: Option<String>,
    transport: Transport,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            records: 1_000_000,
            runs: 5,
            binaries: Vec::new(),
            rates: RATES.into(),
            growth: false,
            durable: false,
            request: REQUEST,
            results: None,
            transport: Transport::default(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--records" => options.records = value().parse().expect("a number of records"),
                "--runs" => options.runs = value().parse().expect("a number of runs"),
                "--binary" => {
                    let value = value();
                    let (name, path) = value.split_once('=').expect("NAME=PATH");
                    options.binaries.push((name.to_owned(), path.to_owned()));
                }
                "--rates" => {
                    let rates = value();
                    options.rates = rates.split(',').map(|rate| rate.parse().expect("a rate")).collect();
                }
                "--growth" => options.growth = true,
                "--durable" => options.durable = true,
                "--request" => options.request = value().parse().expect("a number of records"),
                "--results" => options.results = Some(value()),
                "--transport" => options.transport = Transport::of_name(&value()),
                "--bench" => {}
                other => panic!("what is {other}?"),
            }
        }
        if options.binaries.is_empty() {
            options.binaries.push(("forebay".to_owned(), env!("CARGO_BIN_EXE_forebay").to_owned()));
        }
        options
    }
}

fn main() {
    let options = Options::read();
    // One thread: the generator shares two cores with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(measure_all(&options));
    report.print();
    if let Some(results) = &options.results {
        report.write(results);
    }
}

async fn measure_all(options: &Options) -> Report {
    let corpus = Arc::new(Corpus::new(options.request));
    let bench = Bench::start(&corpus).await;
    let requests = options.records.div_ceil(options.request);
    let mut report = Report::new(options.records, bench.version().await);
    let transport = options.transport;
    let full = Load { requests, connections: 4, in_flight: IN_FLIGHT, transport };
    // Not measured: it fills the WAL's files for the first time, which costs as much again.
    bench.full_speed(&options.binaries[0].1, &corpus, &full, &[], false).await;
    let mut cases = vec![Case::RawCopy];
    for (name, path) in &options.binaries {
        for (buffer, sets) in [("", &[][..]), (", large buffer", &LARGE_BUFFER)] {
            cases.push(Case::Forebay { name: format!("{name}{buffer}"), path, sets, durable: false });
            if options.durable {
                let name = format!("{name}{buffer}, durable");
                cases.push(Case::Forebay { name, path, sets, durable: true });
            }
        }
    }
    for number in 1..=options.runs {
        for case in &cases {
            match case {
                Case::RawCopy => report.raw_copy(bench.raw_copy(requests, None).await),
                Case::Forebay { name, path, sets, durable } => {
                    let run = bench.full_speed(path, &corpus, &full, sets, *durable).await;
                    report.full_speed(name, run);
                }
            }
        }
        // Who comes after whom makes a difference, so everyone has every place.
        cases.rotate_left(1);
        eprintln!("run {number} of {} is done", options.runs);
    }
    for in_one in [5, 20] {
        let name = format!("plain COPY, {} rows a transaction", in_one as u64 * REQUEST);
        report.other(&name, bench.raw_copy(requests, Some(in_one)).await);
    }
    let (_, binary) = &options.binaries[0];
    for &rate in &options.rates {
        let size = (rate / 200).max(5);
        let pace = Duration::from_nanos(1_000_000_000 * size / rate);
        let corpus = Arc::new(Corpus::new(size));
        let run = bench.paced(binary, &corpus, pace, RATE_LENGTH, false).await;
        report.other(&format!("{rate} records/s"), run);
        if options.durable {
            let run = bench.paced(binary, &corpus, pace, RATE_LENGTH, true).await;
            report.other(&format!("{rate} records/s, durable"), run);
        }
    }
    if options.growth {
        for connections in [1, 64] {
            let load = Load { requests, connections, in_flight: connections.max(8), transport };
            let run: Run = bench.full_speed(binary, &corpus, &load, &[], false).await;
            report.other(&format!("full speed, {connections} connections"), run);
        }
        for records in [1_000_000, 20_000_000] {
            let (size, rate) = (REQUEST, GROWTH_RATE);
            let pace = Duration::from_nanos(1_000_000_000 * size / rate);
            let length = Duration::from_secs(records / rate);
            let run = bench.paced(binary, &corpus, pace, length, false).await;
            report.other(&format!("{rate} records/s until {records}"), run);
        }
    }
    report
}
