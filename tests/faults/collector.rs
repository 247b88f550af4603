//! The collector itself: asked to end, and killed. What must hold: what an answer promised is kept, or the loss is
//! told by whoever is left to tell it: forebay at its end, the sender where forebay is killed.

use std::time::Duration;

use forebay::embedded::Stop;
use serde_json::Value;
use support::forebay::Forebay;
use support::postgres::{Database, Postgres, database};
use tokio::time::{Instant, sleep};

use crate::chance::{assert_within, chance, either};
use crate::inject::{Frozen, sessions};
use crate::load::Load;
use crate::oracle::Oracle;
use crate::scene::{Scene, is_kind_to};

const SECOND: Duration = Duration::from_secs(1);
/// An OK means stored.
const STORED_FIRST: &str = "exporters.postgres.sending_queue.enabled=false";
const GRACE: Duration = Duration::from_secs(2);
/// Records that the default buffer holds.
const CAPACITY: u64 = 10_000;

/// How forebay has ended under load.
struct Ending {
    took: Duration,
    status: Option<i32>,
    /// Its last words, which are its books.
    words: Value,
    /// What it says was lost for want of time.
    undelivered: u64,
    oracle: Oracle,
}

/// SIGTERM under load.
async fn end_under_load(scene: Scene) -> Ending {
    let Scene { forebay, load, .. } = scene;
    let asked = Instant::now();
    let (status, said) = forebay.terminate().await;
    let took = asked.elapsed();
    let said = said.iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    let undelivered = said.iter().find_map(|line| line["undelivered"].as_u64()).unwrap_or_default();
    let words = said.last().expect("its last words").clone();
    Ending { took, status, words, undelivered, oracle: load.end().await }
}

/// Checks the last words against the oracle, once the server has ended what it was at.
async fn compare(fault: &str, database: &Database, ending: Ending) {
    let Ending { took, status, words, undelivered, oracle } = ending;
    is_kind_to(database, 0).await;
    let count = |name: &str| words[name].as_u64().unwrap_or_else(|| panic!("{name} in {words}"));
    let outcomes = ["flushed", "dropped", "rejected", "dead_lettered"].map(count);
    assert_eq!(count("received"), outcomes.iter().sum::<u64>(), "the books of the end: {words}");
    // A batch whose COMMIT was not answered counts as lost, and may be stored.
    let account = oracle.settle_killed(database, undelivered).await;
    assert!(count("flushed") <= account.stored + account.copies, "{words}: {account}");
    assert_eq!(status, Some(i32::from(undelivered > 0)), "{words}: {account}");
    // Behind the grace: the last answers and the last losses have a second each.
    assert_within(GRACE + 3 * SECOND, took, "the end");
    println!("{fault}: {account}; forebay says {undelivered} are lost; the end took {took:.1?}");
}

/// Fault 38. Scenario: SIGTERM under load while the database is well, while it is down, while it is frozen. Promise:
/// the end comes within the grace and a second for last answers, and forebay tells what was lost, in its last words
/// and by its exit status.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_whatever_the_database_does() {
    let mut postgres = Postgres::start().await;
    let grace = format!("exporters.postgres.shutdown_timeout={}s", GRACE.as_secs());
    let well = postgres.database().await;
    let scene = Scene::begin(&well, well.dsn(), &[&grace]).await;
    compare("fault 38, SIGTERM, database well", &well, end_under_load(scene).await).await;

    let frozen = postgres.database().await;
    let scene = Scene::begin(&frozen, frozen.dsn(), &[&grace]).await;
    let processes = sessions(&frozen.connect().await).await;
    let thaw = Frozen::freeze([processes, vec![postgres.pid()]].concat());
    let end = end_under_load(scene).await;
    drop(thaw);
    compare("fault 38, SIGTERM, database frozen", &frozen, end).await;

    let down = postgres.database().await;
    let scene = Scene::begin(&down, down.dsn(), &[&grace]).await;
    postgres.stop(Stop::Fast).await;
    scene.forebay.becomes_unready("database_unreachable").await;
    let end = end_under_load(scene).await;
    postgres.start_again().await;
    compare("fault 38, SIGTERM, database down", &down, end).await;
}

/// A forebay that is killed and started again, and the load on it.
struct Mortal {
    forebay: Forebay,
    load: Load,
    dsn: String,
    sets: &'static [&'static str],
}

impl Mortal {
    async fn begin(database: &Database, sets: &'static [&'static str], group: u64) -> Self {
        let forebay = Forebay::ready(database.dsn(), sets).await;
        let load = Load::start(forebay.endpoint(), group);
        Self { forebay, load, dsn: database.dsn().to_owned(), sets }
    }

    /// SIGKILL, and a successor; gives how long the successor takes until it is ready.
    async fn dies(&mut self) -> Duration {
        self.forebay.signal("KILL").await;
        let killed = Instant::now();
        self.forebay = Forebay::ready(&self.dsn, self.sets).await;
        self.load.turn_to(self.forebay.endpoint());
        killed.elapsed()
    }

    /// Ends the load and waits for the last records.
    async fn rests(self) -> Oracle {
        let oracle = self.load.end().await;
        self.forebay.settles().await;
        oracle
    }
}

/// Scenario: SIGKILL at random moments, where an OK means stored. Promise: nothing that was answered OK is lost; what
/// had no answer is known to its sender, who sends it again, and is stored no more often than it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_where_ok_means_stored() {
    let database = database().await;
    let mut chance = chance("SIGKILL, OK means stored");
    let mut mortal = Mortal::begin(&database, &[STORED_FIRST], 0).await;
    let (deaths, mut longest) = (either(4, 200), Duration::ZERO);
    for _ in 0..deaths {
        sleep(Duration::from_millis(chance.u64(200..1000))).await;
        longest = longest.max(mortal.dies().await);
    }
    let oracle = Oracle { refused_may_be_stored: true, ..mortal.rests().await };
    is_kind_to(&database, 0).await;
    let account = oracle.settle_killed(&database, 0).await;
    assert!(account.again > 0, "nobody was cut off: {account}");
    println!("{deaths} × SIGKILL, OK means stored: {account}; ready again in {longest:.1?} at most");
}

/// Scenario: SIGKILL at random moments, where an OK means held in memory. Promise: no more is lost than was held, and
/// nothing is stored twice that was answered once.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_where_ok_means_held() {
    let database = database().await;
    let mut chance = chance("SIGKILL, OK means held");
    let mut mortal = Mortal::begin(&database, &[], 0).await;
    let (deaths, mut longest) = (either(3, 200), Duration::ZERO);
    for _ in 0..deaths {
        sleep(Duration::from_millis(chance.u64(200..1000))).await;
        longest = longest.max(mortal.dies().await);
    }
    let oracle = mortal.rests().await;
    is_kind_to(&database, 0).await;
    let account = oracle.settle_killed(&database, deaths * CAPACITY).await;
    assert!(account.again > 0, "nobody was cut off: {account}");
    println!("{deaths} × SIGKILL, OK means held: {account}; ready again in {longest:.1?} at most");
}

/// Scenario: two forebays write to one database, and both are killed and started again at random. Promise: they do not
/// get into each other's way, and what was answered OK is stored.
#[tokio::test(flavor = "multi_thread")]
async fn two_forebays_on_one_database() {
    let database = database().await;
    let mut chance = chance("two forebays");
    let mut both = [
        Mortal::begin(&database, &[STORED_FIRST], 0).await,
        Mortal::begin(&database, &[STORED_FIRST], 1).await,
    ];
    let (deaths, mut longest) = (either(4, 100), Duration::ZERO);
    for death in 0..deaths {
        sleep(Duration::from_millis(chance.u64(100..600))).await;
        // Each of them dies, whatever chance says.
        let victim = if death < 2 { death as usize } else { chance.usize(0..2) };
        longest = longest.max(both[victim].dies().await);
    }
    let mut oracle = Oracle { refused_may_be_stored: true, ..Oracle::default() };
    for mortal in both {
        oracle.add(mortal.rests().await);
    }
    is_kind_to(&database, 0).await;
    let account = oracle.settle_killed(&database, 0).await;
    assert!(account.again > 0, "nobody was cut off: {account}");
    println!("two forebays, {deaths} × SIGKILL: {account}; ready again in {longest:.1?} at most");
}
