//! Start and end: without a database, under load, asked twice, and with the sender waiting for the result.

use support::forebay::Forebay;
use support::postgres::{Postgres, database};
use support::records::numbered_request;
use support::sender::{Sender, Told, retry_delay};
use support::{eventually, stored};
use tokio::task::JoinSet;

use ::forebay::embedded::Stop;

/// Sends requests of ten records, one after the other, until one has no answer.
async fn send_until_cut_off(sender: Sender, first: u64) -> Told {
    let mut told = Told::default();
    let mut number = first;
    while told.unanswered == 0 && told.refused == 0 {
        sender.send_numbered(number..number + 10, &mut told).await;
        number += 10;
    }
    told
}

/// Scenario: four senders at full speed, SIGTERM in the middle. Guarantee: what was answered OK is stored, once;
/// the exit status is 0.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_nothing_that_was_answered() {
    let database = database().await;
    let sets = ["exporters.postgres.sending_queue.queue_size=1000000"];
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let mut senders = JoinSet::new();
    for index in 0..4 {
        senders.spawn(send_until_cut_off(forebay.sender().await, index * 1_000_000_000));
    }
    eventually("some records are written", || async {
        (forebay.scrape().await.value("log_buffer_flushed_total") > 5_000).then_some(())
    })
    .await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    let mut told = Told::default();
    senders.join_all().await.into_iter().for_each(|one| told.add(one));
    let stored = stored(&database).await;
    assert!(told.stored.len() > 500, "the senders got somewhere");
    stored.assert_holds_each_once(&told.stored);
}

/// Scenario: the database is down at the start, and comes up later. Guarantee: forebay listens, says why it is not
/// ready, accepts, and stores everything as soon as it can.
#[tokio::test(flavor = "multi_thread")]
async fn starts_without_a_database() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    postgres.stop(Stop::Fast).await;
    let forebay = Forebay::start(database.dsn(), &[]).await;
    forebay.becomes_unready("database_unreachable").await;
    let mut told = Told::default();
    forebay.sender().await.send_numbered(0..500, &mut told).await;
    assert_eq!(told.stored, [0..500], "it accepts all the same");
    let scrape = forebay.scrape().await;
    assert_eq!(scrape.value("log_buffer_size"), 500);
    scrape.assert_balanced();
    postgres.start_again().await;
    forebay.becomes_ready().await;
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 500);
    stored(&database).await.assert_holds_each_once(&told.stored);
}

/// Scenario: SIGTERM while the database is down. Guarantee: the end comes at the deadline, the loss is counted, said
/// and shown in the exit status.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_is_counted_and_shows_in_the_exit_status() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    postgres.stop(Stop::Fast).await;
    let forebay = Forebay::start(database.dsn(), &["exporters.postgres.shutdown_timeout=500ms"]).await;
    forebay.sender().await.send(numbered_request(0..70)).await.unwrap();
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(1));
    let lost = said.iter().find(|line| line.contains("records were lost")).expect("it is said");
    assert!(lost.contains(r#""undelivered":70"#), "{lost}");
    assert!(said.last().unwrap().contains(r#""received":70,"flushed":0,"dropped":70"#), "{said:#?}");
}

/// Scenario: SIGTERM where the database was never there and nothing is held. Guarantee: there is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_held_the_end_does_not_wait_for_the_database() {
    let nowhere = "host=127.0.0.1 port=1 user=nobody";
    let forebay = Forebay::start(nowhere, &["exporters.postgres.shutdown_timeout=10m"]).await;
    forebay.becomes_unready("database_unreachable").await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("deadline")), "{said:#?}");
}

/// Scenario: a drain that cannot succeed, and a second signal. Guarantee: it ends at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    postgres.stop(Stop::Fast).await;
    let mut forebay = Forebay::start(database.dsn(), &["exporters.postgres.shutdown_timeout=10m"]).await;
    forebay.sender().await.send(numbered_request(0..5)).await.unwrap();
    forebay.signal("INT").await;
    forebay.becomes_unready("draining").await;
    forebay.signal("TERM").await;
    // The drain has ten minutes, and a test has the patience for one.
    assert_eq!(forebay.ends().await.code(), Some(1));
}

/// Scenario: `enabled: false`, no database, and a sender that sends the same again after each refusal, as SDKs do; then
/// the database comes. Guarantee: what was refused is not written behind the sender's back, so that nothing is twice.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_queue_off_a_refusal_means_not_stored() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    postgres.stop(Stop::Fast).await;
    let sets = ["exporters.postgres.sending_queue.enabled=false", "exporters.postgres.timeout=200ms"];
    let forebay = Forebay::start(database.dsn(), &sets).await;
    let sender = forebay.sender().await;
    for _ in 0..3 {
        let refusal = sender.send(numbered_request(0..10)).await.unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::Unavailable);
    }
    postgres.start_again().await;
    forebay.becomes_ready().await;
    let told = eventually("the records are taken", || async {
        let mut told = Told::default();
        sender.send_numbered(0..10, &mut told).await;
        (!told.stored.is_empty()).then_some(told)
    })
    .await;
    forebay.settles().await;
    stored(&database).await.assert_holds_each_once(&told.stored);
}

/// Scenario: `enabled: false`. Guarantee: an OK means that the records are in PostgreSQL already; while the
/// database is away the answer is a refusal with a hint, and nothing of it is stored later.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_queue_off_an_answer_means_stored() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let sets = ["exporters.postgres.sending_queue.enabled=false", "exporters.postgres.timeout=1s"];
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let sender = forebay.sender().await;
    for number in 0..20 {
        let mut told = Told::default();
        sender.send_numbered(number..number + 1, &mut told).await;
        assert_eq!(told.stored.len(), 1);
        stored(&database).await.assert_holds_each_once(std::slice::from_ref(&(0..number + 1)));
    }
    postgres.stop(Stop::Fast).await;
    let refusal = sender.send(numbered_request(100..110)).await.unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::Unavailable);
    assert!(retry_delay(&refusal).is_some(), "{refusal:?}");
    postgres.start_again().await;
    forebay.becomes_ready().await;
    let scrape = forebay.settles().await;
    assert_eq!(scrape.sum("log_buffer_rejected_total", r#"reason="unavailable""#), 10);
    stored(&database).await.assert_holds_each_once(std::slice::from_ref(&(0..20)));
}
