//! Two forebays behind nginx: one restarted after the other, one killed, and connections that spread again.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::forebay::{Forebay, QUICK};
use support::postgres::{Database, database};
use support::records::numbered_request;
use support::{eventually, free_port};

use crate::nginx::{Nginx, Spread};
use crate::sdks::{Sdk, Transport, say};
use crate::sender::{Report, Sender, Work};
use crate::stress::{Scene, scenes};

/// Records that are sent once one of two forebays is gone: fewer than the 2,048 that an SDK's queue holds, with those before.
const AFTER: u64 = 1000;

/// What the end of a forebay says of its records.
#[derive(Clone, Copy, Debug, Default)]
struct Books {
    received: u64,
    flushed: u64,
    dropped: u64,
    rejected: u64,
}

/// SDKs whose exporters send again until somebody is there.
fn is_patient(Scene { sdk, transport }: Scene) -> bool {
    matches!(sdk, Sdk::Python | Sdk::Java) || (sdk, transport) == (Sdk::Go, Transport::Grpc)
}

/// Scenario: two forebays behind nginx, each SDK sends all the while; first one of them is restarted, then the other.
/// Guarantee: what was exported is stored, once; the books of all four runs balance, and both forebays had their share.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart() {
    let mut lines = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    scenes().for_each(|scene| drop(running.spawn(restarted(scene))));
    for (scene, report, stored, books) in running.join_all().await {
        assert_eq!(report.emitted, report.exported + report.failed, "{scene:?}: {report:?}");
        assert_eq!(stored, (report.exported, report.exported), "{scene:?}: {report:?}");
        assert!(report.failed == 0 || !is_patient(scene), "{scene:?}: {report:?}");
        let shares = books.map(|books| books.flushed);
        assert_eq!(shares.iter().sum::<u64>(), stored.0, "{scene:?}: what is counted as written is stored");
        assert!(books.iter().all(|books| books.dropped == 0), "{scene:?}: {books:?}");
        assert!(shares[2] > 0 && shares[3] > 0, "{scene:?}: both new ones have their share: {shares:?}");
        lines.push(line(scene, &report, stored, &shares));
    }
    say(&table("A rolling restart of two forebays behind nginx", "each run has written", lines));
}

async fn restarted(scene: Scene) -> (Scene, Report, (u64, u64), [Books; 4]) {
    let database = database().await;
    let [first, second] = pair(&database, &[]).await;
    let forebays = [first, second];
    let nginx = Nginx::before(&forebays, Spread::Requests).await;
    let mut sender =
        Sender::start(scene.sdk, scene.transport, &nginx.endpoint(scene.transport), Work::Numbers);
    let through = AtomicBool::new(false);
    let sending = async {
        while !through.load(Ordering::Relaxed) {
            sender.emit(20).await;
            pace().await;
        }
    };
    let restarting = async {
        let mut books = Vec::new();
        let mut again = Vec::new();
        for forebay in forebays {
            moves(&forebay, &format!("{scene:?}, before")).await;
            let at = at_the_same_place(&forebay);
            books.push(ended(forebay).await);
            let forebay =
                Forebay::ready(database.dsn(), &[QUICK, &at.each_ref().map(String::as_str)].concat()).await;
            moves(&forebay, &format!("{scene:?}, after")).await;
            again.push(forebay);
        }
        through.store(true, Ordering::Relaxed);
        (books, again)
    };
    let ((), (mut books, again)) = tokio::join!(sending, restarting);
    let (_, report) = sender.end().await;
    for forebay in again {
        books.push(ended(forebay).await);
    }
    (scene, report, stored(&database).await, books.try_into().expect("four runs"))
}

/// Scenario: two forebays behind nginx that answer when the records are stored; one is killed while each SDK sends.
/// Guarantee: everything of which the SDK says that it was exported is stored. What was stored and not answered any
/// more may be so twice, because the SDK sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica() {
    let mut lines = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    scenes().for_each(|scene| drop(running.spawn(killed(scene))));
    for (scene, report, stored) in running.join_all().await {
        let (rows, records) = stored;
        assert_eq!(report.emitted, report.exported + report.failed, "{scene:?}: {report:?}");
        assert!(records >= report.exported, "{scene:?}: {records} of {report:?}");
        assert!(records <= report.emitted && rows >= records, "{scene:?}");
        assert!(report.failed == 0 || !is_patient(scene), "{scene:?}: {report:?}");
        lines.push(line(scene, &report, stored, &[]));
    }
    say(&table("One of two forebays behind nginx is killed (`sending_queue.enabled: false`)", "", lines));
}

async fn killed(scene: Scene) -> (Scene, Report, (u64, u64)) {
    let database = database().await;
    let forebays = pair(&database, &["exporters.postgres.sending_queue.enabled=false"]).await;
    let nginx = Nginx::before(&forebays, Spread::Requests).await;
    let mut sender =
        Sender::start(scene.sdk, scene.transport, &nginx.endpoint(scene.transport), Work::Numbers);
    let [first, second] = forebays;
    // In two batches, for each of the two has to have its share.
    for _ in 0..2 {
        let before = received(&first).await + received(&second).await;
        sender.emit(AFTER / 4).await;
        eventually("a batch arrives", || async {
            (received(&first).await + received(&second).await > before).then_some(())
        })
        .await;
    }
    first.signal("KILL").await;
    for _ in 0..AFTER / 20 {
        sender.emit(20).await;
        pace().await;
    }
    let (_, report) = sender.end().await;
    second.settles().await;
    (scene, report, stored(&database).await)
}

/// Scenario: eight connections over a proxy that does not look into them; one of two forebays is away for a while, so that
/// all of them go to the other one. Guarantee: with `max_connection_age` they come back to it by themselves, and no
/// request is lost over that.
#[tokio::test(flavor = "multi_thread")]
async fn long_connections_spread_again() {
    let age = ["grpc"].map(|protocol| {
        format!("receivers.otlp.protocols.{protocol}.keepalive.server_parameters.max_connection_age=500ms")
    });
    let sets: Vec<_> = age.iter().map(String::as_str).collect();
    let database = database().await;
    let [first, second] = pair(&database, &sets).await;
    let forebays = [first, second];
    let nginx = Nginx::before(&forebays, Spread::Connections).await;
    let [first, second] = forebays;
    let endpoint = nginx.endpoint(Transport::Grpc);
    let at = at_the_same_place(&second);
    let through = AtomicBool::new(false);
    let sending = async {
        let senders = (0..8_u64).map(|number| send_until(&through, &endpoint, number << 32));
        futures_util::future::join_all(senders).await
    };
    let changing = async {
        moves(&second, "eight connections").await;
        let away = ended(second).await;
        let alone = received(&first).await;
        eventually("one forebay takes everything", || async {
            (received(&first).await > alone + 200).then_some(())
        })
        .await;
        let back =
            Forebay::ready(database.dsn(), &[QUICK, &sets, &at.each_ref().map(String::as_str)].concat())
                .await;
        let share = eventually("both have a good share", || async {
            let before = [received(&first).await, received(&back).await];
            eventually("some requests later", || async {
                let now = [received(&first).await, received(&back).await];
                (now[0] + now[1] > before[0] + before[1] + 400).then_some(())
            })
            .await;
            let more = [received(&first).await - before[0], received(&back).await - before[1]];
            let share = more[1] as f64 / (more[0] + more[1]) as f64;
            (0.25..0.75).contains(&share).then_some(share)
        })
        .await;
        through.store(true, Ordering::Relaxed);
        (away, back, share)
    };
    let (sent, (away, back, share)) = tokio::join!(sending, changing);
    let sent: u64 = sent.into_iter().sum();
    let flushed = away.flushed + ended(first).await.flushed + ended(back).await.flushed;
    let rows: i64 = {
        let client = database.connect().await;
        client
            .query_one("SELECT count(DISTINCT attributes->'number') FROM otel.logs", &[])
            .await
            .unwrap()
            .get(0)
    };
    assert_eq!(rows as u64, sent, "each request that was answered is stored");
    say(&format!(
        "Eight connections spread again: {:.0} % on the forebay that was away; {sent} records, {flushed} written\n\n",
        share * 100.0
    ));
}

/// Sends requests of ten records over one connection, each until it is taken; gives the number of records.
async fn send_until(through: &AtomicBool, endpoint: &str, first: u64) -> u64 {
    let sender = support::sender::Sender::lazy(endpoint);
    let mut sent = 0;
    while !through.load(Ordering::Relaxed) {
        let numbers = first + sent..first + sent + 10;
        while sender.send(numbered_request(numbers.clone())).await.is_err() {
            pace().await;
        }
        sent += 10;
        pace().await;
    }
    sent
}

/// What keeps a sender from being a flood.
async fn pace() {
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
}

/// Two forebays, each at a place of its own that it can come back to.
async fn pair(database: &Database, sets: &[&str]) -> [Forebay; 2] {
    let places = [(); 2].map(|()| {
        ["grpc", "http"]
            .map(|protocol| format!("receivers.otlp.protocols.{protocol}.endpoint=127.0.0.1:{}", free_port()))
    });
    let [first, second] =
        places.each_ref().map(|place| [QUICK, sets, &place.each_ref().map(String::as_str)].concat());
    [Forebay::ready(database.dsn(), &first).await, Forebay::ready(database.dsn(), &second).await]
}

/// `--set` arguments by which another one takes its place.
fn at_the_same_place(forebay: &Forebay) -> [String; 2] {
    let grpc = forebay.endpoint().replace("http://", "");
    [("grpc", grpc.as_str()), ("http", forebay.http_address())]
        .map(|(protocol, address)| format!("receivers.otlp.protocols.{protocol}.endpoint={address}"))
}

async fn received(forebay: &Forebay) -> u64 {
    forebay.scrape().await.value("log_buffer_received_total")
}

/// Waits until it has received more than it has now, of `what`.
async fn moves(forebay: &Forebay, what: &str) {
    let before = received(forebay).await;
    eventually(&format!("it has its share of {what}"), || async {
        (received(forebay).await > before).then_some(())
    })
    .await;
}

/// Ends it by SIGTERM; gives what it says of its records then.
async fn ended(mut forebay: Forebay) -> Books {
    forebay.signal("TERM").await;
    let status = forebay.ends().await;
    assert_eq!(status.code(), Some(0), "{:#?}", forebay.said());
    eventually("it says what became of the records", || async {
        let said = forebay.said();
        let mut said = said.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = said.rfind(|event| event["message"] == "ended")?;
        let count = |name: &str| last[name].as_u64().unwrap();
        let books = Books {
            received: count("received"),
            flushed: count("flushed"),
            dropped: count("dropped"),
            rejected: count("rejected"),
        };
        assert_eq!(books.received, books.flushed + books.dropped + books.rejected, "{books:?}");
        Some(books)
    })
    .await
}

/// Rows, and different records among them.
async fn stored(database: &Database) -> (u64, u64) {
    let client = database.connect().await;
    let rows = "SELECT count(*), count(DISTINCT attributes->'number') FROM otel.logs WHERE body = 'numbered'";
    let row = client.query_one(rows, &[]).await.unwrap();
    (row.get::<_, i64>(0) as u64, row.get::<_, i64>(1) as u64)
}

fn line(scene: Scene, report: &Report, (rows, records): (u64, u64), shares: &[u64]) -> String {
    let Report { emitted, exported, failed, .. } = report;
    let shares: Vec<_> = shares.iter().map(u64::to_string).collect();
    let (sdk, transport) = (scene.sdk, scene.transport.name());
    format!(
        "| {sdk:?} {transport} | {emitted} | {exported} | {failed} | {records} | {} | {} |\n",
        rows - records,
        shares.join(", ")
    )
}

fn table(what: &str, last: &str, mut lines: Vec<String>) -> String {
    lines.sort();
    format!(
        "{what}:\n\n| | emitted | exported | failed | stored | twice | {last} |\n|---|---|---|---|---|---|---|\n{}\n",
        lines.concat()
    )
}
