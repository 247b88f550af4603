//! The partitions: days and hours, and the way from one to the other.

use ::forebay::otlp::messages::LogRecord;
use ::forebay::table::partition::{Period, Width};
use support::forebay::{Forebay, run};
use support::postgres::{Database, database};
use support::records::{now, numbered, request};
use tokio_postgres::Client;

const HOUR: u64 = 3_600_000_000_000;
pub const DAY: u64 = 24 * HOUR;
const HOURS: &str = "exporters.postgres.partition=hour";

/// Stores a record of each of these times.
pub async fn store(forebay: &Forebay, times: impl IntoIterator<Item = u64>) {
    let record = |(number, time_unix_nano)| LogRecord { time_unix_nano, ..numbered(number) };
    let records: Vec<_> = (0..).zip(times).map(record).collect();
    forebay.sender().await.send(request(records)).await.unwrap();
    forebay.settles().await;
}

pub async fn count(client: &Client, what: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {what}"), &[]).await.unwrap().get(0)
}

/// The partition of the day that is so many ago.
pub fn partition(days_ago: u64) -> String {
    let seconds = ((now() - days_ago * DAY) / 1_000_000_000) as i64;
    Period::at(seconds, Width::Day).name()
}

/// A store with a record of each of these days.
pub async fn with_days(ago: &[u64]) -> (Database, Client) {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    store(&forebay, ago.iter().map(|days| now() - days * DAY)).await;
    forebay.terminate().await;
    let client = database.connect().await;
    (database, client)
}

/// Whether the schema has this table.
pub async fn exists(client: &Client, table: &str) -> bool {
    client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("otel.{table}")]).await.unwrap().get(0)
}

/// The partitions of this width, by their names.
async fn named(client: &Client, pattern: &str) -> i64 {
    let partitions =
        "pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'otel.log_records'::regclass";
    count(client, &format!("{partitions} AND relname ~ '^log_records_{pattern}$'")).await
}

const DAYS_NAME: &str = "\\d{8}";
const HOURS_NAME: &str = "\\d{8}_\\d\\d";

/// Scenario: partitions of an hour. Guarantee: this hour and the next 24 are made at start, past ones on demand as far
/// back as makes sense, and each row is in that of its hour.
#[tokio::test(flavor = "multi_thread")]
async fn hours_have_partitions() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[HOURS]).await;
    let client = database.connect().await;
    let (before, began) = (named(&client, HOURS_NAME).await, now());
    assert!((25..=26).contains(&before), "{before}: the clock may have struck meanwhile");
    store(&forebay, [began - 30 * HOUR, began - 2 * HOUR, began, began - 80 * HOUR]).await;
    assert_eq!(named(&client, HOURS_NAME).await, before + 2);
    assert_eq!(count(&client, "otel.log_records_default").await, 1, "what is too long ago");
    let odd = "otel.log_records WHERE tableoid::regclass::text \
               <> to_char(time AT TIME ZONE 'UTC', '\"otel.log_records_\"YYYYMMDD_HH24')";
    assert_eq!(count(&client, odd).await, 1, "each but that one is in the partition of its hour");
}

/// Scenario: a store with days goes on with hours, and one with hours goes on with days. Guarantee: what is there
/// stays, days that were begun by hours are ended by hours, and no row lands in the default partition.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_goes_on_with_another_width() {
    let days = ["exporters.postgres.partition=day"];
    for (first, then) in [(&days, &[HOURS]), (&[HOURS], &days)] {
        let database = database().await;
        let client = database.connect().await;
        let began = now();
        let times = (0..48).map(|hour| began - DAY + hour * HOUR);
        let forebay = Forebay::ready(database.dsn(), first).await;
        store(&forebay, [began - 26 * HOUR, began]).await;
        forebay.terminate().await;
        let forebay = Forebay::ready(database.dsn(), then).await;
        store(&forebay, times).await;
        assert_eq!(count(&client, "otel.logs").await, 50);
        assert_eq!(count(&client, "otel.log_records_default").await, 0, "{first:?}, then {then:?}");
        let (days, hours) = (named(&client, DAYS_NAME).await, named(&client, HOURS_NAME).await);
        if then == &[HOURS] {
            assert!(days >= 5 && hours <= 24, "{days} days, {hours} hours: the days that were there serve");
        } else {
            assert!(days >= 2 && hours >= 48, "{days} days, {hours} hours: begun days are completed");
        }
    }
}

/// Scenario: a store with a closed day, one that is written, one that is partitioned by hand, and rows in the default
/// partition; a maximal age. Guarantee: `forebay partitions` tells of each what it holds and what happens to it next, with the
/// sum of all, to people and programs, over one connection.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shown_with_what_happens_next() {
    let (database, client) = with_days(&[40, 2, 0, 0]).await;
    let (closed, today) = (partition(2), partition(0));
    client
        .batch_execute(&format!("CREATE INDEX {closed}_service_idx ON otel.{closed} (resource_id, time)"))
        .await
        .unwrap();
    let ran = run(database.dsn(), "partitions --json", &["exporters.postgres.retention.max_age=720h"]).await;
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let lines = ran.json();
    let of =
        |name: &str| lines.iter().find(|line| line["partition"] == name).unwrap_or_else(|| panic!("{ran:?}"));
    let line = of(&closed);
    assert_eq!(line["indexes"], serde_json::json!(["errors", "service"]), "{line}");
    assert_eq!(line["missing"], serde_json::json!(["trace_id", "attributes"]), "{line}");
    assert_eq!(line["next"], "indexes: trace_id next");
    assert_eq!(of(&today)["next"], "being written");
    assert_eq!(of(&today)["rows_estimated"].as_i64().unwrap_or(2), 2);
    assert!(of("log_records_default")["next"].as_str().unwrap().starts_with("WARNING"), "{ran:?}");
    let ahead = lines.iter().filter(|line| line["next"] == "ahead").count();
    assert_eq!(ahead, 3);
    let total = &lines.last().unwrap()["total"];
    assert_eq!(total["partitions"], 6);
    let sum: u64 = lines.iter().filter_map(|line| line["table_bytes"].as_u64()).sum();
    assert_eq!(total["table_bytes"].as_u64(), Some(sum));
    let people = run(database.dsn(), "partitions", &[]).await;
    let said =
        people.out.lines().find(|line| line.starts_with(&closed)).unwrap_or_else(|| panic!("{people:?}"));
    assert!(said.contains("errors service, no trace_id attributes") && said.contains("KiB"), "{said}");
    assert!(people.out.lines().last().unwrap().starts_with("6 partitions"), "{people:?}");
    let nowhere = run(database.dsn(), "partitions", &["exporters.postgres.schema=nowhere"]).await;
    assert_eq!(nowhere.status, Some(0));
    assert!(nowhere.out.contains("0 partitions"), "{nowhere:?}");
}
