//! What it does to senders who are known that ten thousand requests a second come from others.
//!
//! `cargo bench --bench strangers` starts a PostgreSQL, and a forebay for tokens and one for passwords. Known senders send
//! 20,000 records a second, or as much as they can; every other five seconds strangers send as well, with a token that is
//! nobody's, with one wrong password, or with another password each time. Generators, forebay and PostgreSQL share the
//! machine, so that what the strangers' generator takes is part of the figures; forebay's own part is its CPU time for each
//! request that it refuses.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::future::join_all;
use h2::client::SendRequest;
use prost::Message;
use support::forebay::Forebay;
use support::postgres::Postgres;
use support::records::numbered_request;
use support::sender::{PATH, Sender};
use support::usage;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::metadata::MetadataValue;

const ROUNDS: usize = 3;
const PHASE: Duration = Duration::from_secs(5);
const SENDERS: u64 = 4;
const IN_A_REQUEST: u64 = 100;
/// Of one sender, where it does not send as fast as it can.
const PACE: Duration = Duration::from_millis(20);
/// Strangers have connections of their own; each sends so many requests at each tick: 10,000 a second in all.
const CROWDS: u64 = 4;
const IN_A_CROWD: u64 = 25;
const TICK: Duration = Duration::from_millis(10);

/// Who sends beside the known.
#[derive(Clone, Copy)]
struct Strangers {
    name: &'static str,
    /// Whether passwords are asked for, or tokens.
    passwords: bool,
    /// `authorization` of the nth request.
    says: fn(u64) -> String,
}

const STRANGERS: [Strangers; 3] = [
    Strangers { name: "a wrong token", passwords: false, says: |_| "Bearer of-nobody".to_owned() },
    Strangers { name: "a wrong password", passwords: true, says: |_| basic("wrong") },
    Strangers {
        name: "another password each",
        passwords: true,
        says: |number| basic(&format!("guess {number}")),
    },
];

/// What came of one phase.
#[derive(Default)]
struct Phase {
    records: u64,
    waits: Vec<Duration>,
    refused: u64,
    cpu: Duration,
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!(
        "{:<24}{:<10}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>12}{:>14}",
        "strangers with",
        "known",
        "rec/s",
        "rec/s with",
        "p50 us",
        "with",
        "p99 us",
        "with",
        "refused/s",
        "CPU us each"
    );
    for strangers in STRANGERS {
        for paced in [true, false] {
            runtime.block_on(measure(strangers, paced));
        }
    }
}

fn basic(password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("shop:{password}")))
}

async fn measure(strangers: Strangers, paced: bool) {
    let postgres = Postgres::start_durable(&[]).await;
    let database = postgres.database().await;
    let hash = bcrypt::hash("right", 10).unwrap();
    let (extension, known) = if strangers.passwords {
        (format!("extensions.basicauth.htpasswd.inline='shop:{hash}'"), basic("right"))
    } else {
        ("extensions.bearertokenauth.token=right".to_owned(), "Bearer right".to_owned())
    };
    let name = if strangers.passwords { "basicauth" } else { "bearertokenauth" };
    let sets = [
        extension,
        format!("service.extensions=[health_check, {name}]"),
        format!("receivers.otlp.protocols.grpc.auth.authenticator={name}"),
        "exporters.postgres.sending_queue.queue_size=200000".to_owned(),
    ];
    let forebay = Forebay::ready(database.dsn(), &sets.each_ref().map(String::as_str)).await;
    let (mut without, mut with) = (Phase::default(), Phase::default());
    // The first phase is not counted: memory is touched for the first time.
    phase(&forebay, &known, paced, None).await;
    for _ in 0..ROUNDS {
        without.add(phase(&forebay, &known, paced, None).await);
        with.add(phase(&forebay, &known, paced, Some(strangers)).await);
    }
    let seconds = PHASE.as_secs_f64() * ROUNDS as f64;
    let rate = |count: u64| (count as f64 / seconds) as u64;
    // Without a pace the CPU time of a record depends on how many come together, so that nothing can be told from it.
    let per_record = without.cpu.as_secs_f64() / without.records as f64;
    let refusing = with.cpu.as_secs_f64() - per_record * with.records as f64;
    let each = if paced { format!("{:.1}", refusing * 1e6 / with.refused as f64) } else { String::new() };
    println!(
        "{:<24}{:<10}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>12}{each:>14}",
        strangers.name,
        if paced { "20,000/s" } else { "all" },
        rate(without.records),
        rate(with.records),
        without.wait(0.5),
        with.wait(0.5),
        without.wait(0.99),
        with.wait(0.99),
        rate(with.refused),
    );
    forebay.settles().await;
}

/// One phase: the known, and perhaps strangers.
async fn phase(forebay: &Forebay, known: &str, paced: bool, strangers: Option<Strangers>) -> Phase {
    let (cpu, end) = (usage::cpu(forebay.pid()), Instant::now() + PHASE);
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        senders.spawn(send(forebay.sender().await, known.to_owned(), paced, end));
    }
    let refused = Arc::new(AtomicU64::new(0));
    let crowds: Vec<_> = match strangers {
        Some(strangers) => (0..CROWDS)
            .map(|crowd| tokio::spawn(throng(forebay.endpoint(), strangers, crowd, refused.clone(), end)))
            .collect(),
        None => Vec::new(),
    };
    let mut phase = Phase::default();
    for sent in senders.join_all().await {
        phase.add(sent);
    }
    for crowd in crowds {
        crowd.await.unwrap();
    }
    phase.refused = refused.load(Ordering::Relaxed);
    phase.cpu = usage::cpu(forebay.pid()) - cpu;
    phase
}

async fn send(sender: Sender, authorization: String, paced: bool, end: Instant) -> Phase {
    let mut phase = Phase::default();
    let request = Bytes::from(numbered_request(0..IN_A_REQUEST).encode_to_vec());
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while Instant::now() < end {
        if paced {
            pace.tick().await;
        }
        let begun = Instant::now();
        let value = MetadataValue::try_from(&authorization).unwrap();
        let response = sender.send_as(Some(value), request.clone()).await.unwrap();
        phase.waits.push(begun.elapsed());
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_log_records as u64);
        phase.records += IN_A_REQUEST - rejected;
    }
    phase
}

/// Sends requests of strangers until `end`, whatever the answers are. A connection over which too many were refused before
/// their bodies had come is ended, and the next one is made.
async fn throng(endpoint: String, strangers: Strangers, crowd: u64, refused: Arc<AtomicU64>, end: Instant) {
    let mut pace = interval(TICK);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = crowd << 32;
    let message = numbered_request(0..1).encode_to_vec();
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let frame = Bytes::from(frame);
    while Instant::now() < end {
        let stream = TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut lives = true;
        while lives && Instant::now() < end {
            pace.tick().await;
            let says = |index| (strangers.says)(number + index);
            let requests = (0..IN_A_CROWD).map(|index| stranger(client.clone(), says(index), frame.clone()));
            let answers = join_all(requests).await;
            let answered = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            refused.fetch_add(answered, Ordering::Relaxed);
            lives = answered == IN_A_CROWD;
            number += IN_A_CROWD;
        }
        connection.abort();
    }
}

/// Sends one request, and waits for its refusal.
async fn stranger(client: SendRequest<Bytes>, authorization: String, frame: Bytes) -> Result<(), h2::Error> {
    let request = http::Request::post(format!("http://forebay{PATH}"))
        .header("content-type", "application/grpc")
        .header("authorization", authorization);
    let (answer, mut body) = client.ready().await?.send_request(request.body(()).unwrap(), false)?;
    // It may be refused before its body is sent.
    let _ = body.send_data(frame, true);
    let answer = answer.await?;
    let status = answer.headers()["grpc-status"].to_str().unwrap();
    assert!(matches!(status, "16" | "14"), "it was taken: {answer:?}");
    Ok(())
}

impl Phase {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.waits.extend(other.waits);
        self.refused += other.refused;
        self.cpu += other.cpu;
    }

    /// In microseconds.
    fn wait(&mut self, share: f64) -> u128 {
        self.waits.sort_unstable();
        self.waits[((self.waits.len() - 1) as f64 * share) as usize].as_micros()
    }
}
