//! The schema, rights and rows that the table refuses. What must hold: what somebody can repair is waited for, nothing
//! of it becomes a dead letter; a row that is refused for its content costs no other one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::eventually;
use support::postgres::{Database, Postgres, database};
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::chance::either;
use crate::inject::terminate_sessions;
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);
const PASSWORD: &str = "quite-a-secret";

/// Something that somebody does to the database, and undoes.
struct Mishap {
    what: &'static str,
    done: &'static str,
    undone: &'static str,
}

const MISHAPS: [Mishap; 6] = [
    Mishap {
        what: "INSERT revoked",
        done: "REVOKE INSERT ON otel.log_records FROM collector",
        undone: "GRANT INSERT ON otel.log_records TO collector",
    },
    Mishap {
        what: "column renamed",
        done: "ALTER TABLE otel.log_records RENAME body TO text",
        undone: "ALTER TABLE otel.log_records RENAME text TO body",
    },
    Mishap {
        what: "table gone",
        done: "ALTER TABLE otel.log_records RENAME TO mislaid",
        undone: "ALTER TABLE otel.mislaid RENAME TO log_records",
    },
    Mishap {
        what: "row-level security",
        done: "ALTER TABLE otel.log_records ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        undone: "ALTER TABLE otel.log_records DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
    },
    Mishap {
        what: "password changed",
        done: "ALTER ROLE collector PASSWORD 'another'",
        undone: "ALTER ROLE collector PASSWORD 'quite-a-secret'",
    },
    Mishap {
        what: "login taken away",
        done: "ALTER ROLE collector NOLOGIN",
        undone: "ALTER ROLE collector LOGIN",
    },
];

/// A connection string of a plain role, which may make a schema of its own.
pub async fn plain_role(database: &Database, client: &Client) -> String {
    let make = format!(
        "CREATE ROLE collector LOGIN PASSWORD '{PASSWORD}'; GRANT CREATE ON DATABASE {} TO collector",
        database.name()
    );
    client.batch_execute(&make).await.unwrap();
    let by_tcp = database.dsn_by_way_of(database.address());
    format!("{} password={PASSWORD}", by_tcp.replace("user=forebay", "user=collector"))
}

/// How often the database has refused a batch.
async fn refusals(scene: &Scene) -> u64 {
    scene.forebay.scrape().await.sum("log_buffer_flush_errors_total", "class=\"refused\"")
}

/// Waits until it has refused more than `before`, for as long as a mishap lasts.
async fn is_refused(scene: &Scene, before: u64, what: &str) {
    eventually(what, || async { (refusals(scene).await > before).then_some(()) }).await;
    sleep(either(Duration::ZERO, 60 * SECOND)).await;
}

/// Fault 23. Scenario: one thing after the other goes wrong with the rights and the table of a plain role, and is
/// repaired. Promise: nothing is lost of what was answered OK, nothing becomes a dead letter, forebay is back by itself,
/// it says so in few words, and its password is not among them.
#[tokio::test(flavor = "multi_thread")]
pub async fn schema_and_rights() {
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    let client = database.connect().await;
    let dsn = plain_role(&database, &client).await;
    let access: String = client.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
    let lines = fs::read_to_string(&access).unwrap();
    let lines = format!("host all collector 127.0.0.1/32 scram-sha-256\n{lines}");
    set_access(&client, &access, &lines).await;
    let scene = Scene::begin(&database, &dsn, &[]).await;
    let mut longest = Duration::ZERO;
    for Mishap { what, done, undone } in MISHAPS {
        let before = refusals(&scene).await;
        client.batch_execute(done).await.unwrap();
        // Who has a session needs no login.
        terminate_sessions(&client).await;
        is_refused(&scene, before, what).await;
        client.batch_execute(undone).await.unwrap();
        longest = longest.max(scene.recovers().await);
    }
    let before = refusals(&scene).await;
    set_access(&client, &access, &format!("host all collector 127.0.0.1/32 reject\n{lines}")).await;
    terminate_sessions(&client).await;
    is_refused(&scene, before, "pg_hba.conf rejects").await;
    set_access(&client, &access, &lines).await;
    longest = longest.max(scene.recovers().await);
    let said = scene.forebay.said();
    assert!(!said.iter().any(|line| line.contains(PASSWORD)), "{said:#?}");
    assert!(said.len() < 60, "{} lines for seven mishaps: {said:#?}", said.len());
    let account = scene.ends("fault 23, schema and rights", longest).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
}

/// Writes `pg_hba.conf` and has the server read it.
pub async fn set_access(client: &Client, path: &str, text: &str) {
    // In place, so that its owner stays.
    fs::write(Path::new(path), text).unwrap();
    client.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
}

/// Fault 22. Scenario: the partition of today and the default partition are gone, and come back. Promise: what finds
/// no partition is held, not taken for a row at fault.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_missing_partition() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    // The default partition is the first to go: it must not take what belongs to the others.
    let partitions = "SELECT inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid) \
                      FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
                      WHERE inhparent = 'otel.log_records'::regclass \
                      ORDER BY pg_get_expr(relpartbound, inhrelid) <> 'DEFAULT'";
    let partitions = client.query(partitions, &[]).await.unwrap();
    let partitions: Vec<(String, String)> = partitions.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(partitions.len() > 1 && partitions[0].1 == "DEFAULT", "{partitions:?}");
    let before = refusals(&scene).await;
    for (name, _) in &partitions {
        let detach = format!("ALTER TABLE otel.log_records DETACH PARTITION {name}");
        client.batch_execute(&detach).await.unwrap();
    }
    is_refused(&scene, before, "there is no partition").await;
    for (name, bounds) in partitions.iter().rev() {
        let attach = format!("ALTER TABLE otel.log_records ATTACH PARTITION {name} {bounds}");
        client.batch_execute(&attach).await.unwrap();
    }
    let recovery = scene.recovers().await;
    let account = scene.ends("fault 22, no partition", recovery).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
}

/// Fault 25. Scenario: a constraint refuses one record of a thousand, then one of a hundred. Promise: these become dead
/// letters, and all others are written.
#[tokio::test(flavor = "multi_thread")]
pub async fn rows_that_the_table_refuses() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    let mut recovery = Duration::ZERO;
    for one_of in [1000, 100] {
        let refuse = format!(
            "ALTER TABLE otel.log_records DROP CONSTRAINT IF EXISTS picky, \
             ADD CONSTRAINT picky CHECK ((attributes->>'number')::bigint % {one_of} <> 7) NOT VALID"
        );
        client.batch_execute(&refuse).await.unwrap();
        scene.flushes(either(4_000, 100_000)).await;
        recovery = recovery.max(scene.recovers().await);
    }
    let good = "SELECT count(*) FROM otel.dead_letters \
                WHERE substring(encode(row, 'escape') FROM 'record (\\d+) of a run')::bigint % 100 <> 7";
    assert_eq!(client.query_one(good, &[]).await.unwrap().get::<_, i64>(0), 0, "good rows are dead letters");
    let account = scene.ends("fault 25, rows refused", recovery).await;
    assert!(account.dead > 40);
    assert_eq!(account.lost + account.copies, 0);
}

/// Fault 25. Scenario: the table refuses everything, as after a mistake in a migration. Promise: once it has refused some
/// rows in a row, forebay asks whether it takes what it took before, holds everything, and says so; of the records after
/// the repair none is a dead letter.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_table_that_refuses_everything() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    client
        .batch_execute("ALTER TABLE otel.log_records ADD CONSTRAINT never CHECK (false) NOT VALID")
        .await
        .unwrap();
    scene.forebay.becomes_unready("database_refuses").await;
    // Each lane finds out by itself.
    is_refused(&scene, 1, "both lanes hold").await;
    let failures = scene.failures().await;
    let began = tokio::time::Instant::now();
    sleep(either(3, 60) * SECOND).await;
    scene.was_calm_since(failures, began).await;
    client.batch_execute("ALTER TABLE otel.log_records DROP CONSTRAINT never").await.unwrap();
    let recovery = scene.recovers().await;
    assert!(scene.says("the table refuses records that it accepted before"), "{:#?}", scene.forebay.said());
    let account = scene.ends("fault 25, everything refused", recovery).await;
    // Each of the two lanes suspects the table after twenty.
    assert!(account.dead <= 40, "{} dead letters", account.dead);
    assert_eq!(account.copies, 0);
}

/// Fault 25. Scenario: a trigger refuses one record of a thousand when the transaction ends, where PostgreSQL names no
/// line. Promise: the batch is halved until the row is found; all others are written.
#[tokio::test(flavor = "multi_thread")]
pub async fn rows_that_are_refused_without_a_line() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN RAISE EXCEPTION ''not this one''; END';
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON otel.log_records DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN ((NEW.attributes->>'number')::bigint % 1000 = 7) EXECUTE FUNCTION refuse()";
    client.batch_execute(refuse).await.unwrap();
    scene.flushes(either(8_000, 100_000)).await;
    let recovery = scene.recovers().await;
    let good = "SELECT count(*) FROM otel.dead_letters \
                WHERE substring(encode(row, 'escape') FROM 'record (\\d+) of a run')::bigint % 1000 <> 7";
    assert_eq!(client.query_one(good, &[]).await.unwrap().get::<_, i64>(0), 0, "good rows are dead letters");
    let account = scene.ends("fault 25, rows refused without a line", recovery).await;
    assert!(account.dead > 5);
    assert_eq!(account.lost + account.copies, 0);
}
