//! A store is dumped and restored with PostgreSQL's own tools, as docs/operate.md has it.

use support::forebay::Forebay;
use support::postgres::database;
use support::records::numbered_request;
use support::stored;
use tokio::process::Command;

/// Scenario: a store is dumped while its forebay runs, restored into another database, and another forebay started there.
/// Guarantee: all records that were stored are there, are found by the functions, and more can be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_has_everything_and_takes_more() {
    let (first, second) = (database().await, database().await);
    let forebay = Forebay::ready(first.dsn(), &[]).await;
    forebay.sender().await.send(numbered_request(0..300)).await.unwrap();
    forebay.settles().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("otel.dump");
    let dump = ["--format=custom", "--schema=otel", "--dbname", first.dsn(), "--file"];
    succeeds(Command::new("pg_dump").args(dump).arg(&file)).await;
    succeeds(Command::new("pg_restore").args(["--exit-on-error", "--dbname", second.dsn()]).arg(&file)).await;
    let restored = Forebay::ready(second.dsn(), &[]).await;
    restored.sender().await.send(numbered_request(300..400)).await.unwrap();
    restored.settles().await;
    stored(&second).await.assert_holds_each_once(&[0..400]);
    let found = "SELECT count(*) FROM otel.search('record 7 of', 'shop')";
    let found: i64 = second.connect().await.query_one(found, &[]).await.unwrap().get(0);
    assert_eq!(found, 1);
    stored(&first).await.assert_holds_each_once(&[0..300]);
}

async fn succeeds(command: &mut Command) {
    let output = command.output().await.expect("it comes with PostgreSQL's client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
