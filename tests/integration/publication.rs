//! A publication that has all tables, for logical replication or change data capture.

use support::eventually;
use support::forebay::{Forebay, QUICK};
use support::postgres::database;
use support::records::now;
use tokio_postgres::Client;

use crate::partitions::{DAY, count, partition, store};
use crate::reading::first_column;

/// The tables of the store of which no row can be changed or deleted, with what PostgreSQL says.
async fn refused(client: &Client) -> Vec<String> {
    let tables = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'otel'::regnamespace AND relkind IN ('r', 'p')";
    let mut refused = Vec::new();
    for table in first_column(client, tables).await {
        for change in [format!("DELETE FROM {table} WHERE false"), update(client, &table).await] {
            if let Err(error) = client.batch_execute(&change).await {
                refused.push(format!("{table}: {}", error.as_db_error().unwrap().message()));
            }
        }
    }
    refused
}

async fn update(client: &Client, table: &str) -> String {
    let column =
        format!("SELECT attname::text FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum = 1");
    let column = first_column(client, &column).await.remove(0);
    let column = if table == "otel.dead_letters" { "message" } else { &column };
    format!("UPDATE {table} SET {column} = {column} WHERE false")
}

/// Scenario: a publication of all tables; then forebay counts a closed day, and late records come. Guarantee: it is counted, and rows of
/// every table can be changed and deleted, also of the partitions of a store that an older forebay has made.
#[tokio::test(flavor = "multi_thread")]
async fn every_table_can_be_published() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let client = database.connect().await;
    client.batch_execute("CREATE PUBLICATION everything FOR ALL TABLES").await.unwrap();
    store(&forebay, [now() - 2 * DAY, now(), 1]).await;
    assert_eq!(refused(&client).await, [""; 0]);
    forebay.terminate().await;
    let older = format!(
        "ALTER TABLE otel.{} REPLICA IDENTITY DEFAULT; ALTER TABLE otel.{} REPLICA IDENTITY DEFAULT;
         DELETE FROM otel.schema_migrations WHERE version >= 10",
        partition(2),
        partition(0),
    );
    client.batch_execute(&older).await.unwrap();
    assert_eq!(refused(&client).await.len(), 4, "of these two");
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    assert_eq!(refused(&client).await, [""; 0]);
    let counted = "otel.counted('-infinity', 'infinity')";
    eventually("it is counted", || async { (count(&client, counted).await == 1).then_some(()) }).await;
    store(&forebay, [now() - 2 * DAY]).await;
    client.batch_execute("DELETE FROM otel.log_records").await.unwrap();
    let (_, said) = forebay.terminate().await;
    assert!(!said.iter().any(|line| line.contains("replica identity")), "{said:#?}");
}
