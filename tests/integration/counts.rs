//! The counts of closed partitions: kept exact whatever comes late, goes or changes, and what the histogram takes from them.

use std::cell::Cell;

use ::forebay::otlp::messages::LogRecord;
use support::eventually;
use support::forebay::{Forebay, QUICK};
use support::postgres::{Database, database};
use support::records::{now, numbered, request};
use tokio_postgres::Client;

use crate::partitions::{DAY, count, partition};
use crate::reading::first_column;

const MINUTE: u64 = 60_000_000_000;

/// The day before yesterday's beginning, in nanoseconds since 1970.
fn closed_day() -> u64 {
    (now() / DAY - 2) * DAY
}

/// Sends records of these times, with the severities in turn.
async fn send(forebay: &Forebay, times: impl IntoIterator<Item = u64>) {
    let severities = [0, 9, 9, 13, 17, 30];
    let record = |(number, time_unix_nano): (u64, u64)| LogRecord {
        time_unix_nano,
        severity_number: severities[number as usize % severities.len()],
        ..numbered(number)
    };
    let records: Vec<_> = (0..).zip(times).map(record).collect();
    forebay.sender().await.send(request(records)).await.unwrap();
    forebay.settles().await;
}

const COUNTED: &str = "otel.counted('-infinity', 'infinity')";

/// Waits until all three closed days are counted.
pub async fn are_counted(client: &Client) {
    eventually("they are counted", || async { (count(client, COUNTED).await == 3).then_some(()) }).await;
}

/// What `otel.histogram` answers at one moment, by the counts and without them.
async fn both_ways(client: &Client, arguments: &str) -> [Vec<String>; 2] {
    let select = format!(
        "SELECT concat_ws(' ', bucket, coalesce(severity, '-'), records) FROM otel.histogram({arguments})"
    );
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let counted = first_column(client, &select).await;
    client.batch_execute("ALTER TABLE otel.log_counts RENAME TO not_there").await.unwrap();
    let scanned = first_column(client, &select).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    [counted, scanned]
}

/// Asks in several ways; each answer is the same by the counts and by the records.
async fn agrees(client: &Client) {
    let at = |minutes: u64, seconds: u64| {
        format!("to_timestamp({})", closed_day() / 1_000_000_000 + minutes * 60 + seconds)
    };
    let (day, next) = (at(0, 0), at(1440, 0));
    for arguments in [
        format!("'1 minute', {day}, {next}"),
        format!("'5 minutes', {}, {}", at(3, 17), at(1443, 59)),
        format!("'1 hour', {day} - interval '3 days', now()"),
        format!("'1 day', {day}, {next}, service => 'shop'"),
        format!("'1 minute', {day}, {next}, service => 'nobody'"),
        format!("'7 minutes', {}, {}, min_severity => 'WARN'", at(0, 1), at(100, 0)),
        format!("'1 minute', {}, {}", at(2, 10), at(2, 50)),
        format!("'10 seconds', {}, {}", at(0, 0), at(9, 0)),
        format!("'1 minute', {day}, {next}, text => 'record 1'"),
    ] {
        let [counted, scanned] = both_ways(client, &arguments).await;
        assert_eq!(counted, scanned, "{arguments}");
    }
}

/// A store with a closed day of 500 records, some of them in one minute, and a few of other days.
async fn closed() -> (Database, Client, String) {
    let (database, day) = (database().await, closed_day());
    let forebay =
        Forebay::ready(database.dsn(), &[QUICK, &["exporters.postgres.counts=false"]].concat()).await;
    let spread = (0..400).map(|number| day + number * 3 * MINUTE + number * 1_000_003);
    let dense = (0..100).map(|number| day + 5 * MINUTE + number * 999_999_937);
    let others = [day - 1, day + DAY, day + DAY + 90 * MINUTE, now()];
    send(&forebay, spread.chain(dense).chain(others)).await;
    forebay.terminate().await;
    let client = database.connect().await;
    client.batch_execute("SET TimeZone = 'Asia/Kathmandu'").await.unwrap();
    (database, client, partition(2))
}

/// Scenario: a store whose days are counted by a forebay that is allowed to; then records come late, are deleted, updated,
/// and all truncated. Guarantee: the histogram says by the counts what the records themselves say, each time; with
/// `counts: false` there are none.
#[tokio::test(flavor = "multi_thread")]
async fn the_histogram_is_the_same_by_counts_and_by_records() {
    let (database, client, name) = closed().await;
    assert_eq!(count(&client, "otel.log_counts").await, 0);
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    are_counted(&client).await;
    agrees(&client).await;
    let by_counts = format!(
        "SELECT records FROM otel.histogram('1 day', {0}, {0} + interval '1 day') WHERE severity = 'INFO'",
        format_args!("to_timestamp({})", closed_day() / 1_000_000_000)
    );
    let before = first_column(&client, &by_counts).await;
    // That it is the counts which are read.
    client
        .batch_execute("BEGIN; UPDATE otel.log_counts SET counts = '{7777}' WHERE severity_number = 9")
        .await
        .unwrap();
    assert_ne!(first_column(&client, &by_counts).await, before);
    client.batch_execute("ROLLBACK").await.unwrap();
    send(&forebay, (0..70).map(|number| closed_day() + number * 7 * MINUTE)).await;
    assert_eq!(count(&client, "otel.log_counts WHERE is_late").await, 70);
    agrees(&client).await;
    for change in [
        "DELETE FROM otel.log_records WHERE body LIKE '%3%'",
        "UPDATE otel.log_records SET severity_number = 5 WHERE severity_number = 13",
        &format!(
            "UPDATE otel.log_records SET time = time + interval '1 minute', time_unix_nano = time_unix_nano + {MINUTE} WHERE body LIKE '%17%'"
        ),
        &format!("TRUNCATE otel.{name}"),
    ] {
        client.batch_execute(change).await.unwrap();
        agrees(&client).await;
    }
    send(&forebay, [closed_day() + 9]).await;
    agrees(&client).await;
}

/// Scenario: records come late all the time, while a partition is counted and counted again. Guarantee: no record is counted
/// twice or not at all, in no moment; what has come late is folded in.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_while_it_is_counted_are_counted_once() {
    let (database, client, name) = closed().await;
    // A sender that waits for its records leaves room to count.
    let waiting = [QUICK, &["exporters.postgres.sending_queue.enabled=false"]].concat();
    let forebay = Forebay::ready(database.dsn(), &waiting).await;
    let sender = forebay.sender().await;
    let has_seen = Cell::new(false);
    let late = async {
        while !has_seen.get() {
            let record =
                |number| LogRecord { time_unix_nano: closed_day() + number * MINUTE, ..numbered(number) };
            sender.clone().send(request((0..200).map(record).collect())).await.unwrap();
        }
    };
    let looks = async {
        are_counted(&client).await;
        for _ in 0..10 {
            agrees(&client).await;
        }
        has_seen.set(true);
    };
    tokio::join!(late, looks);
    forebay.settles().await;
    agrees(&client).await;
    forebay.terminate().await;
    assert!(count(&client, "otel.log_counts WHERE is_late").await > 0);
    let day = closed_day() / 1_000_000_000;
    let more = format!(
        "INSERT INTO otel.log_records SELECT r.* FROM (SELECT * FROM otel.log_records WHERE time >= to_timestamp({day}) \
         AND time < to_timestamp({day} + 86400) LIMIT 1) r, generate_series(0, 10000)"
    );
    client.batch_execute(&more).await.unwrap();
    let late = format!("otel.log_counts WHERE is_late AND partition_key LIKE '{name}/%'");
    let _forebay = Forebay::ready(database.dsn(), QUICK).await;
    eventually("late ones are folded in", || async { (count(&client, &late).await == 0).then_some(()) })
        .await;
    agrees(&client).await;
}

/// Scenario: a reader who may read the view alone; a DBA who disables the trigger; a partition that is renamed, one that is
/// detached and attached, and one of which a copy takes the place. Guarantee: the answers stay right, and the copy is counted again.
#[tokio::test(flavor = "multi_thread")]
async fn counts_that_cannot_be_relied_on_are_not_read() {
    let (database, client, name) = closed().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    are_counted(&client).await;
    forebay.terminate().await;
    client.batch_execute(&format!("ALTER TABLE otel.{name} RENAME TO renamed")).await.unwrap();
    agrees(&client).await;
    let day = closed_day() / 1_000_000_000;
    let bounds = format!("FOR VALUES FROM (to_timestamp({day})) TO (to_timestamp({}))", day + 86_400);
    client.batch_execute("ALTER TABLE otel.log_records DETACH PARTITION otel.renamed").await.unwrap();
    agrees(&client).await;
    client.batch_execute("DELETE FROM otel.renamed WHERE severity_number = 9").await.unwrap();
    client
        .batch_execute(&format!("ALTER TABLE otel.log_records ATTACH PARTITION otel.renamed {bounds}"))
        .await
        .unwrap();
    agrees(&client).await;
    assert_eq!(count(&client, COUNTED).await, 3, "and still by counts");
    client.batch_execute("ALTER TABLE otel.renamed DISABLE TRIGGER USER; DELETE FROM otel.renamed WHERE severity_number = 17")
        .await.unwrap();
    agrees(&client).await;
    let comment = "SELECT obj_description(oid, 'pg_trigger') FROM pg_trigger WHERE tgrelid = 'otel.renamed'::regclass AND tgtype & 1 = 1";
    let comment = first_column(&client, comment).await.remove(0);
    let key = comment.strip_prefix("counted as ").unwrap();
    // As pg_restore would make it.
    let copy = format!(
        "CREATE TABLE otel.copy (LIKE otel.renamed INCLUDING ALL); INSERT INTO otel.copy SELECT * FROM otel.renamed LIMIT 100;
        DROP TABLE otel.renamed; ALTER TABLE otel.log_records ATTACH PARTITION otel.copy {bounds};
        CREATE TRIGGER forebay_keep_counts AFTER INSERT OR DELETE ON otel.copy FOR EACH ROW EXECUTE FUNCTION otel.keep_counts('{key}');
        CREATE TRIGGER forebay_empty_counts AFTER TRUNCATE ON otel.copy EXECUTE FUNCTION otel.keep_counts('{key}');
        COMMENT ON TRIGGER forebay_keep_counts ON otel.copy IS '{comment}'"
    );
    client.batch_execute(&copy).await.unwrap();
    agrees(&client).await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    are_counted(&client).await;
    agrees(&client).await;
    forebay.terminate().await;
    let left = format!("otel.log_counts WHERE partition_key = '{key}'");
    assert_eq!(count(&client, &left).await, 0, "what is gone has no counts");
    let role = format!("reader_{}", database.name());
    let reads = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA otel TO {role}; GRANT SELECT ON otel.logs TO {role}; SET ROLE {role}"
    );
    let select = format!(
        "SELECT sum(records) FROM otel.histogram('1 day', to_timestamp({day}), to_timestamp({}))",
        day + 86_400
    );
    let by_counts = first_column(&client, &select).await;
    client.batch_execute(&reads).await.unwrap();
    assert_eq!(first_column(&client, &select).await, by_counts);
}
