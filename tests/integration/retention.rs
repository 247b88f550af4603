//! Retention: partitions are dropped whole, by age and by size, by one of several gateways, and in nobody's way.

use support::eventually;
use support::forebay::Forebay;
use support::metrics::Scrape;
use support::records::{now, numbered_request};
use tokio_postgres::Client;

use crate::partitions::{DAY, count, exists, partition, store, with_days};

/// Waits until this partition is gone.
async fn is_dropped(client: &Client, days_ago: u64) {
    let name = partition(days_ago);
    eventually(&format!("{name} is dropped"), || async { (!exists(client, &name).await).then_some(()) })
        .await;
}

/// How many partitions have been dropped for this reason, once there are as many.
async fn dropped(forebay: &Forebay, reason: &str, expected: u64) -> Scrape {
    let labels = format!("reason=\"{reason}\"");
    let of = |scrape: &Scrape| scrape.sum("log_buffer_partitions_dropped_total", &labels);
    eventually("so many are dropped", || async {
        let scrape = forebay.scrape().await;
        (of(&scrape) >= expected).then_some(())
    })
    .await;
    let scrape = forebay.scrape().await;
    assert_eq!(of(&scrape), expected, "{reason}");
    scrape
}

/// Scenario: records of ten, five and two days ago, and of now; then a maximal age of three days, and a late record of ten
/// days ago. Guarantee: what is older is gone and counted, the rest stays, no loss is in the books; the late record is in the
/// default partition, which is emptied once it holds nothing but what is too old.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_dropped_by_age() {
    let (database, client) = with_days(&[10, 5, 2, 0]).await;
    let age = &["exporters.postgres.retention.max_age=72h"];
    let forebay = Forebay::ready(database.dsn(), age).await;
    is_dropped(&client, 10).await;
    is_dropped(&client, 5).await;
    let scrape = dropped(&forebay, "max_age", 2).await;
    assert!(scrape.value("log_buffer_partitions_dropped_size_bytes_total") > 0);
    assert_eq!(count(&client, "otel.logs").await, 2);
    assert!(exists(&client, &partition(2)).await);
    store(&forebay, [now() - 10 * DAY]).await;
    assert!(!exists(&client, &partition(10)).await, "it would be dropped at once");
    assert_eq!(count(&client, "otel.log_records_default").await, 1);
    assert_eq!(count(&client, "otel.losses").await, 0, "it is no loss");
    forebay.terminate().await;
    let _forebay = Forebay::ready(database.dsn(), age).await;
    eventually("the default partition is empty", || async {
        (count(&client, "otel.log_records_default").await == 0).then_some(())
    })
    .await;
    assert_eq!(count(&client, "otel.logs").await, 2);
}

/// Scenario: five days, and a maximal size that is one byte below what they take with the two oldest gone. Guarantee:
/// three are dropped, the oldest ones.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_dropped_by_size() {
    let (database, client) = with_days(&[9, 7, 5, 3, 1, 0]).await;
    // So that the indexer, which takes room as well, finds nothing to do.
    client.batch_execute("VACUUM (FREEZE, ANALYZE) otel.log_records").await.unwrap();
    let partitions = "SELECT sum(pg_total_relation_size(inhrelid))::int8 FROM pg_inherits
        WHERE inhparent = 'otel.log_records'::regclass AND inhrelid::regclass::text <> ALL ($1)";
    let oldest = [9, 7].map(|days| format!("otel.{}", partition(days)));
    let size: i64 = client.query_one(partitions, &[&&oldest[..]]).await.unwrap().get(0);
    let beside = "SELECT pg_total_relation_size('otel.' || name) FROM unnest('{resources,scopes,losses,dead_letters,dead_letter_origins}'::text[]) name";
    let beside: Vec<i64> = client.query(beside, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    // Each of these counts up to a tenth of the size that is looked for.
    let most =
        (0..60).fold(size, |most, _| size + beside.iter().map(|bytes| *bytes.min(&(most / 10))).sum::<i64>());
    let most = format!("exporters.postgres.retention.max_size={}", most - 1);
    let forebay = Forebay::ready(database.dsn(), &[&most, "exporters.postgres.indexes=[]"]).await;
    dropped(&forebay, "max_size", 3).await;
    for (days, stays) in [(9, false), (7, false), (5, false), (3, true), (1, true), (0, true)] {
        assert_eq!(exists(&client, &partition(days)).await, stays, "{days} days ago");
    }
}

/// Scenario: two gateways with the same retention start at once on a store with six old days. Guarantee: each day is dropped
/// by one of them, and none fails for the other.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_one_drops() {
    let (database, client) = with_days(&[10, 9, 8, 7, 6, 5, 0]).await;
    let start = || Forebay::ready(database.dsn(), &["exporters.postgres.retention.max_age=72h"]);
    let gateways: [Forebay; 2] = tokio::join!(start(), start()).into();
    for days in 5..=10 {
        is_dropped(&client, days).await;
    }
    let dropped =
        async |forebay: &Forebay| forebay.scrape().await.value("log_buffer_partitions_dropped_total");
    eventually("both have told what they dropped", || async {
        let [one, other] = [dropped(&gateways[0]).await, dropped(&gateways[1]).await];
        assert!(one + other <= 6, "{one} and {other}");
        (one + other == 6).then_some(())
    })
    .await;
    for forebay in gateways {
        let (_, said) = forebay.terminate().await;
        assert!(!said.iter().any(|line| line.contains("cannot be dropped")), "{said:#?}");
    }
}

/// Scenario: somebody reads the whole table in a long transaction while a partition is due. Guarantee: records are written
/// meanwhile, none of them held up for longer than the moment that dropping waits; once the reader is through, the
/// partition is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_holds_up_retention_and_nothing_else() {
    let (database, client) = with_days(&[10, 0]).await;
    let reader = database.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM otel.log_records").await.unwrap();
    let forebay = Forebay::ready(
        database.dsn(),
        &["exporters.postgres.retention.max_age=72h", "processors.batch.timeout=10ms"],
    )
    .await;
    let waiting = "pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' \
                   AND relation = 'otel.log_records'::regclass";
    let sender = forebay.sender().await;
    for round in 0..2 {
        eventually("retention waits for the reader", || async {
            (count(&client, waiting).await > 0).then_some(())
        })
        .await;
        // It lies behind the waiting lock.
        sender.send(numbered_request(round * 100..round * 100 + 100)).await.unwrap();
        eventually("retention has given way", || async {
            (count(&client, waiting).await == 0).then_some(())
        })
        .await;
    }
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 200);
    assert_eq!(scrape.value("log_buffer_flush_errors_total"), 0);
    let in_time = scrape.sum("log_buffer_flush_duration_seconds_bucket", "le=\"1\"");
    assert_eq!(in_time, scrape.value("log_buffer_flush_duration_seconds_count"), "none waited for a second");
    assert!(exists(&client, &partition(10)).await);
    reader.batch_execute("COMMIT").await.unwrap();
    is_dropped(&client, 10).await;
}

/// Scenario: somebody has built a view on a partition that is due. Guarantee: it stays, and the reason is said; the next one
/// is dropped all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_cannot_be_dropped_keeps_no_other() {
    let (database, client) = with_days(&[10, 5, 0]).await;
    let view = format!("CREATE VIEW keep AS SELECT * FROM otel.{}", partition(10));
    client.batch_execute(&view).await.unwrap();
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.retention.max_age=72h"]).await;
    is_dropped(&client, 5).await;
    assert!(exists(&client, &partition(10)).await);
    let (_, said) = forebay.terminate().await;
    assert!(
        said.iter().any(|line| line.contains("cannot be dropped") && line.contains("2BP01")),
        "{said:#?}"
    );
}
