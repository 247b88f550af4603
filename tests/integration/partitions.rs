//! The partitions: days and hours, and the way from one to the other.

use ::forebay::otlp::messages::LogRecord;
use ::forebay::table::partition::{Period, Width};
use tokio_postgres::Client;

use crate::support::forebay::Forebay;
use crate::support::postgres::{Database, database};
use crate::support::records::{now, numbered, request};

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
