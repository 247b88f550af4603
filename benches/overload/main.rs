//! A flood while the database is away: which records are lost, before fair shares and with them.
//!
//! `cargo bench --bench overload -- [--results DIR]` starts a PostgreSQL and a forebay of its own for `overflow: drop_newest` and for
//! `overflow: fair`, and stops the server for a while. One sender floods 1,000 records a second of all severities, ten others
//! send a hundredth of that each. The figures are numbers of records, which depend on the policy and not on the machine.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::forebay::embedded::Stop;
use ::forebay::otlp::messages::LogRecord;
use report::{Report, Run, Sample};
use support::forebay::Forebay;
use support::metrics::Scrape;
use support::postgres::Postgres;
use support::records::{numbered, request_of};
use support::sender::{Answer, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

/// The senders beside the one that floods, and the records of the flood for each of theirs.
const QUIET: u64 = 10;
const TIMES: u64 = 100;
/// The time between two requests of a sender; those of the flood have [`TIMES`] records.
const PACE: Duration = Duration::from_millis(100);
const SAMPLED: Duration = Duration::from_millis(250);
/// Seconds from the start of the load: PostgreSQL stops, it starts again, the load ends.
const TIMELINE: [u64; 3] = [3, 13, 19];

/// The severities from the one that is dropped first: name, number, and percent of what each sender sends.
const SEVERITIES: [(&str, i32, u64); 4] =
    [("DEBUG", 5, 45), ("INFO", 9, 40), ("WARN", 13, 10), ("ERROR", 17, 5)];

/// Numbers of records, by severity in the order of [`SEVERITIES`].
type BySeverity = [u64; 4];

/// The records of all senders so far.
#[derive(Default)]
struct Sent {
    by_severity: [AtomicU64; 4],
    quiet: AtomicU64,
    /// Records of the ten senders that were not taken.
    quiet_lost: AtomicU64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let results = match arguments.next().as_deref() {
        None => None,
        Some("--results") => Some(arguments.next().expect("--results needs a directory")),
        Some(other) => panic!("what is {other}?"),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let runs = ["drop_newest", "fair"].map(|policy| runtime.block_on(measure(policy)));
    let report = Report::new(runs);
    print!("{}", report.text());
    if let Some(dir) = results {
        report.write(&dir);
    }
}

/// The index into [`SEVERITIES`] of a record; they are well mixed.
fn severity_of(number: u64) -> usize {
    // 37 and 100 have no common divisor.
    let (place, mut end) = (number * 37 % 100, 0);
    let is_in = |(.., percent): &(&str, i32, u64)| {
        end += percent;
        place < end
    };
    SEVERITIES.iter().position(is_in).unwrap()
}

async fn measure(policy: &'static str) -> Run {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let overflow = format!("exporters.postgres.sending_queue.overflow={policy}");
    let forebay = Forebay::ready(database.dsn(), &[&overflow]).await;
    let (sent, began) = (Arc::new(Sent::default()), Instant::now());
    let [stop, start, end] = TIMELINE.map(|second| began + Duration::from_secs(second));
    let mut senders = JoinSet::new();
    for index in 0..=QUIET {
        senders.spawn(send(forebay.sender().await, index, sent.clone(), end));
    }
    let outage = async {
        sleep_until(stop).await;
        postgres.stop(Stop::Fast).await;
        sleep_until(start).await;
        postgres.start_again().await;
    };
    let ((), samples) = tokio::join!(outage, sample(&forebay, &sent, began, end));
    senders.join_all().await;
    let page = forebay.settles().await;
    let run = Run {
        policy,
        samples,
        sent: sent.by_severity(),
        lost: lost(&page),
        quiet: sent.quiet.load(Ordering::Relaxed),
        quiet_lost: sent.quiet_lost.load(Ordering::Relaxed),
    };
    let received = page.value("log_buffer_received_total");
    assert_eq!(run.sent.iter().sum::<u64>(), received, "each record has an answer");
    run
}

/// Sends at the pace of sender `index`, 0 being the flood.
async fn send(sender: Sender, index: u64, sent: Arc<Sent>, end: Instant) {
    let (records, service) =
        if index == 0 { (TIMES, "flood".to_owned()) } else { (1, format!("quiet {index}")) };
    let (mut pace, mut number) = (interval(PACE), index * 1_000_000_000);
    while pace.tick().await < end {
        let numbers = number..number + records;
        let severity_number = |number| SEVERITIES[severity_of(number)].1;
        let record = |number| LogRecord { severity_number: severity_number(number), ..numbered(number) };
        let answer = sender.send(request_of(&service, numbers.clone().map(record).collect())).await;
        let Answer::Taken { rejected } = Answer::of(answer) else { panic!("neither policy refuses") };
        for number in numbers {
            sent.by_severity[severity_of(number)].fetch_add(1, Ordering::Relaxed);
        }
        if index > 0 {
            sent.quiet.fetch_add(records, Ordering::Relaxed);
            sent.quiet_lost.fetch_add(rejected, Ordering::Relaxed);
        }
        number += records;
    }
}

async fn sample(forebay: &Forebay, sent: &Sent, began: Instant, end: Instant) -> Vec<Sample> {
    let (mut samples, mut pace) = (Vec::new(), interval(SAMPLED));
    while pace.tick().await < end {
        let (page, sent) = (forebay.scrape().await, sent.by_severity());
        let held = page.value("log_buffer_size") as f64 / page.value("log_buffer_capacity") as f64;
        samples.push(Sample {
            second: began.elapsed().as_secs_f64(),
            free: 1.0 - held,
            sent,
            lost: lost(&page),
        });
    }
    samples
}

fn lost(page: &Scrape) -> BySeverity {
    let labels = |name: &str| format!("severity=\"{}\"", name.to_lowercase());
    SEVERITIES.map(|(name, ..)| page.sum("log_buffer_dropped_total", &labels(name)))
}

impl Sent {
    fn by_severity(&self) -> BySeverity {
        self.by_severity.each_ref().map(|sent| sent.load(Ordering::Relaxed))
    }
}
