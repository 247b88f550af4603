//! What somebody drops of the store, or empties, while forebay runs: it is made again, and nothing that is sent is lost.

use support::eventually;
use support::forebay::{Forebay, QUICK};
use support::postgres::{Database, Postgres, database};
use support::records::{now, numbered, numbered_request, request};
use tokio_postgres::Client;

use crate::partitions::{count, exists};
use ::forebay::otlp::messages::LogRecord;
use ::forebay::table::ddl::TABLES;

/// How many of the numbered records from `first` on can be read with their resource and their scope.
async fn whole(client: &Client, first: u64) -> i64 {
    let whole = format!(
        "otel.logs WHERE (attributes->>'number')::int8 >= {first} AND service_name IS NOT NULL AND scope_name IS NOT NULL"
    );
    count(client, &whole).await
}

/// A forebay that has stored the first ten records.
async fn running() -> (Database, Client, Forebay) {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let client = database.connect().await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    assert_eq!(whole(&client, 0).await, 10);
    (database, client, forebay)
}

/// What `what` of a store has by its names: relations, functions, indexes, primary keys.
async fn parts(client: &Client) -> Vec<String> {
    let parts = "SELECT concat_ws(' ', relname, relkind, relreplident) FROM pg_class \
        WHERE relnamespace = 'otel'::regnamespace AND relkind <> 't' \
        UNION ALL SELECT concat(proname, ' function') FROM pg_proc WHERE pronamespace = 'otel'::regnamespace \
        UNION ALL SELECT concat('version ', version) FROM otel.schema_migrations ORDER BY 1";
    crate::reading::first_column(client, parts).await
}

/// Scenario: while forebay runs, somebody drops the schema, or tables of it, or empties them; then records are sent. Guarantee: each
/// of them can be read, with its resource and scope, and is no dead letter; the store has all parts that it had.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_dropped_while_forebay_runs_is_made_again() {
    for drop in [
        "DROP SCHEMA otel CASCADE",
        "DROP SCHEMA otel CASCADE; CREATE SCHEMA otel",
        "DROP TABLE otel.log_records CASCADE",
        "DROP TABLE otel.resources CASCADE",
        "DROP TABLE otel.scopes CASCADE",
        "DROP TABLE otel.lanes",
        "DROP TABLE otel.lanes, otel.resources, otel.scopes, otel.log_records, otel.schema_migrations CASCADE",
        "TRUNCATE otel.resources, otel.scopes",
        "TRUNCATE otel.lanes",
        "TRUNCATE otel.log_records, otel.resources, otel.scopes, otel.lanes, otel.dead_letters",
        "ALTER TABLE otel.scopes RENAME TO scopes_of_before; DROP VIEW otel.logs CASCADE",
    ] {
        let (_database, client, forebay) = running().await;
        let before = parts(&client).await;
        client.batch_execute(drop).await.unwrap();
        forebay.sender().await.send(numbered_request(10..30)).await.unwrap();
        let scrape = forebay.settles().await;
        assert_eq!(scrape.value("log_buffer_flushed_total"), 30, "{drop}");
        assert_eq!(scrape.value("log_buffer_dead_lettered_total"), 0, "{drop}");
        assert_eq!(whole(&client, 10).await, 20, "{drop}");
        let after = parts(&client).await;
        let lacking: Vec<_> = before.iter().filter(|part| !after.contains(part)).collect();
        assert!(lacking.is_empty(), "{drop}: {lacking:?}");
        forebay.becomes_ready().await;
    }
}

/// Scenario: what only some batches need is dropped: the table of dead letters before a row is refused, that of counts before a
/// record comes late. Guarantee: the refused row is kept, and the late one stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_some_batches_need_is_made_again() {
    let (_database, client, forebay) = running().await;
    let check = "ALTER TABLE otel.log_records ADD CHECK ((attributes->'number')::int <> 13)";
    client.batch_execute(check).await.unwrap();
    client.batch_execute("DROP TABLE otel.dead_letters, otel.dead_letter_origins").await.unwrap();
    forebay.sender().await.send(numbered_request(10..20)).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 19);
    assert_eq!(count(&client, "otel.dead_letters").await, 1);
    assert_eq!(count(&client, "otel.dead_letter_origins").await, 2);

    let day = 86_400_000_000_000;
    let late = |number| LogRecord { time_unix_nano: now() - 2 * day, ..numbered(number) };
    forebay.sender().await.send(request(vec![late(20)])).await.unwrap();
    forebay.settles().await;
    forebay.terminate().await;
    let forebay = Forebay::ready(_database.dsn(), QUICK).await;
    let counted = "pg_trigger WHERE tgname = 'forebay_keep_counts'";
    eventually("the closed day is counted", || async { (count(&client, counted).await == 1).then_some(()) })
        .await;
    client.batch_execute("DROP TABLE otel.log_counts").await.unwrap();
    forebay.sender().await.send(request(vec![late(21)])).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_dead_lettered_total"), 0);
    assert_eq!(whole(&client, 20).await, 2);
    assert_eq!(count(&client, "otel.log_counts WHERE is_late").await, 1);
}

/// Scenario: what no batch misses is dropped while forebay runs: the view with all functions, and tables. Guarantee: it is there again
/// before long, and so it is after a start.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_batch_misses_is_made_again() {
    let (database, client, forebay) = running().await;
    let before = parts(&client).await;
    let drop = "DROP VIEW otel.logs CASCADE; DROP TABLE otel.losses, otel.log_counts, otel.schema_migrations, otel.log_records_default; \
                DROP FUNCTION otel.keep_counts(), otel.counted(timestamptz, timestamptz)";
    client.batch_execute(drop).await.unwrap();
    eventually("all is there again", || async { exists(&client, "logs").await.then_some(()) }).await;
    assert_eq!(parts(&client).await, before);
    forebay.terminate().await;
    client.batch_execute(drop).await.unwrap();
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    assert_eq!(parts(&client).await, before);
    let (_, said) = forebay.terminate().await;
    assert!(said.iter().any(|line| line.contains("made again what was missing of the store")), "{said:#?}");
    for table in TABLES.iter() {
        assert!(exists(&client, table.name).await);
    }
}

/// Scenario: the database is dropped and made again while forebay runs, with records sent in between. Guarantee: they are held, and
/// stored in a new store.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_dropped_and_made_again_gets_what_was_held() {
    let server = Postgres::start().await;
    let (admin, database) = (server.existing("postgres").connect().await, server.database().await);
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let sender = forebay.sender().await;
    sender.clone().send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", database.name())).await.unwrap();
    sender.clone().send(numbered_request(10..30)).await.unwrap();
    forebay.becomes_unready("database_refuses").await;
    admin.batch_execute(&format!("CREATE DATABASE {}", database.name())).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 30);
    assert_eq!(whole(&database.connect().await, 0).await, 20);
    forebay.becomes_ready().await;
}
