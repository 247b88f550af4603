//! Records that PostgreSQL does not take: with any code, in any time, at the end of a session. What must hold: such a
//! record costs itself only, and nothing becomes a dead letter while it is the table or the server that is at fault.

use std::collections::BTreeSet;
use std::time::Duration;

use ::forebay::embedded::Stop;
use support::eventually;
use support::forebay::{Forebay, QUICK};
use support::postgres::{Database, Postgres, database};
use support::records::{body_of, numbered_request};
use tokio_postgres::Client;

use crate::chance::either;
use crate::scene::Scene;

/// The number of a record among those of its sender.
const NUMBER: &str = "((NEW.attributes->>'number')::bigint % 1000000000)";

/// QUICK, and a short deadline.
const HASTY: &[&str] = &[
    "exporters.postgres.timeout=1s",
    "exporters.postgres.retry_on_failure.initial_interval=20ms",
    "exporters.postgres.retry_on_failure.max_interval=100ms",
];

/// Has `does` done for each record that is inserted, `when`: `BEFORE`, where PostgreSQL names the line, or in a
/// `CONSTRAINT` trigger that is `DEFERRED` to the COMMIT, where it names none.
pub async fn trigger(client: &Client, name: &str, when: &str, does: &str) {
    let kind = match when {
        "BEFORE" => "TRIGGER",
        _ => "CONSTRAINT TRIGGER",
    };
    let timing = match when {
        "BEFORE" => "BEFORE INSERT ON otel.log_records",
        _ => "AFTER INSERT ON otel.log_records DEFERRABLE INITIALLY DEFERRED",
    };
    let make = format!(
        "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does}; RETURN NEW; END $$;
         CREATE {kind} {name} {timing} FOR EACH ROW EXECUTE FUNCTION {name}()"
    );
    client.batch_execute(&make).await.unwrap();
}

/// The dead letters: each number among those of its sender, with the code.
pub async fn letters(database: &Database) -> Vec<(i64, String)> {
    let body = body_of(0).replace('0', "(\\d+)");
    let letters = "SELECT substring(encode(row, 'escape') FROM $1)::bigint % 1000000000, sqlstate
                   FROM otel.dead_letters ORDER BY 1";
    let letters = database.connect().await.query(letters, &[&body]).await.unwrap();
    letters.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Waits until there are so many dead letters.
async fn are_dead(scene: &Scene, count: u64) {
    eventually("all of them are dead letters", || async {
        (scene.forebay.scrape().await.value("log_buffer_dead_lettered_total") == count).then_some(())
    })
    .await;
}

/// Nothing was said of a store that does not take rows.
fn was_ready(scene: &Scene) {
    for trouble in ["the database cannot be reached", "the database refuses rows"] {
        assert!(!scene.says(trouble), "{:#?}", scene.forebay.said());
    }
}

/// Scenario: among good records, some are answered with codes that say nothing of whose fault it is, or something else,
/// with a line and without. Promise: these are dead letters, each with its code, all others are written, and health stays good.
#[tokio::test(flavor = "multi_thread")]
pub async fn rows_that_are_answered_with_any_code() {
    const CODES: [&str; 12] = [
        "XX000", "XX001", "38000", "39004", "58030", "ZZ999", "53200", "57014", "40001", "08006", "42501",
        "0A000",
    ];
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), QUICK).await;
    let client = database.connect().await;
    for (place, code) in CODES.iter().enumerate() {
        let when = if place % 2 == 0 { "BEFORE" } else { "DEFERRED" };
        let does = format!(
            "IF {NUMBER} % 2400 = {} THEN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END IF",
            place * 200 + 7
        );
        trigger(&client, &format!("refuse_{}", code.to_lowercase()), when, &does).await;
    }
    scene.flushes(either(8_000, 100_000)).await;
    eventually("each code has its dead letters", || async {
        let letters = letters(&database).await;
        let codes: BTreeSet<_> = letters.iter().map(|(_, code)| code.as_str()).collect();
        (codes.len() == CODES.len()).then_some(())
    })
    .await;
    let recovery = scene.recovers().await;
    was_ready(&scene);
    let account = scene.ends("any code", recovery).await;
    let letters = letters(&database).await;
    for (number, code) in &letters {
        let expected = CODES.iter().position(|one| one == code).expect("a code of ours") as i64 * 200 + 7;
        assert_eq!(number % 2400, expected, "{number} is at fault, by {code}");
    }
    assert_eq!(account.lost + account.copies, 0);
}

/// Scenario: a few records, some for each lane, keep PostgreSQL at work beyond every deadline, in the COPY and in the
/// COMMIT. Promise: each of them is a dead letter after a few tries, all others are written, health stays good, and no more
/// sessions are at such a record than there are lanes.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_take_all_of_the_time() {
    let database = database().await;
    // None of them is dropped while both lanes wait.
    let roomy = [HASTY, &["exporters.postgres.sending_queue.queue_size=40000"]].concat();
    let scene = Scene::begin(&database, database.dsn(), &roomy).await;
    let client = database.connect().await;
    let sleeps = |at: &str| format!("IF {NUMBER} = {at} THEN PERFORM pg_sleep(100); END IF");
    let next = scene.flushed().await / 4 + 4_000;
    trigger(&client, "sleep_in_copy", "BEFORE", &sleeps(&next.to_string())).await;
    trigger(&client, "sleep_in_commit", "DEFERRED", &sleeps(&(next + 2_000).to_string())).await;
    eventually("all of them are dead letters", || async {
        let busy = "SELECT count(*) FROM pg_stat_activity
                    WHERE wait_event = 'PgSleep' AND datname = current_database()";
        let busy: i64 = client.query_one(busy, &[]).await.unwrap().get(0);
        assert!(busy <= 2, "{busy} sessions are at them");
        (letters(&database).await.len() == 8).then_some(())
    })
    .await;
    let recovery = scene.recovers().await;
    was_ready(&scene);
    let account = scene.ends("rows that take all of the time", recovery).await;
    for (number, code) in letters(&database).await {
        assert!([next, next + 2_000].contains(&(number as u64)), "{number} took no time");
        assert!(["timeout", "57014"].contains(&code.as_str()), "{code}");
    }
    assert_eq!((account.dead, account.lost + account.copies), (8, 0));
}

/// Scenario: some records end the session that is at them; one has the server process killed, after which the whole server
/// begins anew. Promise: these are dead letters, all others are written, whatever else the sessions end by.
#[tokio::test(flavor = "multi_thread")]
pub async fn rows_that_end_the_session() {
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    let scene = Scene::begin(&database, database.dsn(), HASTY).await;
    let client = database.connect().await;
    let next = scene.flushed().await / 4 + 2_000;
    let ends = format!("IF {NUMBER} = {next} THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF");
    trigger(&client, "end_session", "BEFORE", &ends).await;
    let crash = format!(
        "IF (NEW.attributes->>'number')::bigint = {} THEN
             EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid());
         END IF",
        next + 4_000
    );
    trigger(&client, "crash", "BEFORE", &crash).await;
    are_dead(&scene, 5).await;
    let recovery = scene.recovers().await;
    let account = scene.ends("rows that end the session", recovery).await;
    let numbers: Vec<_> = letters(&database).await.into_iter().map(|(number, _)| number as u64).collect();
    assert_eq!(numbers, [next, next, next, next, next + 4_000]);
    assert_eq!(account.lost + account.copies, 0);
}

/// Scenario: records with a code that says nothing, while the server is stopped and started again. Promise: these alone
/// are dead letters; the sessions that ended at the others make none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_at_such_rows() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let scene = Scene::begin(&database, database.dsn(), QUICK).await;
    let does = format!("IF {NUMBER} % 2000 = 7 THEN RAISE EXCEPTION 'no' USING ERRCODE = 'XX000'; END IF");
    trigger(&database.connect().await, "refuse", "BEFORE", &does).await;
    let mut recovery = Duration::ZERO;
    for stop in [Stop::Fast, Stop::Immediate, Stop::Fast, Stop::Immediate] {
        postgres.stop(stop).await;
        postgres.start_again().await;
        recovery = recovery.max(scene.recovers().await);
    }
    eventually("some are dead letters", || async {
        (scene.forebay.scrape().await.value("log_buffer_dead_lettered_total") > 4).then_some(())
    })
    .await;
    let account = scene.ends("a restart at such rows", recovery).await;
    for (number, code) in letters(&database).await {
        assert_eq!((number % 2000, code.as_str()), (7, "XX000"), "{number} is a dead letter");
    }
    assert_eq!(account.lost + account.copies, 0);
}

/// Scenario: every record is answered with a code that says nothing, then every one takes longer than any deadline.
/// Promise: everything is held, nothing is divided into single records, and nothing is a dead letter.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_table_that_takes_no_row() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), HASTY).await;
    let client = database.connect().await;
    let mut recovery = Duration::ZERO;
    for (name, does, reason) in [
        ("refuse", "RAISE EXCEPTION 'no' USING ERRCODE = 'XX000'", "database_refuses"),
        ("hang", "PERFORM pg_sleep(100)", "database_unreachable"),
    ] {
        trigger(&client, name, "BEFORE", does).await;
        scene.forebay.becomes_unready(reason).await;
        let failures = scene.failures().await;
        eventually("it is tried again and again", || async {
            (scene.failures().await > failures + 20).then_some(())
        })
        .await;
        client.batch_execute(&format!("DROP FUNCTION {name} CASCADE")).await.unwrap();
        recovery = recovery.max(scene.recovers().await);
    }
    let account = scene.ends("a table that takes no row", recovery).await;
    assert_eq!((account.dead, account.lost + account.copies), (0, 0));
}

/// Scenario: before anything was stored, a record among good ones is answered with XX000. Promise: the others are stored,
/// which shows that the table takes rows, and then the record is a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn such_a_row_in_the_very_first_batch() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let does = "IF (NEW.attributes->>'number')::bigint = 500 THEN
                    RAISE EXCEPTION 'no' USING ERRCODE = 'XX000';
                END IF";
    for (name, when) in [("refuse", "BEFORE"), ("refuse_late", "DEFERRED")] {
        trigger(&database.connect().await, name, when, does).await;
    }
    forebay.sender().await.send(numbered_request(0..1000)).await.unwrap();
    let page = forebay.settles().await;
    assert_eq!(page.value("log_buffer_flushed_total"), 999);
    assert_eq!(letters(&database).await, [(500, "XX000".to_owned())]);
}

/// Scenario: one record keeps a lane busy for as long as the deadlines are. Promise: health stays good and says so,
/// losses are written meanwhile, and at SIGTERM the records around it are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_stuck_on_a_row() {
    let database = database().await;
    let slow = ["exporters.postgres.timeout=3s", "exporters.postgres.losses_window=100ms"];
    let sets: Vec<_> = QUICK.iter().copied().chain(slow).collect();
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let (client, sender) = (database.connect().await, forebay.sender().await);
    sender.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    let does = "CASE (NEW.attributes->>'number')::int
                    WHEN 50 THEN PERFORM pg_sleep(100);
                    WHEN 200 THEN RAISE EXCEPTION 'no';
                    ELSE NULL;
                END CASE";
    trigger(&client, "hang", "BEFORE", does).await;
    sender.send(numbered_request(10..100)).await.unwrap();
    eventually("health says that a batch is stuck", || async {
        let (status, page) = forebay.health().await;
        assert_eq!(status, 200, "{page}");
        (page["degraded"] == "stuck_on_records").then_some(())
    })
    .await;
    sender.send(numbered_request(200..210)).await.unwrap();
    eventually("the loss is written", || async {
        let losses = client.query_one("SELECT coalesce(sum(records), 0)::int FROM otel.losses", &[]).await;
        (losses.unwrap().get::<_, i32>(0) > 0).then_some(())
    })
    .await;
    assert_eq!(forebay.health().await.1["degraded"], "stuck_on_records", "it still is");
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    let stored =
        client.query_one("SELECT count(*) FROM otel.log_records", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(stored, 108, "all but two of them");
    let numbers: Vec<_> = letters(&database).await.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [50, 200]);
}

/// Scenario: with the queue off, a record among good ones is answered with XX000. Promise: it is a dead letter before the
/// sender is answered, and the others are stored.
#[tokio::test(flavor = "multi_thread")]
async fn such_a_row_with_the_queue_off() {
    let database = database().await;
    let off = ["exporters.postgres.sending_queue.enabled=false"];
    let forebay = Forebay::ready(database.dsn(), &[QUICK, &off].concat()).await;
    let (client, sender) = (database.connect().await, forebay.sender().await);
    sender.send(numbered_request(0..10)).await.unwrap();
    let does = "IF (NEW.attributes->>'number')::bigint = 15 THEN
                    RAISE EXCEPTION 'no' USING ERRCODE = 'XX000';
                END IF";
    trigger(&client, "refuse", "DEFERRED", does).await;
    let answer = sender.send(numbered_request(10..30)).await.unwrap();
    assert_eq!(answer.partial_success.map(|partial| partial.rejected_log_records), Some(1));
    assert_eq!(letters(&database).await, [(15, "XX000".to_owned())]);
    let stored = client.query_one("SELECT count(*) FROM otel.log_records", &[]).await.unwrap();
    assert_eq!(stored.get::<_, i64>(0), 29);
}

/// Scenario: with the queue off, one record of twenty takes all of the deadline. Promise: it is a dead letter before the sender
/// is answered, the others are stored and answered as that, and so are those of another sender.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_takes_all_of_the_time_with_the_queue_off() {
    let database = database().await;
    let off = ["exporters.postgres.sending_queue.enabled=false", "exporters.postgres.timeout=8s"];
    let forebay = Forebay::ready(database.dsn(), &[QUICK, &off].concat()).await;
    let (client, sender, other) = (database.connect().await, forebay.sender().await, forebay.sender().await);
    sender.send(numbered_request(0..10)).await.unwrap();
    let does = "IF (NEW.attributes->>'number')::bigint = 15 THEN PERFORM pg_sleep(100); END IF";
    trigger(&client, "sleep", "BEFORE", does).await;
    let (answer, innocent) =
        tokio::join!(sender.send(numbered_request(10..30)), other.send(numbered_request(30..40)));
    assert_eq!(answer.unwrap().partial_success.map(|partial| partial.rejected_log_records), Some(1));
    assert_eq!(innocent.unwrap().partial_success, None);
    let letters = letters(&database).await;
    assert_eq!(letters.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [15]);
    let stored = client.query_one("SELECT count(*) FROM otel.log_records", &[]).await.unwrap();
    assert_eq!(stored.get::<_, i64>(0), 39);
}
