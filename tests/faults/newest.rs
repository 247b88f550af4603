//! The newest PostgreSQL, beside the one that is installed. What must hold: forebay goes on when the server becomes a newer
//! one. (`./dev newest` has all integration tests run on it.)

use std::process::Command;

use forebay::embedded::Stop;
use support::postgres::{Database, Postgres};
use tokio::time::Instant;

use crate::scene::Scene;

/// Brings what is in `from` into `to`, which is empty.
async fn dump_and_restore(from: &Database, to: &Database) {
    let client = from.connect().await;
    let programs = "SELECT setting FROM pg_config WHERE name = 'BINDIR'";
    let programs: String = client.query_one(programs, &[]).await.unwrap().get(0);
    let (source, target) = (from.dsn(), to.dsn());
    let script = format!(
        "set -e -o pipefail; '{programs}/pg_dump' -d '{source}' | '{programs}/psql' -Xq -v ON_ERROR_STOP=1 -d '{target}'"
    );
    let restored = Command::new("bash").args(["-c", &script]).output().expect("bash");
    assert!(restored.status.success(), "{restored:?}");
}

/// Scenario: under load the server is stopped, its database is dumped and restored into one of the newest version, and that
/// one starts at the same address. Promise: forebay holds what fits and goes on by itself, by the same lanes' rows; nothing
/// is lost that was answered OK, nothing stored twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_becomes_a_newer_one() {
    let Some(mut newer) = Postgres::newest().await else {
        return println!("newer server: SKIPPED, none is here; ./dev test fetches it where there is npm");
    };
    let mut older = Postgres::start().await;
    let database = older.database().await;
    let mut scene = Scene::begin(&database, &database.dsn_by_way_of(database.address()), &[]).await;
    older.stop(Stop::Fast).await;
    let stopped = Instant::now();
    older.start_again_at(0).await;
    dump_and_restore(&older.existing(database.name()), &newer.database_named(database.name()).await).await;
    older.stop(Stop::Fast).await;
    newer.stop(Stop::Fast).await;
    newer.start_again_at(database.address().port()).await;
    let away = stopped.elapsed();
    let recovery = scene.recovers().await;
    scene.database = newer.existing(database.name());
    let client = scene.database.connect().await;
    let version: String = client.query_one("SHOW server_version", &[]).await.unwrap().get(0);
    let account = scene.ends(&format!("server is {version} after {away:.1?}"), recovery).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
}
