//! The server and its processes: ended, killed, frozen, not there yet. What must hold: nothing is lost that was
//! answered OK and fits into the buffer, nothing is stored twice, and the rate is back in ten seconds.

use std::time::Duration;

use forebay::embedded::Stop;
use support::eventually;
use support::forebay::Forebay;
use support::postgres::{Postgres, database};
use tokio::time::{Instant, interval, sleep};
use tokio_postgres::Client;

use crate::chance::{assert_within, either};
use crate::inject::{Frozen, session_where, sessions, terminate_sessions};
use crate::load::Load;
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);

/// Fault 1. Scenario: both sessions are terminated every 200 ms. Promise: progress never stops, at 40 % of the rate at
/// least.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_terminated_again_and_again() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    let (began, before) = (Instant::now(), scene.flushed().await);
    let mut pace = interval(Duration::from_millis(200));
    let mut terminated = 0;
    while terminated < 100 || began.elapsed() < either(4, 60) * SECOND {
        pace.tick().await;
        terminated += terminate_sessions(&client).await;
    }
    let share = (scene.flushed().await - before) as f64 / began.elapsed().as_secs_f64() / scene.rate();
    let recovery = scene.recovers().await;
    assert!(share >= either(0.05, 0.4), "{share} of the rate meanwhile");
    let fault = format!("fault 1, {terminated} sessions terminated, {share:.2} of the rate meanwhile");
    let account = scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Stops the server in one way, starts it again after `away`, so many times; the rate has to be back each time. Gives
/// the longest recovery.
async fn restarts(
    postgres: &mut Postgres,
    scene: &Scene,
    stop: Stop,
    away: Duration,
    times: u32,
) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..times {
        let (failures, began) = (scene.failures().await, Instant::now());
        postgres.stop(stop).await;
        sleep(away).await;
        scene.was_calm_since(failures, began).await;
        postgres.start_again().await;
        longest = longest.max(scene.recovers().await);
    }
    longest
}

/// Fault 2. Scenario: fast restarts. Promise: forebay is back by itself each time.
#[tokio::test(flavor = "multi_thread")]
async fn fast_restarts() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let scene =
        Scene::begin(&database, database.dsn(), &["exporters.postgres.sending_queue.overflow=reject"]).await;
    let longest = restarts(&mut postgres, &scene, Stop::Fast, Duration::ZERO, either(2, 20)).await;
    let account = scene.ends("fault 2, fast restarts", longest).await;
    assert_eq!(account.lost + account.copies + account.rejected, 0);
}

/// Fault 3. Scenario: immediate stops, which end the sessions without a word, and starts later. Promise: forebay is
/// back by itself, tries no more than once a second meanwhile, and the oldest records give way, counted.
#[tokio::test(flavor = "multi_thread")]
pub async fn crash_restarts() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    // With as much under way as waits at most, there would be nothing that gives way.
    let sets = [
        "exporters.postgres.sending_queue.overflow=drop_oldest",
        "processors.batch.send_batch_max_size=1000",
    ];
    let scene = Scene::begin(&database, database.dsn(), &sets).await;
    let away = either(2, 5) * SECOND;
    let longest = restarts(&mut postgres, &scene, Stop::Immediate, away, either(1, 20)).await;
    let account = scene.ends("fault 3, crash restarts", longest).await;
    assert_eq!(account.copies + account.rejected, 0);
}

/// Fault 5. Scenario: SIGKILL to the postmaster, whose sessions live on for a moment, and a start later. Promise: the
/// same.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_postmaster_that_is_killed() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let longest = restarts(&mut postgres, &scene, Stop::Kill, either(3, 30) * SECOND, 1).await;
    let account = scene.ends("fault 5, postmaster killed", longest).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Sessions of forebay in the middle of a batch, which have its lane's row locked.
async fn in_a_transaction(client: &Client) -> i64 {
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forebay' \
                AND datname = current_database() AND backend_xid IS NOT NULL";
    client.query_one(open, &[]).await.unwrap().get(0)
}

/// Fault 6. Scenario: the server processes of both sessions are frozen, in whatever they are at. Promise: forebay's own
/// deadline ends the wait, and new sessions go on, but for a lane whose row is locked; once the old ones thaw, they
/// end, and what they were at is stored once.
#[tokio::test(flavor = "multi_thread")]
pub async fn frozen_sessions() {
    let database = database().await;
    let timeout = format!("exporters.postgres.timeout={}s", either(1, 10));
    let scene = Scene::begin(&database, database.dsn(), &[&timeout]).await;
    let client = database.connect().await;
    session_where(&client, "state = 'active'").await;
    let frozen = Frozen::freeze(sessions(&client).await);
    let began = Instant::now();
    let (open, before) = (in_a_transaction(&client).await, scene.flushed().await);
    assert!(frozen.count() > 0);
    // Two lanes in the middle of a batch would have to wait for the thaw.
    if open < 2 {
        scene.flushes(1).await;
    }
    let first = began.elapsed();
    assert_within(15 * SECOND, first, "the first commit");
    sleep((either(4, 60) * SECOND).saturating_sub(began.elapsed())).await;
    let (count, meanwhile) = (frozen.count(), scene.flushed().await - before);
    drop(frozen);
    let recovery = scene.recovers().await;
    let fault = format!(
        "fault 6, {count} sessions frozen, {open} in a batch, first commit after {first:.1?}, \
         {meanwhile} written meanwhile"
    );
    let account = scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Fault 6, at rest. Scenario: the only session has its server process frozen while forebay has nothing to write; then
/// the load comes. Promise: the session is given up as soon as it is asked and does not answer, which is within seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_session_at_rest() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.pool_size=1"]).await;
    let client = database.connect().await;
    session_where(&client, "state = 'idle'").await;
    let frozen = Frozen::freeze(sessions(&client).await);
    let load = Load::start(forebay.endpoint(), 0);
    let scene = Scene::of(forebay, &database, load);
    let recovery = scene.recovers().await;
    drop(frozen);
    let account = scene.ends("fault 6, session frozen at rest", recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Fault 7. Scenario: the postmaster is frozen and there are no sessions, so that connections are made and nobody
/// speaks. Promise: connecting has a bound, and forebay does not pile up sockets.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_postmaster() {
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    let scene = Scene::begin(&database, &database.dsn_by_way_of(database.address()), &[]).await;
    let client = database.connect().await;
    let (failures, began) = (scene.failures().await, Instant::now());
    let frozen = Frozen::freeze(vec![postgres.pid()]);
    terminate_sessions(&client).await;
    let mut most = 0;
    let mut pace = interval(Duration::from_millis(100));
    while began.elapsed() < either(4, 60) * SECOND {
        pace.tick().await;
        most = most.max(connections_to(database.address().port()));
    }
    scene.was_calm_since(failures, began).await;
    drop(frozen);
    let recovery = scene.recovers().await;
    assert!((1..=4).contains(&most), "{most} connections at once");
    let account = scene.ends(&format!("fault 7, postmaster frozen, {most} connections"), recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Connections over TCP to a local port, but for those that are closed already.
fn connections_to(port: u16) -> usize {
    const ESTABLISHED_OR_ASKED: [&str; 2] = ["01", "02"];
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let to = format!(":{port:04X}");
    let open = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|remote| remote.ends_with(&to))
            && fields.next().is_some_and(|state| ESTABLISHED_OR_ASKED.contains(&state))
    };
    table.lines().skip(1).filter(open).count()
}

/// Fault 9. Scenario: the database is not there when forebay starts, under load from the first moment. Promise: it
/// listens within two seconds, says why it is not ready, takes what fits, and writes it as soon as it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_later() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    postgres.stop(Stop::Fast).await;
    let started = Instant::now();
    let forebay = Forebay::start(database.dsn(), &[]).await;
    assert_within(2 * SECOND, started.elapsed(), "it listens");
    let load = Load::start(forebay.endpoint(), 0);
    forebay.becomes_unready("database_unreachable").await;
    sleep(either(2, 120) * SECOND).await;
    postgres.start_again().await;
    let scene = Scene::of(forebay, &database, load);
    let recovery = scene.recovers().await;
    let account = scene.ends("fault 9, database down at start", recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Fault 2, at rest. Scenario: the database is down, and nobody sends. Promise: forebay does not spin.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_costs_no_processor() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    postgres.stop(Stop::Fast).await;
    forebay.becomes_unready("database_unreachable").await;
    let (before, began) = (forebay.processor_time(), Instant::now());
    sleep(either(4, 60) * SECOND).await;
    let share = (forebay.processor_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    // A loop without a wait takes a whole one.
    assert!(share < either(0.5, 0.05), "{share} of a processor");
    println!("fault 2, at rest: {:.1} % of a processor", 100.0 * share);
}

/// Scenario: an immediate stop of the server while a COMMIT is under way, once before the commit is in the write-ahead
/// log (a deferred trigger takes its time) and once behind (a standby is waited for that does not exist). Promise: in
/// either case the batch is looked up once the server is back, and is stored once.
#[tokio::test(flavor = "multi_thread")]
pub async fn immediate_stops_during_a_commit() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let sets = ["service.telemetry.logs.level=debug"];
    let scene = Scene::begin(&database, database.dsn(), &sets).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON otel.lanes
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()";
    let mut longest = Duration::ZERO;
    let (mut missing, mut stored) = (0, 0);
    for _ in 0..either(1, 20) {
        let client = database.connect().await;
        client.batch_execute(slow).await.unwrap();
        session_where(&client, "query = 'COMMIT' AND wait_event = 'PgSleep'").await;
        postgres.stop(Stop::Immediate).await;
        eventually("a batch is in doubt", || async { scene.says("\"in_doubt\":true").then_some(()) }).await;
        let before = scene.looked_up();
        postgres.start_again().await;
        database.connect().await.batch_execute("DROP FUNCTION slow CASCADE").await.unwrap();
        longest = longest.max(scene.recovers().await);
        assert_eq!(scene.looked_up(), before, "a COMMIT that was cut short was taken for done");
        missing += 1;

        let client = database.connect().await;
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
        client.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
        session_where(&client, "query = 'COMMIT' AND wait_event = 'SyncRep'").await;
        // It counts from the next start on.
        client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
        postgres.stop(Stop::Immediate).await;
        postgres.start_again().await;
        longest = longest.max(scene.recovers().await);
        eventually("the batch is looked up", || async { (scene.looked_up() > before).then_some(()) }).await;
        stored += 1;
    }
    let fault = format!("immediate stop during COMMIT, {missing} found missing, {stored} found stored");
    let account = scene.ends(&fault, longest).await;
    assert_eq!(account.lost + account.copies, 0);
}
