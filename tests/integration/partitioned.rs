//! Partitioned tables that lack a partition for some rows. What must hold: such a row is a dead letter, whatever else is in its
//! batch; where it is the rows of now that have no partition, the table is at fault, and everything is held.

use forebay::otlp::messages::LogRecord;
use support::forebay::{Forebay, QUICK};
use support::metrics::Scrape;
use support::postgres::{Database, database};
use support::records::{numbered, request};
use tokio_postgres::Client;

const DAY: u64 = 86_400_000_000_000;
/// An existing table without partitions yet.
const TABLE: &str =
    "CREATE SCHEMA app; CREATE TABLE app.logs (at timestamptz NOT NULL, number integer NOT NULL, level text)
    PARTITION BY";
const MAPPING: &str = "exporters.postgres.table={name: app.logs, columns: {at: {field: time},
    number: {attribute: number, type: integer, default: -1}, level: {field: severity, default: INFO}}}";

/// An existing table that is partitioned `by`, with these partitions, and a forebay that writes to it.
async fn existing(by: &str, partitions: &[&str], sets: &[&str]) -> (Database, Client, Forebay) {
    let database = database().await;
    let client = database.connect().await;
    client.batch_execute(&format!("{TABLE} {by}")).await.unwrap();
    for (place, bounds) in partitions.iter().enumerate() {
        let partition = format!("CREATE TABLE app.logs_{place} PARTITION OF app.logs FOR VALUES {bounds}");
        client.batch_execute(&partition).await.unwrap();
    }
    let forebay = Forebay::ready(database.dsn(), &[QUICK, &[MAPPING], sets].concat()).await;
    (database, client, forebay)
}

/// A record of 1970.
fn old(number: u64) -> LogRecord {
    LogRecord { time_unix_nano: 5 * DAY + number, ..numbered(number) }
}

async fn send(forebay: &Forebay, records: impl Iterator<Item = LogRecord>) {
    forebay.sender().await.send(request(records.collect())).await.unwrap();
}

fn counts(page: &Scrape) -> [u64; 2] {
    ["flushed", "dead_lettered"].map(|what| page.value(&format!("log_buffer_{what}_total")))
}

async fn count(client: &Client, of: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {of}"), &[]).await.unwrap().get(0)
}

const OF_NOW: &[&str] = &["FROM ('2020-01-01') TO ('2200-01-01')"];

/// Scenario: an existing table without a default partition, from the very first batch on; one record of 1970 among five of now.
/// Promise: the five are stored, and that one is a dead letter with PostgreSQL's code.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_partition_costs_itself_only() {
    let (_database, client, forebay) = existing("RANGE (at)", OF_NOW, &[]).await;
    send(&forebay, (0..6).map(|number| if number == 2 { old(number) } else { numbered(number) })).await;
    assert_eq!(counts(&forebay.settles().await), [5, 1], "{:#?}", forebay.said());
    assert_eq!(count(&client, "app.logs").await, 5);
    let code: String = client.query_one("SELECT sqlstate FROM otel.dead_letters", &[]).await.unwrap().get(0);
    assert_eq!(code, "23514");
}

/// Scenario: the default partition of forebay's own table was dropped; one record of 1970 among five. Promise: the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_costs_itself_only_where_the_default_partition_was_dropped() {
    let database = database().await;
    let (forebay, client) = (Forebay::ready(database.dsn(), QUICK).await, database.connect().await);
    client.batch_execute("DROP TABLE otel.log_records_default").await.unwrap();
    send(&forebay, (0..6).map(|number| if number == 2 { old(number) } else { numbered(number) })).await;
    assert_eq!(counts(&forebay.settles().await), [5, 1], "{:#?}", forebay.said());
    assert_eq!(count(&client, "otel.log_records").await, 5);
}

/// Scenario: a single lane gets sixty records of 1970 in a row, with a few of now before them and behind. Promise: the table
/// takes what is of now, so that all sixty are dead letters and nothing is held.
#[tokio::test(flavor = "multi_thread")]
async fn many_records_without_a_partition_hold_nothing_up() {
    let one_lane = &["exporters.postgres.pool_size=1"];
    let (_database, client, forebay) = existing("RANGE (at)", OF_NOW, one_lane).await;
    send(&forebay, (0..5).map(numbered)).await;
    forebay.settles().await;
    send(&forebay, (5..65).map(old)).await;
    send(&forebay, (65..70).map(numbered)).await;
    assert_eq!(counts(&forebay.settles().await), [10, 60], "{:#?}", forebay.said());
    assert_eq!(count(&client, "app.logs").await, 10);
}

/// Scenario: a table that is partitioned by severity lacks the partition of one. Promise: its records are dead letters, more
/// than twenty of them as well, and the others are stored.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_value_without_a_partition_are_dead_letters() {
    let listed = &["IN ('TRACE', 'DEBUG', 'INFO', 'WARN')", "IN ('ERROR')"];
    let (_database, client, forebay) = existing("LIST (level)", listed, &[]).await;
    let fatal = |number| LogRecord { severity_number: 21, ..numbered(number) };
    let other = |number| LogRecord { severity_number: 9, ..numbered(number) };
    send(&forebay, (0..5).map(other).chain((5..35).map(fatal))).await;
    assert_eq!(counts(&forebay.settles().await), [5, 30], "{:#?}", forebay.said());
    assert_eq!(count(&client, "app.logs").await, 5);
}

/// Scenario: the table takes what is of now; then its partition is detached, while one of long ago stays, and attached again.
/// Promise: records of now are held; some of the first ones may be dead letters, and no further one; all others are stored.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_now_are_held_while_their_partition_is_missing() {
    let long_ago = "FROM ('1970-01-01') TO ('1971-01-01')";
    let (_database, client, forebay) = existing("RANGE (at)", &[OF_NOW[0], long_ago], &[]).await;
    send(&forebay, (0..10).map(old)).await;
    forebay.settles().await;
    send(&forebay, (10..20).map(numbered)).await;
    forebay.settles().await;
    client.batch_execute("ALTER TABLE app.logs DETACH PARTITION app.logs_0").await.unwrap();
    send(&forebay, (20..120).map(numbered)).await;
    forebay.becomes_unready("database_refuses").await;
    client
        .batch_execute(&format!("ALTER TABLE app.logs ATTACH PARTITION app.logs_0 FOR VALUES {}", OF_NOW[0]))
        .await
        .unwrap();
    let [flushed, dead] = counts(&forebay.settles().await);
    assert!(dead <= 40, "each of two lanes asks after twenty: {dead}");
    assert_eq!((flushed, count(&client, "app.logs").await), (120 - dead, (120 - dead) as i64));
}
