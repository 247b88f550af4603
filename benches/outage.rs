//! How long a sender waits for its answer before, while and after the database is away, for each overflow policy.
//!
//! `cargo bench --bench outage` starts a PostgreSQL and a forebay of its own for each policy, loads it with 20,000
//! records a second from four connections, and stops the server for 20 s in the middle. The 99th percentile is to stay
//! under 10 ms throughout; where it does not, the command fails.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::process::ExitCode;
use std::time::Duration;

use ::forebay::embedded::Stop;
use support::forebay::Forebay;
use support::postgres::Postgres;
use support::sender::{Sender, Told};
use support::stored;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

const LIMIT: Duration = Duration::from_millis(10);
const SENDERS: u64 = 4;
const IN_A_REQUEST: u64 = 100;
const PACE: Duration = Duration::from_millis(20);
const PHASES: [(&str, Duration); 3] = [
    ("before", Duration::from_secs(10)),
    ("away", Duration::from_secs(20)),
    ("after", Duration::from_secs(10)),
];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!(
        "{:<12} {:<7} {:>9} {:>9} {:>9} {:>9}",
        "overflow", "phase", "answers", "p50 us", "p99 us", "max us"
    );
    let mut slow = false;
    for policy in ["drop_newest", "drop_oldest", "reject"] {
        slow |= runtime.block_on(measure(policy));
    }
    if slow {
        println!("the 99th percentile is over {LIMIT:?}");
    }
    ExitCode::from(u8::from(slow))
}

/// Runs the three phases with one policy; gives whether one of them was too slow.
async fn measure(policy: &str) -> bool {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let overflow = format!("exporters.postgres.sending_queue.overflow={policy}");
    let forebay = Forebay::ready(database.dsn(), &[&overflow]).await;
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for index in 0..SENDERS {
        senders.spawn(send_in_phases(forebay.sender().await, index * 1_000_000_000, began));
    }
    sleep_until(began + PHASES[0].1).await;
    postgres.stop(Stop::Fast).await;
    sleep_until(began + PHASES[0].1 + PHASES[1].1).await;
    postgres.start_again().await;
    let mut phases = [Told::default(), Told::default(), Told::default()];
    for told in senders.join_all().await {
        phases.iter_mut().zip(told).for_each(|(all, one)| all.add(one));
    }
    let mut slow = false;
    for ((name, _), told) in PHASES.iter().zip(&mut phases) {
        told.waits.sort();
        let at = |share: f64| told.waits[((told.waits.len() - 1) as f64 * share) as usize];
        let (p50, p99, max) = (at(0.5).as_micros(), at(0.99), at(1.0).as_micros());
        println!("{policy:<12} {name:<7} {:>9} {p50:>9} {:>9} {max:>9}", told.waits.len(), p99.as_micros());
        slow |= p99 >= LIMIT;
    }
    let scrape = forebay.settles().await;
    let lost = scrape.value("log_buffer_dropped_total") + scrape.value("log_buffer_rejected_total");
    let (sent, stored) = (phases.iter().map(|told| told.sent).sum::<u64>(), stored(&database).await.rows());
    println!("{policy:<12} sent {sent} = stored {stored} + counted losses {lost}");
    assert_eq!(sent, stored + lost);
    slow
}

async fn send_in_phases(sender: Sender, first: u64, began: Instant) -> [Told; 3] {
    let mut phases = [Told::default(), Told::default(), Told::default()];
    let mut number = first;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut end = began;
    for ((_, length), told) in PHASES.iter().zip(&mut phases) {
        end += *length;
        while Instant::now() < end {
            pace.tick().await;
            sender.send_numbered(number..number + IN_A_REQUEST, told).await;
            number += IN_A_REQUEST;
        }
    }
    phases
}
