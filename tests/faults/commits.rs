//! Connections that break at any point, at a COMMIT above all. What must hold: written once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use support::eventually;
use support::forebay::QUICK;
use support::postgres::{Database, database};
use support::proxy::{Action, End, Message, Proxy};

use crate::chance::{chance, either};
use crate::scene::Scene;

/// A scene with the proxy in between that lets everything through until it is told to cut.
async fn begin(
    database: &Database,
    decide: impl Fn(&Message) -> Action + Send + Sync + 'static,
) -> (Scene, Proxy, Arc<AtomicBool>) {
    let cutting = Arc::new(AtomicBool::new(false));
    let cut = cutting.clone();
    let decide =
        move |message: &Message| if cut.load(Ordering::SeqCst) { decide(message) } else { Action::Forward };
    let proxy = Proxy::start(database.address(), decide).await;
    let dsn = format!("{} sslmode=disable", database.dsn_by_way_of(proxy.address()));
    let scene = Scene::begin(database, &dsn, QUICK).await;
    (scene, proxy, cutting)
}

/// Cuts until there were `cuts`, then lets forebay recover and checks the books. Gives how many batches it has looked
/// up.
async fn cut_and_settle(
    fault: &str,
    (scene, proxy, cutting): (Scene, Proxy, Arc<AtomicBool>),
    cuts: u64,
) -> usize {
    cutting.store(true, Ordering::SeqCst);
    let mut seen = 0;
    while seen < cuts {
        // There is a bound to the wait for the next cut, whatever their number is.
        seen = eventually("the next cut", || async { Some(proxy.cuts()).filter(|now| *now > seen) }).await;
    }
    cutting.store(false, Ordering::SeqCst);
    let recovery = scene.recovers().await;
    let looked_up = scene.looked_up();
    let account = scene.ends(&format!("{fault}, {seen} cuts, {looked_up} looked up"), recovery).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
    looked_up
}

/// Decides `action` at each third message that is `wanted`.
fn each_third(
    wanted: impl Fn(&Message) -> bool + Send + Sync + 'static,
    action: impl Fn() -> Action + Send + Sync + 'static,
) -> impl Fn(&Message) -> Action + Send + Sync + 'static {
    let met = AtomicU64::new(0);
    move |message| {
        let third = wanted(message) && met.fetch_add(1, Ordering::SeqCst) % 3 == 2;
        if third { action() } else { Action::Forward }
    }
}

/// An end by chance.
fn any_end(test: &str) -> impl Fn() -> End + Send + Sync + 'static {
    let chance = Mutex::new(chance(test));
    move || if chance.lock().unwrap().bool() { End::Fin } else { End::Rst }
}

/// Tells the answers to the COMMITs of batches from those of transactions that bring no rows: that of a look-up, that
/// of a partition.
fn answers_to_batches() -> impl Fn(&Message) -> bool + Send + Sync + 'static {
    let with_rows = Mutex::new(HashSet::new());
    move |message| {
        let mut with_rows = with_rows.lock().unwrap();
        if message.is_begin() {
            with_rows.remove(&message.connection);
        } else if message.is_copy_data() {
            with_rows.insert(message.connection);
        }
        message.is_committed() && with_rows.remove(&message.connection)
    }
}

/// Fault 10. Scenario: the server commits, and the connection ends before its answer is through. Promise: the batch
/// is looked up by its lane's sequence row, not written again.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_commit_whose_answer_is_lost() {
    let database = database().await;
    let end = any_end("fault 10");
    let scene = begin(&database, each_third(answers_to_batches(), move || Action::CutBefore(end()))).await;
    let wanted = either(50, 500);
    let looked_up = cut_and_settle("fault 10, answer to COMMIT lost", scene, wanted).await;
    assert!(looked_up as u64 >= wanted, "of {wanted} cuts {looked_up} batches were found stored");
}

/// Fault 10, the other way. Scenario: the connection ends before the COMMIT is through. Promise: the batch is found
/// to be missing, and is written again.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_commit_that_does_not_arrive() {
    let database = database().await;
    let end = any_end("fault 10, the other way");
    let scene = begin(&database, each_third(Message::is_commit, move || Action::CutBefore(end()))).await;
    let looked_up = cut_and_settle("fault 10, COMMIT lost", scene, either(50, 500)).await;
    assert_eq!(looked_up, 0);
}

/// Fault 10, the slow way. Scenario: the connection ends while the server is still at work on a COMMIT that takes its
/// time. Promise: the next try waits for the end of that, and then knows.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_commit_that_is_still_at_work() {
    let database = database().await;
    let scene = begin(&database, each_third(Message::is_commit, || Action::CutAfter(End::Fin))).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON otel.lanes
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()";
    database.connect().await.batch_execute(slow).await.unwrap();
    let looked_up = cut_and_settle("fault 10, COMMIT at work", scene, either(6, 60)).await;
    assert!(looked_up > 0);
}

/// Where the next cut is.
#[derive(Default)]
struct Place {
    /// Behind so many messages of a transaction, from both sides.
    behind: u64,
    /// How many times the end of a transaction was met before the place was.
    rounds: u64,
    /// A transaction is to be let through before the next cut. It is so in every other round, which therefore cuts
    /// what is written on connections that are in use; the others cut each try on a new one.
    resting: bool,
    /// How many messages of its transaction each connection has brought.
    brought: HashMap<u64, u64>,
}

impl Place {
    /// Decides at one message.
    fn decide(&mut self, message: &Message, end: impl Fn() -> End) -> Action {
        let brought = self.brought.entry(message.connection).or_default();
        *brought = if message.is_begin() { 1 } else { *brought + u64::from(*brought > 0) };
        if message.is_committed() && !std::mem::take(&mut self.resting) && *brought < self.behind {
            (self.behind, self.rounds) = (0, self.rounds + 1);
        } else if *brought == self.behind + 1 && !self.resting {
            (self.behind, self.resting) = (self.behind + 1, self.rounds.is_multiple_of(2));
            return Action::CutBefore(end());
        }
        Action::Forward
    }
}

/// Fault 11. Scenario: the connection ends before the first message of a batch's transaction, before the second, and
/// so on through all messages of both sides, by FIN or RST. Promise: stored once, wherever that is.
#[tokio::test(flavor = "multi_thread")]
pub async fn a_connection_that_breaks_anywhere() {
    let database = database().await;
    let end = any_end("fault 11");
    let place = Arc::new(Mutex::new(Place::default()));
    let deciding = place.clone();
    let scene = begin(&database, move |message| deciding.lock().unwrap().decide(message, &end)).await;
    scene.2.store(true, Ordering::SeqCst);
    for round in 1..=either(2, 40) {
        let mut seen = 0;
        while place.lock().unwrap().rounds < round {
            seen = eventually("the next cut or round", || async {
                let cuts = scene.1.cuts();
                (cuts > seen || place.lock().unwrap().rounds >= round).then_some(cuts)
            })
            .await;
        }
    }
    let cuts = scene.1.cuts();
    cut_and_settle("fault 11, cut anywhere", scene, cuts).await;
}
