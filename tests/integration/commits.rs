//! Written once: connections that break at any point, a COMMIT without an answer above all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinSet;

use crate::support::forebay::{Forebay, QUICK};
use crate::support::postgres::{Database, database};
use crate::support::proxy::{Action, Message, Proxy};
use crate::support::sender::{Sender, Told};
use crate::support::stored;

/// What forebay says when it has looked up a batch in doubt, and found it.
const LOOKED_UP: &str = "the batch whose COMMIT was not answered is stored";

/// Sends requests of ten records, each once the one before is written, until `enough`.
async fn send_until(sender: Sender, first: u64, enough: Arc<dyn Fn() -> bool + Send + Sync>) -> Told {
    let mut told = Told::default();
    let mut number = first;
    while !enough() {
        sender.send_numbered(number..number + 10, &mut told).await;
        number += 10;
    }
    told
}

/// Runs forebay at the other end of `proxy` with four senders until `cuts` connections were cut; everything
/// that was sent has to be stored, once. Gives what forebay said.
async fn all_is_stored_once(database: &Database, forebay: Forebay, proxy: Proxy, cuts: u64) -> Vec<String> {
    let proxy = Arc::new(proxy);
    let mut senders = JoinSet::new();
    for index in 0..4 {
        let proxy = proxy.clone();
        let enough = Arc::new(move || proxy.cuts() >= cuts);
        senders.spawn(send_until(forebay.sender().await, index * 1_000_000_000, enough));
    }
    let mut told = Told::default();
    senders.join_all().await.into_iter().for_each(|one| told.add(one));
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), told.sent, "nothing was shed");
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    let stored = stored(database).await;
    stored.assert_holds_each_once(&told.stored);
    assert_eq!(stored.rows(), told.sent);
    said
}

/// A forebay whose senders wait until their records are stored, so that there are many small batches.
async fn forebay_by_way_of(database: &Database, proxy: SocketAddr) -> Forebay {
    let dsn = format!("{} sslmode=disable", database.dsn_by_way_of(proxy));
    let waiting = "exporters.postgres.sending_queue.enabled=false";
    // A batch in doubt is never given up, and the others have time.
    let sets = [QUICK, &[waiting, "exporters.postgres.timeout=50s"]].concat();
    Forebay::ready(&dsn, &sets).await
}

/// Decides `action` at each third COMMIT.
fn each_third_commit(action: Action) -> impl Fn(&Message) -> Action + Send + Sync + 'static {
    let commits = AtomicU64::new(0);
    move |message| {
        let cut = message.is_commit() && commits.fetch_add(1, Ordering::SeqCst) % 3 == 2;
        if cut { action } else { Action::Forward }
    }
}

/// Scenario: the server commits, and its answer is lost. Guarantee: the batch is looked up, not written again.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost() {
    let database = database().await;
    let proxy = Proxy::start(database.address(), each_third_commit(Action::SwallowAnswer)).await;
    let forebay = forebay_by_way_of(&database, proxy.address()).await;
    let said = all_is_stored_once(&database, forebay, proxy, 50).await;
    assert!(said.iter().any(|line| line.contains(LOOKED_UP)), "{said:#?}");
}

/// Scenario: the COMMIT is lost itself. Guarantee: the batch is found to be missing, and is written again.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_does_not_arrive() {
    let database = database().await;
    let proxy = Proxy::start(database.address(), each_third_commit(Action::CutBefore)).await;
    let forebay = forebay_by_way_of(&database, proxy.address()).await;
    let said = all_is_stored_once(&database, forebay, proxy, 50).await;
    assert!(!said.iter().any(|line| line.contains(LOOKED_UP)), "{said:#?}");
}

/// Scenario: the connection breaks while the server is still at work on a COMMIT that takes its time. Guarantee:
/// the next try waits for the end of that, and then knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_still_at_work() {
    let database = database().await;
    let cutting = Arc::new(AtomicBool::new(false));
    let (cut, decide) = (cutting.clone(), each_third_commit(Action::CutAfter));
    let at_commits = move |message: &Message| {
        if cut.load(Ordering::SeqCst) { decide(message) } else { Action::Forward }
    };
    let proxy = Proxy::start(database.address(), at_commits).await;
    let forebay = forebay_by_way_of(&database, proxy.address()).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON otel.lanes
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()";
    database.connect().await.batch_execute(slow).await.unwrap();
    cutting.store(true, Ordering::SeqCst);
    let said = all_is_stored_once(&database, forebay, proxy, 6).await;
    assert!(said.iter().any(|line| line.contains(LOOKED_UP)), "{said:#?}");
}

/// Scenario: the connection breaks at the first message, at the second after that, at the third after that, and
/// so on through all that a batch takes, before the message and behind it. Guarantee: stored once.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_anywhere() {
    let database = database().await;
    let cutting = Arc::new(AtomicBool::new(false));
    let (cut, place) = (cutting.clone(), Mutex::new((0_u64, 0_u64)));
    let everywhere = move |_: &Message| {
        let (cuts, since) = &mut *place.lock().unwrap();
        *since += 1;
        if !cut.load(Ordering::SeqCst) || *since <= *cuts / 2 {
            return Action::Forward;
        }
        (*cuts, *since) = (*cuts + 1, 0);
        if *cuts % 2 == 0 { Action::CutBefore } else { Action::CutAfter }
    };
    let proxy = Proxy::start(database.address(), everywhere).await;
    let forebay = forebay_by_way_of(&database, proxy.address()).await;
    cutting.store(true, Ordering::SeqCst);
    all_is_stored_once(&database, forebay, proxy, 120).await;
}
