//! Rows on the disk that outlive the configuration that made them.

use forebay::embedded::Stop;
use support::forebay::QUICK;
use support::postgres::{Database, Postgres};
use support::records::{body_of, numbered_request};
use support::sender::Answer;
use tokio_postgres::Client;

use super::Home;

const RECORDS: u64 = 1_000;
/// A table, and a mapping that fills three of its columns.
const TABLE: &str = "CREATE TABLE logs (id bigserial PRIMARY KEY, number integer NOT NULL, message text NOT NULL, host text, level text)";
const EARLIER: &str = "exporters.postgres.table={name: public.logs, columns: {number: {attribute: number, type: integer, default: -1}, \
                       message: {field: body, default: ''}, host: {resource: host.name}}}";
/// One more column, and another order.
const LATER: &str = "exporters.postgres.table={name: public.logs, columns: {level: {field: severity}, message: {field: body, default: ''}, \
                     host: {resource: host.name}, number: {attribute: number, type: integer, default: -1}}}";

/// A server with the table, and a directory that has the records `0..RECORDS` as rows of the earlier mapping.
async fn with_a_full_queue() -> (Postgres, Database, Home) {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    database.connect().await.batch_execute(TABLE).await.unwrap();
    let home = Home::new(&database, &[QUICK, &[EARLIER]].concat());
    let forebay = home.ready().await;
    postgres.stop(Stop::Fast).await;
    for first in (0..RECORDS).step_by(100) {
        let answer = forebay.sender().await.send(numbered_request(first..first + 100)).await;
        assert_eq!(Answer::of(answer), Answer::Taken { rejected: 0 });
    }
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    postgres.start_again().await;
    (postgres, database, home)
}

async fn count(client: &Client, of: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {of}"), &[]).await.unwrap().get(0)
}

/// Checks that the table has the records `numbers`, each once, with its own message and host.
async fn has(client: &Client, numbers: std::ops::Range<u64>) {
    let rows = "SELECT number, message FROM logs WHERE host = 'h1' ORDER BY number";
    let rows = client.query(rows, &[]).await.unwrap();
    let found: Vec<_> = rows.iter().map(|row| row.get::<_, i32>(0) as u64).collect();
    assert_eq!(found, numbers.collect::<Vec<_>>());
    for row in rows {
        assert_eq!(row.get::<_, &str>(1), body_of(row.get::<_, i32>(0) as u64));
    }
}

/// Scenario: forebay is stopped with a full queue, and started with a mapping that has one more column and another order. Promise: the
/// rows of before are written by the names of their columns, those of now as the mapping says, and each once.
#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_changes_while_the_queue_is_full() {
    let (_postgres, database, home) = with_a_full_queue().await;
    let home = home.moved(&[QUICK, &[LATER]].concat());
    let forebay = home.ready().await;
    forebay.sender().await.send(numbered_request(RECORDS..RECORDS + 100)).await.unwrap();
    let page = forebay.settles().await;
    assert_eq!(page.value("log_buffer_recovered_total"), RECORDS);
    assert_eq!(page.value("log_buffer_flushed_total"), RECORDS + 100);
    assert_eq!(page.value("log_buffer_dead_lettered_total"), 0);
    let client = database.connect().await;
    has(&client, 0..RECORDS + 100).await;
    assert_eq!(count(&client, "logs WHERE level IS NOT NULL").await, 100, "the earlier rows have no level");
    assert_eq!(forebay.terminate().await.0, Some(0));
}

/// Scenario: the same, and a column that the rows of before fill is gone. Promise: these rows are dead letters with the reason,
/// counted, and those of now are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_goes_while_the_queue_is_full() {
    let (_postgres, database, home) = with_a_full_queue().await;
    let client = database.connect().await;
    client.batch_execute("ALTER TABLE logs DROP COLUMN host, ADD COLUMN host_name text").await.unwrap();
    let without = LATER.replace("host: {resource", "host_name: {resource");
    let home = home.moved(&[QUICK, &[&*without]].concat());
    let forebay = home.ready().await;
    forebay.sender().await.send(numbered_request(RECORDS..RECORDS + 100)).await.unwrap();
    let page = forebay.settles().await;
    assert_eq!(page.value("log_buffer_dead_lettered_total"), RECORDS);
    assert_eq!(page.value("log_buffer_flushed_total"), 100);
    assert_eq!(count(&client, "logs WHERE level IS NOT NULL AND host_name = 'h1'").await, 100);
    let letters = "otel.dead_letters WHERE message LIKE '%host%' AND columns @> '{number,message,host}'";
    assert_eq!(count(&client, letters).await as u64, RECORDS);
    assert_eq!(forebay.terminate().await.0, Some(0));
}

/// Scenario: forebay is stopped with a full queue of rows for an existing table, and started with its own table. Promise: the rows of before
/// are still written to the table that they are for, or are dead letters that name it; none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn another_table_while_the_queue_is_full() {
    let (_postgres, database, home) = with_a_full_queue().await;
    let home = home.moved(QUICK);
    let forebay = home.ready().await;
    forebay.sender().await.send(numbered_request(RECORDS..RECORDS + 100)).await.unwrap();
    let page = forebay.settles().await;
    let client = database.connect().await;
    assert_eq!(count(&client, "otel.log_records").await, 100);
    let (there, letters) =
        (count(&client, "logs").await as u64, page.value("log_buffer_dead_lettered_total"));
    assert_eq!(there + letters, RECORDS, "{there} in the table, {letters} dead letters");
    assert_eq!(count(&client, "otel.dead_letters").await as u64, letters);
    assert_eq!(page.value("log_buffer_dropped_total"), 0);
    println!("another table with a full queue: {there} rows in the earlier table, {letters} dead letters");
    assert_eq!(forebay.terminate().await.0, Some(0));
}
