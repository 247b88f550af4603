//! What the database runs out of, and what locks do to us and we with them. What must hold: forebay waits for it without
//! making it worse, and nothing that was answered OK is lost.

use std::sync::Mutex;
use std::time::Duration;

use forebay::embedded::Stop;
use support::eventually;
use support::postgres::{Database, Postgres, database};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::chance::{assert_within, either};
use crate::inject::{Frozen, session_where, sessions, terminate_sessions};
use crate::scene::{Scene, is_kind_to};

const SECOND: Duration = Duration::from_secs(1);

/// Takes connections until the server has no more; gives them.
pub async fn take_all_connections(database: &Database) -> Vec<Client> {
    let mut taken = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(database.dsn(), NoTls).await {
        tokio::spawn(connection);
        taken.push(client);
    }
    taken
}

/// Fault 17. Scenario: other clients take all connections, and forebay's are terminated. Promise: no more than one try
/// a second and lane, and the rate is back once there are connections again.
#[tokio::test(flavor = "multi_thread")]
async fn no_connections_left() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    database.connect().await.batch_execute("ALTER SYSTEM SET max_connections = 20").await.unwrap();
    postgres.stop(Stop::Fast).await;
    postgres.start_again().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    let (failures, began) = (scene.failures().await, Instant::now());
    let taken = Mutex::new(take_all_connections(&database).await);
    eventually("forebay is refused", || async {
        // It may have been faster than this.
        terminate_sessions(&client).await;
        let more = take_all_connections(&database).await;
        taken.lock().unwrap().extend(more);
        let refused = scene.forebay.scrape().await.sum("log_buffer_flush_errors_total", "class=\"busy\"");
        (refused > 0).then_some(())
    })
    .await;
    sleep((either(4, 60) * SECOND).saturating_sub(began.elapsed())).await;
    scene.was_calm_since(failures, began).await;
    let count = taken.lock().unwrap().len();
    drop(taken);
    let recovery = scene.recovers().await;
    let account = scene.ends(&format!("fault 17, {count} others have all connections"), recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Fault 19. Scenario: somebody holds the log's table in an exclusive lock. Promise: forebay waits two seconds at a
/// time, with its two sessions, and goes on once the lock is gone.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_lock_on_the_table() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    let failures = scene.failures().await;
    client.batch_execute("BEGIN; LOCK TABLE otel.log_records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let began = Instant::now();
    eventually("the lock is given up on", || async { (scene.failures().await > failures).then_some(()) })
        .await;
    sleep((either(4, 60) * SECOND).saturating_sub(began.elapsed())).await;
    scene.was_calm_since(failures, began).await;
    let most = sessions(&client).await.len();
    assert!(most <= 2, "{most} sessions wait for the lock");
    client.batch_execute("COMMIT").await.unwrap();
    let recovery = scene.recovers().await;
    let account = scene.ends("fault 19, lock on the table", recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Freezes the collector while it waits for the end of its only COPY, which a trigger makes long enough to be met.
async fn freeze_in_a_batch(scene: &Scene, client: &Client) -> Frozen {
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
        CREATE TRIGGER slow AFTER INSERT ON otel.log_records EXECUTE FUNCTION slow()";
    client.batch_execute(slow).await.unwrap();
    session_where(client, "wait_event = 'PgSleep'").await;
    Frozen::freeze(vec![scene.forebay.pid()])
}

/// Fault 20. Scenario: the collector is frozen in the middle of a batch whose rows the server has, and an application
/// changes the table. Promise: the change waits ten seconds at most, for the server ends our session by a timeout of our
/// setting. (Where the server is in a COPY and waits for rows, no timeout of its own ends that; README.md says so.)
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_collector_does_not_keep_the_table() {
    let database = database().await;
    let mut scene = Scene::begin(&database, database.dsn(), &["exporters.postgres.pool_size=1"]).await;
    scene.stops_the_collector = true;
    let client = database.connect().await;
    let mut longest = Duration::ZERO;
    let mut recovery = Duration::ZERO;
    for round in 0..either(1, 20) {
        let frozen = freeze_in_a_batch(&scene, &client).await;
        let asked = Instant::now();
        let change = format!("ALTER TABLE otel.log_records ADD COLUMN application_{round} integer");
        client.batch_execute(&change).await.unwrap();
        longest = longest.max(asked.elapsed());
        client.batch_execute("DROP FUNCTION slow CASCADE").await.unwrap();
        client.batch_execute("VACUUM otel.log_records").await.unwrap();
        is_kind_to(&database, 2).await;
        drop(frozen);
        recovery = recovery.max(scene.recovers().await);
    }
    assert!(longest > SECOND, "the change of the table was in nobody's way");
    assert_within(11 * SECOND, longest, "the change of the table waits");
    let fault = format!("fault 20, collector frozen, change of the table waited {longest:.1?}");
    let account = scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}
