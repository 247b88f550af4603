//! Senders that are many, slow, or break HTTP/2, while good ones go on. What must hold: memory keeps its bound, and the
//! good senders notice nothing.

use std::iter::repeat_n;
use std::time::Duration;

use forebay::embedded::Stop;
use support::forebay::Forebay;
use support::postgres::Postgres;
use support::records::numbered_request;
use support::sender::{Answer, Sender, retry_delay};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::chance::{HANG, assert_within, either};
use crate::oracle::{Oracle, Sent, losses_are_written};
use crate::siege::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, RST_STREAM, SETTINGS, frame, head,
};
use crate::siege::{REQUEST_LIMIT_MIB, Siege, begin, export_head, flood, message, status};

/// ENHANCE_YOUR_CALM: the reason why HTTP/2 ends a connection that asks too much.
const CALM: u32 = 11;
const SECOND: Duration = Duration::from_secs(1);

/// A request whose message comes at a byte a second, for ever.
async fn drip(mut stream: TcpStream) {
    begin(&mut stream).await;
    let opened = frame(HEADERS, END_HEADERS, 1, &head());
    let announced = frame(DATA, 0, 1, &message(0, 1000, b""));
    let mut sent = stream.write_all(&[opened, announced].concat()).await;
    while sent.is_ok() {
        sleep(SECOND).await;
        sent = stream.write_all(&frame(DATA, 0, 1, b"x")).await;
    }
}

/// Fault 29. Scenario: a thousand connections that say nothing, or only that they speak HTTP/2, or a byte a second;
/// more than there may be. Promise: who comes after them gets a connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_says_little() {
    let most = "receivers.otlp.protocols.grpc.max_connections=700";
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[most]).await;
    let (mut silent, mut dripping) = (Vec::new(), JoinSet::new());
    for number in 0..1_000 {
        let mut stream = siege.connect().await;
        match number % 3 {
            0 => {}
            1 => begin(&mut stream).await,
            _ => {
                dripping.spawn(drip(stream));
                continue;
            }
        }
        silent.push(stream);
    }
    // By then those who say nothing at all have not been cut for that.
    let (late, came) = (Sender::lazy(&siege.endpoint()), Instant::now());
    let answer = timeout(HANG, late.send(numbered_request(0..0))).await;
    answer.expect("a connection").expect("and an answer");
    let waited = came.elapsed();
    assert_within(8 * SECOND, waited, "a connection and an answer");
    siege.scene.flushes(either(5_000, 100_000)).await;
    drop((silent, dripping));
    let what = format!("fault 29, 1,000 connections that say little, a new one waited {waited:.1?}");
    siege.ends(&what, Oracle::default()).await;
}

/// Fault 29. Scenario: a thousand connections announce two MiB each, and send one of them, which is as much
/// as flow control lets them. Promise: all of them together take what requests may take, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_sends_much() {
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[]).await;
    let opened = [frame(HEADERS, END_HEADERS, 1, &head()), frame(DATA, 0, 1, &message(0, 2 << 20, b""))];
    let some = frame(DATA, 0, 1, &[0; 16 << 10]).repeat(63);
    let mut crowd = JoinSet::new();
    for _ in 0..1_000 {
        let (mut stream, opened, some) = (siege.connect().await, opened.concat(), some.clone());
        crowd.spawn(async move {
            begin(&mut stream).await;
            stream.write_all(&opened).await.expect("the beginning is taken");
            stream.write_all(&some).await.expect("what flow control allows is taken");
            stream
        });
    }
    let all = crowd.join_all().await;
    siege.scene.flushes(either(2_000, 100_000)).await;
    drop(all);
    siege.ends("fault 29, 1,000 connections that send a MiB each", Oracle::default()).await;
}

/// Fault 29. Scenario: ten thousand streams whose messages are announced and do not come. Promise: what has no room is
/// sent back with a hint.
#[tokio::test(flavor = "multi_thread")]
async fn streams_without_end() {
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[]).await;
    let (mut open, mut answers) = (Vec::new(), JoinSet::new());
    for _ in 0..100 {
        let mut client = siege.streams().await;
        for _ in 0..100 {
            client = client.ready().await.unwrap();
            let (answer, mut body) = client.send_request(export_head(), false).unwrap();
            body.send_data(message(0, 1 << 20, b"x"), false).unwrap();
            answers.spawn(answer);
            open.push(body);
        }
    }
    siege.scene.flushes(either(5_000, 100_000)).await;
    let mut refused = 0;
    while let Some(answer) = answers.try_join_next() {
        let status = status(answer.unwrap().unwrap().headers());
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(retry_delay(&status).is_some(), "{status:?}");
        refused += 1;
    }
    assert!(refused > 0, "there is no room for ten thousand");
    let page = siege.scene.forebay.scrape().await;
    let counted = page.sum("log_buffer_unread_requests_total", "reason=\"no_room\"");
    assert!(counted >= refused, "{refused} were sent back and {counted} counted");
    drop((open, answers));
    siege.ends(&format!("fault 29, 10,000 streams, {refused} sent back"), Oracle::default()).await;
}

/// Fault 29. Scenario: frames of HTTP/2 that cost their sender little: streams that are reset at once, DATA without
/// data, headers without an end. Promise: who does that loses the connection.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames() {
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[]).await;
    let cancel = 8_u32.to_be_bytes();
    let resets = (0..100_000).map(|number| {
        let stream = 2 * number + 1;
        let open = frame(HEADERS, END_HEADERS, stream, &head());
        [open, frame(RST_STREAM, 0, stream, &cancel)].concat()
    });
    let empty = repeat_n(frame(DATA, 0, 1, &[]), 1_000_000);
    let endless = frame(HEADERS, 0, 1, &head());
    let more = repeat_n(frame(CONTINUATION, 0, 1, &[0x00, 1, b'a', 1, b'b'].repeat(2_000)), 100_000);
    let opened = frame(HEADERS, END_HEADERS, 1, &head());
    let (resets, empty, more) = tokio::join!(
        flood(siege.connect().await, resets),
        flood(siege.connect().await, std::iter::once(opened).chain(empty)),
        flood(siege.connect().await, std::iter::once(endless).chain(more)),
    );
    // What is still on its way when a connection is closed resets it, and then the reason may not arrive.
    for reason in [resets, empty, more] {
        assert!(reason.is_none_or(|reason| reason == CALM), "{reason:?}");
    }
    // These are answered, one by one, for as long as somebody reads the answers.
    for kind in [PING, SETTINGS] {
        let payload = if kind == PING { &[0; 8][..] } else { &[] };
        let mut stream = siege.connect().await;
        begin(&mut stream).await;
        let frames = frame(kind, 0, 0, payload).repeat(100_000);
        let _ = timeout(either(1, 20) * SECOND, stream.write_all(&frames)).await;
    }
    println!("resets, empty DATA, endless headers: the reason is {resets:?}, {empty:?}, {more:?}");
    siege.ends("fault 29, floods of frames", Oracle::default()).await;
}

/// Sends until all of it is taken, as often and as late as it is told to.
async fn persist(endpoint: String, first: u64) -> Oracle {
    let (sender, mut oracle) = (Sender::lazy(&endpoint), Oracle::default());
    for numbers in [first..first + 60, first + 60..first + 120] {
        let mut answers = Vec::new();
        while !matches!(answers.last(), Some(Answer::Taken { .. })) {
            let sent = Instant::now();
            let answer = sender.send(numbered_request(numbers.clone())).await;
            oracle.waits.push(sent.elapsed());
            let hint = answer.as_ref().err().and_then(retry_delay);
            answers.push(Answer::of(answer));
            sleep(hint.unwrap_or_default()).await;
        }
        oracle.requests.push(Sent { numbers, answers });
    }
    oracle
}

/// Fault 32. Scenario: after an outage two hundred senders come back with all that they have kept, more than fits.
/// Promise: they are told to come back at different times, and all of it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_herd_after_an_outage() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let reject = "exporters.postgres.sending_queue.overflow=reject";
    let forebay = Forebay::ready(database.dsn(), &[reject]).await;
    postgres.stop(Stop::Fast).await;
    let mut herd = JoinSet::new();
    for sender in 0..200 {
        herd.spawn(persist(forebay.endpoint(), sender * 1_000));
    }
    forebay.becomes_unready("database_unreachable").await;
    sleep(either(2, 300) * SECOND).await;
    postgres.start_again().await;
    let mut oracle = Oracle::default();
    herd.join_all().await.into_iter().for_each(|one| oracle.add(one));
    let page = forebay.settles().await;
    let account = oracle.settle(&database, &page).await;
    println!("fault 32, a herd of 200: {account}");
    assert_eq!((account.stored, account.copies), (24_000, 0), "{account}");
    assert!(account.again > 0, "nobody was sent back: {account}");
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    losses_are_written(&database, &page).await;
}
