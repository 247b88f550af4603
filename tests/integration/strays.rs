//! Records in the default partition: they get their partitions whenever these can be made, and are bounded until then.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use support::eventually;
use support::forebay::{Forebay, run};
use support::postgres::{Database, database};
use support::proxy::{Action, End, Proxy, Side};
use support::records::{now, numbered_request};
use tokio_postgres::Client;

use crate::partitions::{DAY, count, exists, partition, store, with_days};

/// A store whose default partition has `each` records of `bytes` bytes of each of these days.
async fn with_strays(days_ago: &[i64], each: u64, bytes: usize) -> (Database, Client) {
    let database = database().await;
    Forebay::ready(database.dsn(), &[]).await.terminate().await;
    let client = database.connect().await;
    for days in days_ago {
        stray(&client, *days, each, bytes).await;
    }
    (database, client)
}

/// Stores records of a day that is so many ago, past forebay.
async fn stray(client: &Client, days_ago: i64, each: u64, bytes: usize) {
    let nanos = now() as i64 - days_ago * DAY as i64;
    let insert = format!(
        "INSERT INTO otel.log_records (time, time_unix_nano, resource_id, scope_id, body, attributes) \
         SELECT to_timestamp({}), {nanos}, md5('r')::uuid, md5('s')::uuid, repeat(md5(i::text), {bytes} / 32), '{{}}' \
         FROM generate_series(1, {each}) i",
        nanos / 1_000_000_000
    );
    client.batch_execute(&insert).await.unwrap();
}

/// Waits until the partition of a day has so many records.
async fn has(client: &Client, days_ago: u64, expected: i64) {
    let name = partition(days_ago);
    eventually(&format!("{name} has {expected} records"), || async {
        let made = exists(client, &name).await;
        (made && count(client, &format!("otel.{name}")).await == expected).then_some(())
    })
    .await;
}

/// Scenario: records of ten and of four days ago, of a hundred days ago and of the year 2200 lie in the default partition; somebody
/// has given the table a constraint, a computed column and a trigger that fires at the end. Guarantee: the first two days get
/// their partitions with these records in them, as the table has them; the others stay where they are. No reader misses one
/// meanwhile, and two gateways that start at once do it once.
#[tokio::test(flavor = "multi_thread")]
async fn strays_of_days_near_now_get_their_partitions() {
    let (database, client) = with_strays(&[], 0, 0).await;
    let like_a_dba = "ALTER TABLE otel.log_records ADD CONSTRAINT short CHECK (length(body) < 100000),
            ADD COLUMN size int GENERATED ALWAYS AS (length(body)) STORED;
        CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER late AFTER INSERT OR DELETE ON otel.log_records DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION nothing()";
    client.batch_execute(like_a_dba).await.unwrap();
    for days in [10, 4, 100, -80_000] {
        stray(&client, days, 500, 64).await;
    }
    let start = || Forebay::ready(database.dsn(), &[]);
    let watched = async {
        for days in [10, 4] {
            eventually("a day has its partition, and none is missed", || async {
                assert_eq!(count(&client, "otel.log_records WHERE size = 64").await, 2000);
                exists(&client, &partition(days)).await.then_some(())
            })
            .await;
        }
    };
    let (one, other, ()) = tokio::join!(start(), start(), watched);
    for days in [10, 4] {
        has(&client, days, 500).await;
    }
    assert_eq!(count(&client, "otel.log_records_default").await, 1000);
    assert!(!exists(&client, &partition(100)).await);
    for forebay in [one, other] {
        let (_, said) = forebay.terminate().await;
        assert!(!said.iter().any(|line| line.contains("violated by some row")), "{said:#?}");
    }
}

/// Scenario: a default partition with 20 MB of a day, into which records of that day and of now are sent; somebody reads it in
/// a transaction that lasts. Guarantee: no lane waits for the move, all is written; once the reader is through, the day
/// has its partition with all of its records.
#[tokio::test(flavor = "multi_thread")]
async fn many_strays_hold_up_no_batch() {
    let (database, client) = with_strays(&[6], 20_000, 1024).await;
    let reader = database.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM otel.log_records_default").await.unwrap();
    let forebay = Forebay::ready(database.dsn(), &["processors.batch.timeout=10ms"]).await;
    store(&forebay, [now() - 6 * DAY, now()]).await;
    forebay.sender().await.send(numbered_request(0..100)).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 102);
    assert!(!exists(&client, &partition(6)).await);
    reader.batch_execute("COMMIT").await.unwrap();
    // The next try of its own comes in a minute at the latest, and at once after a start.
    forebay.terminate().await;
    let _forebay = Forebay::ready(database.dsn(), &[]).await;
    has(&client, 6, 20_001).await;
    assert_eq!(count(&client, "otel.log_records_default").await, 0);
}

/// Scenario: strays of two days; a table that somebody has detached has the name of one's partition. Guarantee: that day's stay
/// where they are, and it is said; the other day gets its partition, and so does the hour of a late record.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_cannot_have_a_partition_keeps_no_other() {
    let (database, client) = with_strays(&[8, 5], 10, 64).await;
    client.batch_execute(&format!("CREATE TABLE otel.{} (own int)", partition(8))).await.unwrap();
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    has(&client, 5, 10).await;
    store(&forebay, [now() - 3 * DAY, now() - 8 * DAY]).await;
    assert_eq!(count(&client, &format!("otel.{}", partition(3))).await, 1);
    assert_eq!(count(&client, "otel.log_records_default").await, 11);
    let (_, said) = forebay.terminate().await;
    let cannot =
        |line: &&String| line.contains("the partition cannot be made") && line.contains(&partition(8));
    assert!(said.iter().filter(cannot).count() >= 1, "{said:#?}");
}

/// How many rows of the default partition were deleted for this reason.
async fn deleted(forebay: &Forebay, reason: &str) -> u64 {
    let labels = format!("reason=\"{reason}\",table=\"log_records_default\"");
    forebay.scrape().await.sum("log_buffer_rows_deleted_total", &labels)
}

/// Waits until the default partition has so many records.
async fn default_has(client: &Client, expected: i64) {
    eventually(&format!("the default partition has {expected} records"), || async {
        (count(client, "otel.log_records_default").await == expected).then_some(())
    })
    .await;
}

/// Scenario: the default partition has records of a hundred days ago, of five days ago, of two days ago, whose partition cannot
/// be made, of five days ahead, and of two hundred years ahead; `max_age` is three days. Guarantee: those of two days ago and of five
/// days ahead stay, all others go one by one and are counted.
#[tokio::test(flavor = "multi_thread")]
async fn strays_go_by_age_one_by_one() {
    let (database, client) = with_strays(&[100, 5, 2, -3, -73_000], 100, 64).await;
    stray(&client, -1, 7, 64).await;
    client.batch_execute(&format!("CREATE TABLE otel.{} (own int)", partition(2))).await.unwrap();
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.retention.max_age=72h"]).await;
    default_has(&client, 100).await;
    assert_eq!(
        count(&client, "otel.log_records_default WHERE time BETWEEN now() - interval '3 days' AND now()")
            .await,
        100
    );
    eventually("all are counted", || async { (deleted(&forebay, "max_age").await == 300).then_some(()) })
        .await;
    assert_eq!(count(&client, "otel.log_records").await, 207, "and 107 are in partitions");
}

/// Scenario: two closed days, and fifty times as much of the year 2200, in a store whose `max_size` the days alone do not reach.
/// Guarantee: no day is dropped for them; they go, which is counted and said. Where a record of a day without a partition lies
/// among them, that one stays.
#[tokio::test(flavor = "multi_thread")]
async fn strays_beyond_their_share_go_before_any_day() {
    for kept in [0, 1] {
        let (database, client) = with_days(&[9, 5, 0]).await;
        client.batch_execute("VACUUM (FREEZE, ANALYZE) otel.log_records").await.unwrap();
        let days = "SELECT sum(pg_total_relation_size(inhrelid))::int8 FROM pg_inherits
            WHERE inhparent = 'otel.log_records'::regclass AND inhrelid <> 'otel.log_records_default'::regclass";
        let size: i64 = client.query_one(days, &[]).await.unwrap().get(0);
        stray(&client, -63_000, 10_000, 1024).await;
        stray(&client, 3, kept, 64).await;
        client.batch_execute(&format!("CREATE TABLE otel.{} (own int)", partition(3))).await.unwrap();
        let most = format!("exporters.postgres.retention.max_size={}", size * 2);
        let sets = [&most[..], "exporters.postgres.indexes=[]", "exporters.postgres.counts=false"];
        let shown = run(database.dsn(), "partitions", &sets).await;
        assert!(!shown.out.contains("dropped next") && shown.out.contains("emptied next"), "{shown:?}");
        let forebay = Forebay::ready(database.dsn(), &sets).await;
        default_has(&client, kept as i64).await;
        eventually("it is counted", || async {
            (deleted(&forebay, "max_size").await >= 10_000).then_some(())
        })
        .await;
        for days in [9, 5, 0] {
            assert!(exists(&client, &partition(days)).await, "{days} days ago");
        }
        let (_, said) = forebay.terminate().await;
        let of_it = |line: &&String| line.contains("of times out of reach") && line.contains("max_size");
        assert_eq!(said.iter().filter(of_it).count(), 1, "{said:#?}");
    }
}

/// Scenario: a record is on its way into the default partition, which somebody has locked, who then makes the partition of its
/// time. Guarantee: it is no dead letter, but is in that partition.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_on_its_way_while_its_partition_is_made_is_stored() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &["processors.batch.timeout=10ms"]).await;
    let client = database.connect().await;
    client
        .batch_execute("BEGIN; LOCK TABLE otel.log_records_default IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let sent = store(&forebay, [now() - 100 * DAY]);
    let made = async {
        let waiting = "pg_locks WHERE NOT granted AND relation = 'otel.log_records_default'::regclass \
                       AND mode = 'RowExclusiveLock'";
        eventually("a lane waits for it", || async { (count(&client, waiting).await > 0).then_some(()) })
            .await;
        let attach = format!(
            "CREATE TABLE otel.own (LIKE otel.log_records); ALTER TABLE otel.log_records ATTACH PARTITION otel.own \
             FOR VALUES FROM (to_timestamp({0}) - interval '1 day') TO (to_timestamp({0}) + interval '1 day'); COMMIT",
            (now() - 100 * DAY) / 1_000_000_000
        );
        client.batch_execute(&attach).await.unwrap();
    };
    tokio::join!(sent, made);
    assert_eq!(count(&client, "otel.own").await, 1);
    assert_eq!(count(&client, "otel.dead_letters").await, 0);
}

/// Scenario: forebay is killed at each message of the moving of stray records, before it has arrived and behind it, until one
/// run comes to the end. Guarantee: whatever the server makes of what is left of the session, each record is there once at any
/// moment; the start that is not disturbed moves them all.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_cut_anywhere_loses_and_doubles_nothing() {
    let (database, client) = with_strays(&[9], 300, 64).await;
    let mut cut_at = 0;
    loop {
        let (mover, seen) = (AtomicU64::new(0), AtomicUsize::new(0));
        let proxy = Proxy::start(database.address(), move |message| {
            if message.from == Side::Client && message.has(b"SAVEPOINT begun\0") {
                mover.store(message.connection, Ordering::SeqCst);
            }
            if message.from == Side::Server || mover.load(Ordering::SeqCst) != message.connection {
                return Action::Forward;
            }
            match seen.fetch_add(1, Ordering::SeqCst) {
                at if at != cut_at / 2 => Action::Forward,
                _ if cut_at % 2 == 0 => Action::CutBefore(End::Rst),
                _ => Action::CutAfter(End::Rst),
            }
        })
        .await;
        let dsn = format!("{} sslmode=disable", database.dsn_by_way_of(proxy.address()));
        let mut forebay = Forebay::start(&dsn, &[]).await;
        let was_cut = eventually("the move is cut, or comes to its end", || async {
            assert_eq!(count(&client, "otel.log_records").await, 300, "message {cut_at}");
            let moved = exists(&client, &partition(9)).await;
            (proxy.cuts() > 0).then_some(true).or(moved.then_some(false))
        })
        .await;
        forebay.signal("KILL").await;
        forebay.ends().await;
        assert_eq!(count(&client, "otel.log_records").await, 300, "message {cut_at}");
        if !was_cut {
            assert!(cut_at > 20, "{cut_at} cuts are too few for a move");
            break;
        }
        // The COMMIT has arrived: there is something to move again.
        if exists(&client, &partition(9)).await {
            client.batch_execute(&format!("DROP TABLE otel.{}", partition(9))).await.unwrap();
            stray(&client, 9, 300, 64).await;
        }
        cut_at += 1;
    }
    assert_eq!(count(&client, &format!("otel.{}", partition(9))).await, 300);
    assert_eq!(count(&client, "otel.log_records_default").await, 0);
}
