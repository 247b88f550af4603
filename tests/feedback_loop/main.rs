//! The feedback loop, shown to be gone: an application that fails for want of database connections, and logs each
//! failure.
//!
//! A small HTTP application asks its database once for each request, by a pool of connections that for some seconds
//! is too small for what arrives. Requests that get no connection in time fail, and each failure is one log entry.
//! The same load meets the same application four times: without logging; with an INSERT and a COMMIT for each entry
//! by the very pool that is exhausted; with the OpenTelemetry SDK and forebay on the same database; and with forebay
//! while its database is stopped. Arrivals keep to the clock, whatever the answers are.
//!
//! The short test asserts what does not depend on the machine's mood; `./dev feedback-loop` runs the long one, which
//! judges the figures and leaves its results in benches/results.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stdout)]

mod application;
mod load;
mod log;
mod plot;
mod report;
mod scenario;

use load::Phase;
use report::Report;
use scenario::{Bench, Run, Way};

/// Requests a second that the application serves with ease, and for some time more than its pool can.
const CALM: f64 = 600.0;
const BURST: f64 = 1200.0;
const SHORT: [Phase; 3] = [Phase::new(CALM, 0.5), Phase::new(BURST, 2.5), Phase::new(CALM, 1.0)];
const LONG: [Phase; 3] = [Phase::new(CALM, 2.0), Phase::new(BURST, 5.0), Phase::new(CALM, 4.0)];
const ROUNDS: usize = 3;

/// Scenario: the four ways of logging, each under the same burst. Guarantee: logging into the exhausted pool makes more
/// requests fail and loses entries; by way of forebay the entries take two connections at most, and each one is stored,
/// counted as lost, or held and stored once the database is back.
/// All that the buffer has no room for while the database is away is counted; by default, that is the application's own DEBUG and none of its
/// errors.
#[tokio::test(flavor = "multi_thread")]
async fn only_logging_into_the_exhausted_pool_feeds_on_itself() {
    let mut bench = Bench::start().await;
    let [nowhere, pool, forebay, stopped] = bench.round(&SHORT).await;
    let round = [&nowhere, &pool, &forebay, &stopped].map(Run::clone);
    println!("{}", Report::new(&SHORT, vec![round], Vec::new()).text());

    assert!(nowhere.failed() > 0, "the burst is more than the pool can serve");
    assert!(pool.failed() > nowhere.failed(), "{} and {} failed", pool.failed(), nowhere.failed());
    assert!(pool.entries.lost > 0, "no connection for a request is none for its entry");
    assert_eq!(pool.entries.stored + pool.entries.lost, pool.entries.made);

    for run in [&forebay, &stopped] {
        assert_eq!(run.entries.made, run.failed(), "one entry for each failure");
        assert!(run.failed() < pool.failed(), "{} and {} failed", run.failed(), pool.failed());
        assert!(run.connections.forebay <= scenario::FOREBAY_POOL, "{:?}", run.connections);
        assert_eq!(run.connections.application, 0, "no entry takes a connection of the application");
    }
    assert_eq!((forebay.entries.stored, forebay.entries.lost), (forebay.entries.made, 0));
    assert_eq!(stopped.entries.stored + stopped.entries.lost, stopped.entries.made);
    assert_eq!(stopped.entries.held, stopped.entries.made, "the buffer has room for them");

    let queue = |set: &str| format!("exporters.postgres.sending_queue.{set}");
    let [small, medium, newest] = ["queue_size=100", "queue_size=3500", "overflow=drop_newest"].map(queue);
    let shed = bench.run(Way::ForebayStopped, &SHORT, &[&small, &newest]).await.entries;
    assert_eq!((shed.held, shed.lost), (100, shed.made - 100), "what it has no room for is counted");
    assert_eq!(shed.stored, 100);

    let chatty = bench.run_stopped(&SHORT, &[&medium], true).await;
    assert!(chatty.entries.lost > 0, "its DEBUG is more than finds room");
    assert_eq!(chatty.entries.errors, chatty.failed(), "each of its errors is stored");
    let chatty = bench.run_stopped(&SHORT, &[&medium, &newest], true).await;
    assert!(chatty.entries.errors < chatty.failed(), "without shares its DEBUG costs errors");
}

/// The measurement, for `./dev feedback-loop`: the ways of logging take turns.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement; ./dev feedback-loop has it run alone, in release"]
async fn measured() {
    let mut bench = Bench::start().await;
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        rounds.push(bench.round(&LONG).await);
        eprintln!("round {round} of {ROUNDS} is done");
    }
    let report = Report::new(&LONG, rounds, bench.calls_in_a_row().await);
    println!("{}", report.text());
    report.write("benches/results");
    let broken = report.broken();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
