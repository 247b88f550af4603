//! Several hosts: one that keeps everybody waiting, one that is promoted, one that lags. What must hold: the host that
//! can be written to is found within seconds, and what was answered OK is there.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::embedded::Stop;
use support::eventually;
use support::forebay::Forebay;
use support::postgres::{Database, Postgres, database};
use support::proxy::{Action, Line, Message, Proxy};
use tokio::time::{Instant, sleep};

use crate::chance::{assert_within, either};
use crate::inject::{sessions, terminate_sessions};
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);

/// A connection string with two hosts.
pub fn both(database: &Database, first: u16, second: u16) -> String {
    let (user, name) = (forebay::embedded::NAME, database.name());
    format!("host=127.0.0.1,127.0.0.1 port={first},{second} user={user} dbname={name} sslmode=disable")
}

/// Decides that each message goes on.
pub fn forward(_: &Message) -> Action {
    Action::Forward
}

/// Fault 7, one of two. Scenario: the first of two ways to the database takes connections and says nothing, at the start and
/// later in the middle of the load, when it comes back and the second one goes silent. Promise: the other way has its turn
/// within seconds, each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_keeps_everybody_waiting() {
    let database = database().await;
    let lines = [Line::default(), Line::default()];
    let first = Proxy::start_on(lines[0].clone(), database.address(), forward).await;
    let second = Proxy::start_on(lines[1].clone(), database.address(), forward).await;
    let dsn = both(&database, first.address().port(), second.address().port());
    let sets = ["exporters.postgres.timeout=1s"];
    lines[0].set_silent(true);
    let asked = Instant::now();
    Forebay::ready(&dsn, &sets).await.terminate().await;
    let ready = asked.elapsed();
    assert_within(10 * SECOND, ready, "ready");
    lines[0].set_silent(false);
    let scene = Scene::begin(&database, &dsn, &sets).await;
    let mut longest = Duration::ZERO;
    for round in 0..either(2, 20) {
        lines[round % 2].set_silent(true);
        longest = longest.max(scene.recovers().await);
        lines[round % 2].set_silent(false);
    }
    let fault = format!("fault 7, one host of two silent, ready after {ready:.1?} at the start");
    let account = scene.ends(&fault, longest).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// A primary and its standby.
pub struct Pair {
    pub primary: Postgres,
    /// Keeps the standby's server.
    _standby: Postgres,
    pub database: Database,
    /// The same on the standby.
    pub copy: Database,
    pub line: Line,
    /// Between them.
    replication: Proxy,
}

impl Pair {
    /// No commit waits for the standby.
    pub async fn asynchronous() -> Self {
        let primary = Postgres::start().await;
        let database = primary.database().await;
        let line = Line::default();
        let replication = Proxy::start_on(line.clone(), database.address(), forward).await;
        let standby = primary.standby(replication.address()).await;
        let copy = standby.existing(database.name());
        Self { primary, _standby: standby, database, copy, line, replication }
    }

    /// A commit waits for the standby.
    async fn synchronous() -> Self {
        let pair = Self::asynchronous().await;
        let client = pair.database.connect().await;
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
        client.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
        let follows = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
        eventually("the standby follows", || async { client.query_opt(follows, &[]).await.unwrap() }).await;
        pair
    }

    /// Names both.
    pub fn dsn(&self) -> String {
        both(&self.database, self.database.address().port(), self.copy.address().port())
    }
}

/// How many batches the lanes' rows have counted, by gateway and lane: a row has another number after 200 of them. The clerk's,
/// which only moves with losses, is not among them.
async fn lanes(database: &Database) -> BTreeMap<(String, i16), i64> {
    let rows =
        "SELECT gateway::text, lane % 2::int2, lane / 2 * 200 + sequence FROM otel.lanes WHERE lane >= 0";
    let rows = database.connect().await.query(rows, &[]).await.unwrap();
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

/// Promotes the standby to which `scene` is to turn; gives how long the first commit there takes.
async fn promote(scene: &mut Scene, copy: &Database) -> Duration {
    let before = scene.flushed().await;
    let promoted = Instant::now();
    let client = copy.connect().await;
    assert!(client.query_one("SELECT pg_promote()", &[]).await.unwrap().get::<_, bool>(0));
    scene.database = copy.clone();
    eventually("the first commit", || async { (scene.flushed().await > before).then_some(()) }).await;
    promoted.elapsed()
}

/// Fault 15. Scenario: the primary is stopped at once under load, its synchronous standby is promoted, and the old primary
/// comes back read-only. Promise: the first commit is there ten seconds after the promotion, by the same lanes' rows, which
/// have come over; nothing is lost or stored twice, and nobody goes back to the old primary.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_standby_that_is_promoted() {
    let mut pair = Pair::synchronous().await;
    let mut scene = Scene::begin(&pair.database, &pair.dsn(), &[]).await;
    let client = pair.database.connect().await;
    // These count from its next start on.
    for change in ["SET default_transaction_read_only = on", "RESET synchronous_standby_names"] {
        client.batch_execute(&format!("ALTER SYSTEM {change}")).await.unwrap();
    }
    pair.primary.stop(Stop::Immediate).await;
    scene.forebay.becomes_unready("database_unreachable").await;
    let before = lanes(&pair.copy).await;
    sleep(either(Duration::ZERO, 20 * SECOND)).await;
    let first = promote(&mut scene, &pair.copy).await;
    assert_within(10 * SECOND, first, "the first commit");
    let recovery = first + scene.recovers().await;
    eventually("each lane goes on where its row was", || async {
        let after = lanes(&pair.copy).await;
        assert!(before.keys().eq(after.keys()), "{before:?} {after:?}");
        before.iter().all(|(lane, sequence)| after[lane] > *sequence).then_some(())
    })
    .await;

    pair.primary.start_again().await;
    terminate_sessions(&pair.copy.connect().await).await;
    scene.recovers().await;
    let strays = sessions(&pair.database.connect().await).await;
    assert_eq!(strays.len(), 0, "somebody is with the old primary");
    let fault = format!("fault 15, standby promoted, first commit after {first:.1?}");
    let account = scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
}

/// Fault 15, lagging. Scenario: the line to the synchronous standby goes silent, so that commits are on the primary only and
/// are not answered, for longer than a batch may take; then the primary is stopped and the standby promoted. Promise: a
/// batch that is found on the primary counts as stored once the standby has it too; nothing is lost or stored twice.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_standby_that_lags() {
    let mut pair = Pair::synchronous().await;
    let sets = ["exporters.postgres.timeout=1s", "exporters.postgres.sending_queue.overflow=reject"];
    let mut scene = Scene::begin(&pair.database, &pair.dsn(), &sets).await;
    pair.line.set_silent(true);
    scene.forebay.becomes_unready("database_unreachable").await;
    sleep(either(4, 60) * SECOND).await;
    let client = pair.database.connect().await;
    let ahead =
        lanes(&pair.database).await.values().sum::<i64>() - lanes(&pair.copy).await.values().sum::<i64>();
    let most = sessions(&client).await.len();
    pair.primary.stop(Stop::Immediate).await;
    // What was on its way to the standby goes with it.
    drop(pair.replication);
    let first = promote(&mut scene, &pair.copy).await;
    let recovery = first + scene.recovers().await;
    assert!(ahead > 0, "the primary had committed nothing that the standby had not");
    assert!(most <= 4, "{most} sessions wait for the standby");
    let fault = format!("fault 15, standby lags by {ahead} batches, first commit after {first:.1?}");
    let account = scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
}
