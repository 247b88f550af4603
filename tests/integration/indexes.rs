//! Indexes of closed partitions: built beside writing, once, and again where a build was cut off.

use support::eventually;
use support::forebay::Forebay;
use support::postgres::database;
use support::records::{now, numbered_request};
use tokio_postgres::Client;

use crate::partitions::{DAY, count, partition, store, with_days};

/// The indexes of a partition that are valid, or are not.
async fn indexes(client: &Client, partition: &str, valid: bool) -> Vec<String> {
    let select = "SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
        WHERE x.indrelid = $1::text::regclass AND x.indisvalid = $2 AND i.relname LIKE '%\\_idx' ORDER BY 1";
    let rows = client.query(select, &[&format!("otel.{partition}"), &valid]).await.unwrap();
    let names = rows.iter().map(|row| row.get::<_, String>(0));
    names
        .filter_map(|name| {
            name.strip_prefix(&format!("{partition}_"))?.strip_suffix("_idx").map(str::to_owned)
        })
        .collect()
}

/// Waits until a partition has just these.
async fn has(client: &Client, partition: &str, expected: &[&str]) {
    eventually(&format!("{partition} has {expected:?}"), || async {
        // The index on time has a name of PostgreSQL's making.
        let found = indexes(client, partition, true).await;
        let found: Vec<_> = found.iter().filter(|name| *name != "time").collect();
        (found == expected).then_some(())
    })
    .await;
}

const ALL: &[&str] = &["attributes", "errors", "service", "trace_id"];
const OURS: &str = "pg_stat_activity WHERE application_name = 'forebay' AND datname = current_database()";

/// Scenario: a store with two closed days. Guarantee: both get the indexes, are frozen and analysed, and the day that is
/// written gets none; what the view compares reaches them; the connection for it is closed.
#[tokio::test(flavor = "multi_thread")]
async fn closed_partitions_are_indexed() {
    let (database, client) = with_days(&[10, 2, 0]).await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    for days in [10, 2] {
        has(&client, &partition(days), ALL).await;
        let settled = format!(
            "pg_class WHERE oid = 'otel.{}'::regclass AND relpages > 0 AND relallvisible = relpages",
            partition(days)
        );
        eventually("it is vacuumed", || async { (count(&client, &settled).await == 1).then_some(()) }).await;
        let frozen =
            format!("pg_class WHERE oid = 'otel.{}'::regclass AND age(relfrozenxid) < 100", partition(days));
        assert_eq!(count(&client, &frozen).await, 1);
    }
    has(&client, &partition(0), &["errors"]).await;
    client.batch_execute("SET enable_seqscan = off").await.unwrap();
    for (predicate, days, index) in [
        ("trace_id = '00000000000000000000000000000000'", 10, "trace_id"),
        ("attributes @> '{\"number\": 0}'", 10, "attributes"),
        ("time > '-infinity' AND severity_number >= 21", 0, "errors"),
    ] {
        let sql = format!("EXPLAIN SELECT body FROM otel.logs WHERE {predicate}");
        let plan: Vec<String> = client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let name = format!("{}_{index}_idx", partition(days));
        assert!(plan.iter().any(|line| line.contains(&name)), "{name}: {plan:#?}");
    }
    let scrape = forebay.scrape().await;
    assert_eq!(scrape.value("log_buffer_indexes_built_total"), 6);
    eventually("the connection is closed", || async { (count(&client, OURS).await <= 2).then_some(()) })
        .await;
}

/// Scenario: a closed day that an earlier version has stored a record in whose trace id has 8,000 bytes. Guarantee: that day has
/// its index on traces all the same, which serves what the view compares; the other day's is the smaller one.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_trace_id_keeps_no_day_from_its_index() {
    let (database, client) = with_days(&[10, 2, 0]).await;
    let lengthen = format!(
        "UPDATE otel.{} SET trace_id = decode((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i), 'hex')",
        partition(10)
    );
    client.batch_execute(&lengthen).await.unwrap();
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    for (days, method) in [(10, "hash"), (2, "btree")] {
        has(&client, &partition(days), ALL).await;
        let of_method = format!(
            "pg_indexes WHERE tablename = '{}' AND indexname LIKE '%trace_id_idx' AND indexdef LIKE '%USING {method}%'",
            partition(days)
        );
        assert_eq!(count(&client, &of_method).await, 1, "{method}");
    }
    let (_, said) = forebay.terminate().await;
    assert!(!said.iter().any(|line| line.contains("cannot be completed")), "{said:#?}");
    client.batch_execute("SET enable_seqscan = off").await.unwrap();
    let sql = "EXPLAIN SELECT body FROM otel.logs WHERE trace_id = '00000000000000000000000000000000'";
    let plan: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    for days in [10, 2] {
        let name = format!("{}_trace_id_idx", partition(days));
        assert!(plan.iter().any(|line| line.contains(&name)), "{name}: {plan:#?}");
    }
}

/// Scenario: an index on texts without the extension that it takes, and later with it. Guarantee: the reason is said and
/// the others are built; then it is built as well, and serves a search by the view.
#[tokio::test(flavor = "multi_thread")]
async fn texts_are_indexed_where_the_extension_is() {
    let (database, client) = with_days(&[10, 0]).await;
    let sets = ["exporters.postgres.indexes=[body, service]"];
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    has(&client, &partition(10), &["errors", "service"]).await;
    let (_, said) = forebay.terminate().await;
    assert!(said.iter().any(|line| line.contains("CREATE EXTENSION pg_trgm")), "{said:#?}");
    if count(&client, "pg_available_extensions WHERE name = 'pg_trgm'").await == 0 {
        eprintln!("SKIPPED: this PostgreSQL comes without pg_trgm");
        return;
    }
    client.batch_execute("CREATE SCHEMA elsewhere; CREATE EXTENSION pg_trgm SCHEMA elsewhere").await.unwrap();
    let _forebay = Forebay::ready(database.dsn(), &sets).await;
    has(&client, &partition(10), &["body", "errors", "service"]).await;
    client.batch_execute("SET enable_seqscan = off").await.unwrap();
    let sql = "EXPLAIN SELECT count(*) FROM otel.logs WHERE body ILIKE '%some more words%'";
    let plan: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("_body_idx")), "{plan:#?}");
}

/// Waits until a build is held up, by a transaction that is older than itself.
async fn is_held_up(client: &Client, partition: &str) {
    eventually("an index is being built", || async {
        (!indexes(client, partition, false).await.is_empty()).then_some(())
    })
    .await;
}

const BUILDING: &str = "pg_stat_activity WHERE query LIKE 'CREATE INDEX%' AND state = 'active' \
                        AND datname = current_database()";

/// Scenario: somebody's old transaction holds a build up; records are sent; forebay is ended, and another time killed.
/// Guarantee: writing goes on meanwhile; at the end the build is cancelled at once and leaves nothing; what a killed one has
/// left is no index, and after the next start it is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_was_cut_off_is_made_good() {
    let (database, client) = with_days(&[10, 0]).await;
    let old = database.connect().await;
    let name = partition(10);
    for signal in ["TERM", "KILL"] {
        old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        let mut forebay = Forebay::ready(database.dsn(), &["processors.batch.timeout=10ms"]).await;
        is_held_up(&client, &name).await;
        forebay.sender().await.send(numbered_request(0..200)).await.unwrap();
        let scrape = forebay.settles().await;
        assert_eq!(scrape.value("log_buffer_flushed_total"), 200);
        assert_eq!(scrape.value("log_buffer_flush_errors_total"), 0);
        assert_eq!(count(&client, BUILDING).await, 1, "it still waits");
        forebay.signal(signal).await;
        let status = forebay.ends().await;
        if signal == "TERM" {
            assert_eq!(status.code(), Some(0));
            assert_eq!(count(&client, BUILDING).await, 0, "it was cancelled");
        }
        eventually("its session has ended", || async { (count(&client, OURS).await == 0).then_some(()) })
            .await;
        let left = usize::from(signal == "KILL");
        assert_eq!(indexes(&client, &name, false).await.len(), left, "left half done by {signal}");
        old.batch_execute("COMMIT").await.unwrap();
    }
    let _forebay = Forebay::ready(database.dsn(), &[]).await;
    has(&client, &name, ALL).await;
    assert!(indexes(&client, &name, false).await.is_empty());
}

/// Scenario: two gateways start at once on a store with three closed days. Guarantee: each index is built by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_one_builds() {
    let (database, client) = with_days(&[10, 5, 2, 0]).await;
    let start = || Forebay::ready(database.dsn(), &[]);
    let gateways: [Forebay; 2] = tokio::join!(start(), start()).into();
    for days in [10, 5, 2] {
        has(&client, &partition(days), ALL).await;
    }
    let built = async |forebay: &Forebay| forebay.scrape().await.value("log_buffer_indexes_built_total");
    eventually("all are told", || async {
        let (one, other) = (built(&gateways[0]).await, built(&gateways[1]).await);
        assert!(one + other <= 9, "{one} and {other}");
        (one + other == 9).then_some(())
    })
    .await;
}

/// Scenario: `indexes: []`, and records of yesterday in a partition that has been closed for long. Guarantee: none is built, and
/// those that somebody has made are left alone.
#[tokio::test(flavor = "multi_thread")]
async fn no_indexes_are_built_where_none_are_wanted() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    store(&forebay, [now() - 2 * DAY]).await;
    forebay.terminate().await;
    let (client, name) = (database.connect().await, partition(2));
    client
        .batch_execute(&format!("CREATE INDEX {name}_service_idx ON otel.{name} (scope_id)"))
        .await
        .unwrap();
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.indexes=[]"]).await;
    let settled =
        format!("pg_class WHERE oid = 'otel.{name}'::regclass AND relpages > 0 AND relallvisible = relpages");
    eventually("it is vacuumed", || async { (count(&client, &settled).await == 1).then_some(()) }).await;
    has(&client, &name, &["errors", "service"]).await;
    assert_eq!(forebay.scrape().await.value("log_buffer_indexes_built_total"), 0);
}
