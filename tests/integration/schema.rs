//! The store: made, migrated and checked; partitions; dead letters.

use std::process::Stdio;
use std::time::Duration;

use crate::migrations::back_to;
use crate::reading::first_column;
use ::forebay::postgres::dsn::Target;
use ::forebay::postgres::pool::Pool;
use ::forebay::postgres::session::Connection;
use ::forebay::store::lanes::{forget_old_lanes, keep_lanes, register_lanes};
use ::forebay::table::ddl::MIGRATIONS;
use ::forebay::table::identifier::Schema;
use support::eventually;
use support::forebay::{Forebay, command};
use support::postgres::database;
use support::records::{now, numbered, numbered_request, pair, request, text};
use support::stored;
use uuid::Uuid;

const DAY: u64 = 86_400_000_000_000;

/// Scenario: four forebays start at once on an empty database. Guarantee: all become ready, the schema is there once.
#[tokio::test(flavor = "multi_thread")]
async fn four_at_once_make_the_schema_once() {
    let database = database().await;
    let start = || Forebay::ready(database.dsn(), &[]);
    let forebays: [Forebay; 4] = tokio::join!(start(), start(), start(), start()).into();
    for (index, forebay) in (0..).zip(&forebays) {
        forebay.sender().await.send(numbered_request(index * 10..index * 10 + 10)).await.unwrap();
        forebay.settles().await;
    }
    let client = database.connect().await;
    let count = |sql: &'static str| async { client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) };
    assert_eq!(count("SELECT count(*) FROM otel.schema_migrations").await, MIGRATIONS.len() as i64);
    assert_eq!(count("SELECT count(*) FROM otel.logs").await, 40);
    assert_eq!(count("SELECT count(*) FROM otel.resources").await, 1, "they agree on the id");
}

/// Scenario: `create_schema: false` on an empty database, then a DBA runs the printed DDL. Guarantee: health says what
/// is missing, and forebay goes on by itself afterwards, also in a schema with an odd name.
#[tokio::test(flavor = "multi_thread")]
async fn a_dba_makes_the_schema() {
    let database = database().await;
    let name = r#"odd "name; --"#;
    let schema = format!("exporters.postgres.schema='{name}'");
    let forebay = Forebay::start(database.dsn(), &["exporters.postgres.create_schema=false", &schema]).await;
    forebay.becomes_unready("schema_mismatch").await;
    let (_, body) = forebay.health().await;
    assert!(body["detail"].as_str().unwrap().contains("table log_records is missing"), "{body}");
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    let printed =
        command().args(["schema", "--set", &schema]).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(printed.status.success());
    let client = database.connect().await;
    client.batch_execute(std::str::from_utf8(&printed.stdout).unwrap()).await.unwrap();
    forebay.becomes_ready().await;
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10);
    client
        .batch_execute(&format!("ALTER TABLE {}.log_records RENAME body TO text", r#""odd ""name; --""#))
        .await
        .unwrap();
    let second = Forebay::start(database.dsn(), &["exporters.postgres.create_schema=false", &schema]).await;
    second.becomes_unready("schema_mismatch").await;
    let (_, body) = second.health().await;
    assert!(body["detail"].as_str().unwrap().contains("column log_records.body is missing"), "{body}");
}

/// Scenario: records of yesterday, today, 1970 and 2554. Guarantee: each is stored, days near today in a partition of
/// their own, the others in the default partition; today and three days ahead are made at start.
#[tokio::test(flavor = "multi_thread")]
async fn days_have_partitions_and_any_time_is_kept() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let client = database.connect().await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'otel.log_records'::regclass";
    let count = || async { client.query_one(partitions, &[]).await.unwrap().get::<_, i64>(0) };
    assert_eq!(count().await, 5, "today, three days ahead, default");
    let times = [now() - DAY, now(), 1, u64::MAX];
    let records = (0..).zip(times).map(|(number, time_unix_nano)| ::forebay::otlp::messages::LogRecord {
        time_unix_nano,
        ..numbered(number)
    });
    forebay.sender().await.send(request(records.collect())).await.unwrap();
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 4);
    assert_eq!(count().await, 6, "and yesterday");
    let odd = client.query_one("SELECT count(*) FROM otel.log_records_default", &[]).await.unwrap();
    assert_eq!(odd.get::<_, i64>(0), 2);
}

/// Scenario: a CHECK constraint that 3 of 50 rows break. Guarantee: these three are dead letters with code and bytes,
/// the others are stored, the books balance.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_refused_are_dead_letters_and_cost_no_other() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let client = database.connect().await;
    let check = "ALTER TABLE otel.log_records ADD CHECK ((attributes->'number')::int NOT IN (0, 17, 49))";
    client.batch_execute(check).await.unwrap();
    forebay.sender().await.send(numbered_request(0..50)).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 47);
    assert_eq!(scrape.value("log_buffer_dead_lettered_total"), 3);
    assert_eq!(scrape.value("otelcol_exporter_send_failed_log_records_total"), 3);
    let letters = "SELECT sqlstate, service, position('record 17 of a run'::bytea in row) > 0 \
                   FROM otel.dead_letters ORDER BY id";
    let letters = client.query(letters, &[]).await.unwrap();
    let found: Vec<(String, String, bool)> =
        letters.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(found, [false, true, false].map(|is_17| ("23514".into(), "shop".into(), is_17)));
}

/// Scenario: a resource that its table refuses, in a request with records of another one. Guarantee: the records of the
/// refused resource are dead letters, found although PostgreSQL names no line; the others are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_refused_costs_only_its_own_records() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let check = "ALTER TABLE otel.resources ADD CHECK (service_name <> 'odd')";
    database.connect().await.batch_execute(check).await.unwrap();
    let mut mixed = numbered_request(0..20);
    let mut odd = numbered_request(20..23).resource_logs.remove(0);
    odd.resource.as_mut().unwrap().attributes = vec![pair("service.name", text("odd"))];
    mixed.resource_logs.push(odd);
    mixed.resource_logs.push(numbered_request(23..40).resource_logs.remove(0));
    forebay.sender().await.send(mixed).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 37);
    assert_eq!(scrape.value("log_buffer_dead_lettered_total"), 3);
    let letters = "SELECT count(*) FROM otel.dead_letters WHERE service = 'odd' AND sqlstate = '23514'";
    assert_eq!(database.connect().await.query_one(letters, &[]).await.unwrap().get::<_, i64>(0), 3);
    assert_eq!(stored(&database).await.rows(), 37);
}

/// Scenario: a store of version 1 with a dead letter in it. Guarantee: the migration makes of it what is made anew,
/// comments included, and keeps what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_store_becomes_a_new_one() {
    let database = database().await;
    Forebay::ready(database.dsn(), &[]).await.terminate().await;
    let client = database.connect().await;
    let columns = "SELECT attrelid::regclass::text || '.' || attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum), \
                   pg_get_expr(adbin, adrelid) \
                   FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum \
                   JOIN pg_class ON pg_class.oid = attrelid AND relkind = 'r' \
                   WHERE relnamespace = 'otel'::regnamespace AND attnum > 0 AND NOT attisdropped ORDER BY relname, attnum";
    type Column = (String, String, bool, Option<String>, Option<String>);
    let columns = async || {
        let rows = client.query(columns, &[]).await.unwrap();
        let column = |row: &tokio_postgres::Row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        rows.iter().map(column).collect::<Vec<Column>>()
    };
    let new = columns().await;
    back_to(&client, 1).await;
    assert_eq!(columns().await.len(), new.len() - 3 - 7 - 4 - 2 - 6 - 2);
    let letter =
        "INSERT INTO otel.dead_letters (sqlstate, message, columns, row) VALUES ('23514', 'old', '{}', '')";
    client.batch_execute(letter).await.unwrap();
    Forebay::ready(database.dsn(), &[]).await.terminate().await;
    assert_eq!(columns().await, new);
    let kept = client.query_one("SELECT service, attempts FROM otel.dead_letters", &[]).await.unwrap();
    assert_eq!((kept.get::<_, Option<String>>(0), kept.get::<_, i32>(1)), (None, 1));
}

/// Scenario: a database in another encoding, which cannot hold every character. Guarantee: health says so, before
/// anything is refused for its content.
#[tokio::test(flavor = "multi_thread")]
async fn another_encoding_is_a_mismatch() {
    let database = database().await;
    let latin = format!("{}_latin", database.name());
    let create =
        format!("CREATE DATABASE {latin} ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    database.connect().await.batch_execute(&create).await.unwrap();
    let dsn = database.dsn().replace(database.name(), &latin);
    let forebay = Forebay::start(&dsn, &[]).await;
    forebay.becomes_unready("schema_mismatch").await;
    let (_, body) = forebay.health().await;
    assert!(body["detail"].as_str().unwrap().contains("encoding is LATIN1"), "{body}");
}

/// Scenario: the table is renamed away under load and comes back. Guarantee: records are held, health names the cause,
/// and everything is written afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_away_holds_the_records() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let client = database.connect().await;
    client.batch_execute("ALTER TABLE otel.log_records RENAME TO elsewhere").await.unwrap();
    forebay.sender().await.send(numbered_request(0..200)).await.unwrap();
    forebay.becomes_unready("database_refuses").await;
    let since = forebay.health().await.1["since"].clone();
    assert_eq!(forebay.scrape().await.value("log_buffer_size"), 200);
    // A session can be had all the while, which is no good news yet.
    eventually("some more tries have failed", || async {
        let failed = forebay.scrape().await.sum("log_buffer_flush_errors_total", r#"class="refused""#);
        (failed >= 5).then_some(())
    })
    .await;
    let (status, body) = forebay.health().await;
    assert_eq!((status, &body["since"]), (503, &since), "it was never well in between");
    client.batch_execute("ALTER TABLE otel.elsewhere RENAME TO log_records").await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 200);
    assert!(scrape.sum("log_buffer_flush_errors_total", r#"class="refused""#) > 0);
}

/// Scenario: all sessions are terminated again and again under load. Guarantee: nothing is lost, nothing is twice.
#[tokio::test(flavor = "multi_thread")]
async fn terminated_sessions_lose_nothing() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let client = database.connect().await;
    let sender = forebay.sender().await;
    let mut told = support::sender::Told::default();
    for number in 0..20 {
        sender.send_numbered(number * 100..number * 100 + 100, &mut told).await;
        let ours =
            "FROM pg_stat_activity WHERE application_name = 'forebay' AND datname = current_database()";
        eventually("forebay has one or two sessions", || async {
            let count =
                client.query_one(&format!("SELECT count(*) {ours}"), &[]).await.unwrap().get::<_, i64>(0);
            (1..=2).contains(&count).then_some(())
        })
        .await;
        client.query(&format!("SELECT pg_terminate_backend(pid) {ours}"), &[]).await.unwrap();
    }
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 2000);
    support::stored(&database).await.assert_holds_each_once(&told.stored);
}

/// Scenario: a gateway has written nothing for long, and others have ended long ago. Guarantee: the rows of its lanes, one of
/// which a session holds, outlive the start of another one; nobody waits for that session.
#[tokio::test(flavor = "multi_thread")]
async fn the_lanes_of_a_gateway_that_lives_are_kept() {
    let database = database().await;
    Forebay::ready(database.dsn(), &[]).await.terminate().await;
    let (schema, lives, ended) = (Schema::new("otel"), Uuid::new_v4(), Uuid::new_v4());
    let pool = Pool::new(Target::parse(database.dsn()).unwrap(), 1, Duration::from_secs(10)).unwrap();
    let limit = Duration::from_secs(10);
    let register = async |c: &Connection| {
        for gateway in [lives, ended] {
            register_lanes(c, &schema, gateway, 2).await.unwrap();
        }
        Ok(())
    };
    pool.session(limit, register).await.unwrap();
    let client = database.connect().await;
    let (queue, anchor) =
        (Uuid::new_v4(), "INSERT INTO otel.lanes (gateway, lane, sequence, queue) VALUES ($1, -2, 0, $1)");
    client.execute(anchor, &[&queue]).await.unwrap();
    client.batch_execute("UPDATE otel.lanes SET updated_at = now() - interval '31 days'").await.unwrap();
    let hold = "BEGIN; UPDATE otel.lanes SET updated_at = now() WHERE gateway = $1 AND lane = 0";
    client.batch_execute(&hold.replace("$1", &format!("'{lives}'"))).await.unwrap();
    pool.session(limit, async |c| keep_lanes(c, &schema, lives).await).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let forget = async |c: &Connection| {
        forget_old_lanes(c, &schema).await.unwrap();
        Ok(())
    };
    pool.session(limit, forget).await.unwrap();
    let left = "SELECT lane FROM otel.lanes WHERE gateway = $1 ORDER BY lane";
    let lanes = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get(0)).collect::<Vec<i16>>();
    assert_eq!(lanes(client.query(left, &[&lives]).await.unwrap()), [-1, 0, 1]);
    assert!(client.query(left, &[&ended]).await.unwrap().is_empty());
    assert_eq!(lanes(client.query(left, &[&queue]).await.unwrap()), [-2], "its directory may come back");
}

/// Scenario: somebody leaves a transaction open, and two thousand batches are written one after the other. Guarantee: the lanes have
/// counted each of them, all are stored once, and no lane has to look at more than a few pages to find its row.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_left_open_slows_no_batch_down() {
    let database = database().await;
    let sets = ["exporters.postgres.sending_queue.enabled=false", "processors.batch.timeout=0s"];
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let (client, forgotten, sender) =
        (database.connect().await, database.connect().await, forebay.sender().await);
    let read = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM otel.lanes";
    forgotten.batch_execute(read).await.unwrap();
    for number in 0..2000 {
        sender.send(numbered_request(number..number + 1)).await.unwrap();
    }
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 2000);
    stored(&database).await.assert_holds_each_once(&[0..2000]);
    let rows = client.query("SELECT lane, sequence FROM otel.lanes WHERE lane >= 0", &[]).await.unwrap();
    let rows: Vec<(i16, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let batches = rows.iter().map(|(row, sequence)| i64::from(row / 2) * 200 + sequence);
    assert_eq!((rows.len(), batches.sum()), (2, 2000), "{rows:?}");
    client.batch_execute("SET enable_seqscan = off; SET enable_bitmapscan = off").await.unwrap();
    for (row, _) in rows {
        let gateway = first_column(&client, "SELECT DISTINCT gateway::text FROM otel.lanes").await.remove(0);
        let look = format!(
            "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) SELECT updated_at FROM otel.lanes WHERE gateway = '{gateway}' AND lane = {row}"
        );
        let plan = first_column(&client, &look).await;
        let pages = plan.iter().find_map(|line| line.trim().strip_prefix("Buffers: shared hit=")).unwrap();
        assert!(pages.parse::<u32>().unwrap() <= 8, "{plan:#?}");
    }
    forgotten.batch_execute("COMMIT").await.unwrap();
}
