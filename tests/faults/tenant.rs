//! A hostile tenant, or somebody who is none: many connections and requests that bring nothing. What must hold: the good
//! senders notice nothing, a new one gets in, and memory keeps its bound.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use prost::Message;
use support::forebay::Forebay;
use support::postgres::{Database, database};
use support::records::numbered_request;
use support::sender::Sender;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::MetadataValue;

use crate::chance::{HANG, assert_within, either};
use crate::oracle::Oracle;
use crate::siege::{REQUEST_LIMIT_MIB, Siege, export_head, message};

const GRPC: &str = "receivers.otlp.protocols.grpc";
const MIB: u64 = 1 << 20;
/// As long as a probe waits.
const PROBE: Duration = Duration::from_secs(3);

/// Fault 29. Scenario: 135 connections with 128 requests each that are headers and no more, again and again. Promise: none of
/// the good senders is refused.
#[tokio::test(flavor = "multi_thread")]
async fn headers_and_no_more() {
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[]).await;
    let mut sent_back = 0;
    for _ in 0..either(1, 5) {
        let (mut bodies, mut answers) = (Vec::new(), JoinSet::new());
        for _ in 0..135 {
            let mut client = siege.streams().await;
            for _ in 0..128 {
                client = client.ready().await.unwrap();
                let (answer, body) = client.send_request(export_head(), false).unwrap();
                answers.spawn(answer);
                bodies.push(body);
            }
        }
        siege.scene.flushes(either(5_000, 50_000)).await;
        while answers.try_join_next().is_some() {
            sent_back += 1;
        }
        drop((bodies, answers));
    }
    assert!(sent_back > 0, "they wait for as long as there are places");
    siege.ends(&format!("fault 29, headers and no more, {sent_back} sent back"), Oracle::default()).await;
}

/// Fault 29. Scenario: silent connections to the health page, three times as many as there may be. Promise: it answers.
#[tokio::test(flavor = "multi_thread")]
async fn silence_at_the_health_page() {
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(siege.scene.forebay.health_address()).await.unwrap());
    }
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(siege.scene.forebay.health().await.0, 200);
        assert_within(PROBE, asked.elapsed(), "the health page");
    }
    drop(silent);
    siege.ends("fault 29, silence at the health page", Oracle::default()).await;
}

/// A forebay that asks who sends, by `name`.
async fn guarded(database: &Database, name: &str, sets: &[&str]) -> Forebay {
    let own =
        [format!("service.extensions=[health_check, {name}]"), format!("{GRPC}.auth.authenticator={name}")];
    let sets: Vec<_> = own.iter().map(String::as_str).chain(sets.iter().copied()).collect();
    Forebay::ready(database.dsn(), &sets).await
}

/// Sends `numbers`, and gives whether they were taken.
async fn is_taken(sender: &Sender, authorization: &str, numbers: std::ops::Range<u64>) -> bool {
    let request = Bytes::from(numbered_request(numbers).encode_to_vec());
    let authorization = MetadataValue::try_from(authorization).unwrap();
    sender.send_as(Some(authorization), request).await.is_ok()
}

/// Scenario: two hundred connections, as many as there may be, each with a request without credentials every 0.8 seconds.
/// Promise: senders that come then and have a token are answered at once.
#[tokio::test(flavor = "multi_thread")]
async fn connections_without_credentials() {
    let database = database().await;
    let sets = [&*format!("{GRPC}.max_connections=200"), "extensions.bearertokenauth.token=right"];
    let forebay = guarded(&database, "bearertokenauth", &sets).await;
    let mut crowd = JoinSet::new();
    for _ in 0..200 {
        let endpoint = forebay.endpoint();
        crowd.spawn(async move {
            loop {
                let sender = Sender::lazy(&endpoint);
                for _ in 0..4 {
                    let _ = sender.send_bytes(Bytes::new()).await;
                    sleep(Duration::from_millis(800)).await;
                }
            }
        });
    }
    forebay_turns_away(&forebay, "no_credentials", 400).await;
    let began = Instant::now();
    for newcomer in 0..5 {
        let sender = Sender::lazy(&forebay.endpoint());
        let numbers = newcomer * 10..newcomer * 10 + 10;
        let came = Instant::now();
        let taken = timeout(HANG, is_taken(&sender, "Bearer right", numbers)).await;
        assert_eq!(taken, Ok(true), "newcomer {newcomer}");
        assert_within(PROBE, came.elapsed(), "a newcomer's answer");
    }
    println!("five newcomers beside 200 strangers: {:.1?}", began.elapsed());
    assert!(crowd.try_join_next().is_none(), "the crowd goes on");
    crowd.shutdown().await;
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 50);
}

/// Waits until so many were turned away.
async fn forebay_turns_away(forebay: &Forebay, reason: &str, at_least: u64) {
    support::eventually("the crowd is there", || async {
        let turned_away = forebay.scrape().await.sum("log_receiver_turned_away_total", reason);
        (turned_away >= at_least).then_some(())
    })
    .await;
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
}

/// A request that has its headers and a MiB, and never ends.
struct Guess {
    _client: SendRequest<Bytes>,
    answer: ResponseFuture,
    _body: SendStream<Bytes>,
}

/// Begins a guess over a connection of its own.
async fn guess(endpoint: &str, password: &str) -> Guess {
    let stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut head = export_head();
    head.headers_mut().insert("authorization", basic("shop", password).parse().unwrap());
    let (answer, mut body) = client.send_request(head, false).unwrap();
    body.send_data(message(0, 2 << 20, &vec![0; 1 << 20]), false).unwrap();
    Guess { _client: client, answer, _body: body }
}

/// Scenario: five hundred connections guess the password of a sender, each with a MiB of a request, before that sender comes
/// for the first time. Promise: they take less than 64 MiB, and the sender gets in.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_with_large_requests() {
    let database = database().await;
    let hash = bcrypt::hash("right", 8).unwrap();
    let inline = format!("extensions.basicauth.htpasswd.inline='shop:{hash}'");
    let forebay = guarded(&database, "basicauth", &[&inline]).await;
    let before = forebay.peak();
    let (mut crowd, endpoint) = (JoinSet::new(), forebay.endpoint());
    for number in 0..500 {
        let endpoint = endpoint.clone();
        crowd.spawn(async move {
            let guess = guess(&endpoint, &format!("guess {number}")).await;
            let _ = guess.answer.await;
            std::future::pending::<()>().await;
        });
    }
    forebay_turns_away(&forebay, "verifier_busy", 300).await;
    let sender = forebay.sender().await;
    support::eventually("the sender gets in", || async {
        is_taken(&sender, &basic("shop", "right"), 0..10).await.then_some(())
    })
    .await;
    let took = forebay.peak() - before;
    println!("500 guesses with a MiB each took {} MiB", took / MIB);
    assert!(took < 64 * MIB, "{took} bytes");
    crowd.shutdown().await;
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10);
}
