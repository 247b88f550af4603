//! The directory copied while a forebay runs on it, as a snapshot of a volume does, and a second process.

use std::time::Duration;

use forebay::embedded::Stop;
use support::eventually;
use support::forebay::{Forebay, arguments, command, ran};
use support::postgres::{Database, Postgres, database};
use support::sender::Answer;
use support::{records::numbered_request, stored};
use tokio::time::sleep;

use super::{Home, kill, rests};
use crate::chance::{chance, either};
use crate::load::Load;
use crate::oracle::Oracle;

/// Waits until `forebay` has received `records` more.
pub async fn receives(forebay: &Forebay, records: u64) {
    let received = || async { forebay.scrape().await.value("log_buffer_received_total") };
    let before = received().await;
    eventually("records arrive", || async { (received().await >= before + records).then_some(()) }).await;
}

/// Checks that `kept` are stored once each, and nothing twice.
async fn holds(database: &Database, kept: &Oracle) {
    stored(database).await.assert_holds_each_once(&kept.acknowledged());
}

/// A round: the directory is copied, with PostgreSQL away meanwhile or not; the original goes on for a while, and is killed; the
/// next forebay starts from the copy. Returns what was acknowledged before the copy was begun, or by the next forebay.
async fn start_from_a_copy(
    postgres: &mut Postgres,
    database: &Database,
    chance: &mut fastrand::Rng,
    round: u64,
) -> Oracle {
    let home = Home::new(database, &[]);
    let forebay = home.ready().await;
    let [before, during] = [0, 1].map(|group| Load::once(forebay.endpoint(), 4 * round + group));
    receives(&forebay, 1_000).await;
    let is_away = round % 2 == 1;
    if is_away {
        postgres.stop(Stop::Immediate).await;
        receives(&forebay, 1_000 + chance.u64(0..3_000)).await;
    }
    let mut kept = before.end().await;
    let copy = home.copied();
    if is_away {
        postgres.start_again().await;
    }
    sleep(Duration::from_millis(chance.u64(0..700))).await;
    kill(forebay).await;
    // What was acknowledged meanwhile is lost with the volume, where PostgreSQL had not got it.
    let lost = during.end().await;
    assert!(!lost.acknowledged().is_empty(), "nothing was acknowledged while the directory was copied");
    let next = copy.start().await;
    let after = Load::once(next.endpoint(), 4 * round + 2);
    receives(&next, 1_000).await;
    kept.add(after.end().await);
    rests(&copy, next, database, &kept).await;
    kept
}

/// Scenario: the directory is copied under load, as a snapshot of a volume is made; the original goes on, stores more, is killed,
/// and the next forebay starts from the copy. Promise: what was acknowledged before the copy was begun is stored exactly once, and
/// what was stored after it is not written twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_from_a_copy_of_the_directory() {
    let mut postgres = Postgres::start().await;
    let mut chance = chance("a copy of the directory");
    let rounds = either(4, 50);
    for round in 0..rounds {
        let database = postgres.database().await;
        let kept = start_from_a_copy(&mut postgres, &database, &mut chance, round).await;
        holds(&database, &kept).await;
    }
    println!("{rounds} starts from a copy of the directory: all that was acknowledged before is stored once");
}

/// Scenario: a second forebay is started on the directory of a running one. Promise: it ends at once with exit status 2, as all that cannot start, and a message that
/// names the directory; the first one notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_forebay_on_the_same_directory() {
    let database = database().await;
    let home = Home::new(&database, &[]);
    let forebay = home.ready().await;
    let load = Load::once(forebay.endpoint(), 0);
    receives(&forebay, 1_000).await;
    let sets = home.sets();
    let arguments = arguments(&sets.iter().map(String::as_str).collect::<Vec<_>>());
    let second = ran(command().env("DATABASE_URL", database.dsn()).args(arguments)).await;
    let says = format!("{} belongs to another forebay that is running", home.directory().display());
    assert!(second.status == Some(2) && second.err.contains(&says), "{second:?}");
    receives(&forebay, 1_000).await;
    let oracle = load.end().await;
    rests(&home, forebay, &database, &oracle).await;
    assert_eq!(oracle.settle_killed(&database, 0).await.refused, 0);
}

/// Scenario: a copy of the directory is started as a second forebay, under load on both. Promise: the second one writes, the first one
/// writes nothing more, says so in health and log, and sends its senders away; nothing is written twice. Once the second one
/// has ended, the first directory gets its turn, and all that was ever acknowledged is stored once.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_directory_fences_the_first_forebay() {
    let database = database().await;
    let home = Home::new(&database, &[]);
    let first = home.ready().await;
    let load = Load::once(first.endpoint(), 0);
    receives(&first, 1_000).await;
    let copy = home.copied();
    receives(&first, 1_000).await;
    let second = copy.ready().await;
    let more = Load::once(second.endpoint(), 1);
    first.becomes_unready("disk").await;
    let (_, health) = first.health().await;
    let says = "another forebay has taken over this queue";
    assert!(health["detail"].as_str().unwrap_or_default().contains(says), "{health}");
    let refused = first.sender().await.send(numbered_request(u64::MAX / 4..u64::MAX / 4 + 1)).await;
    assert_eq!(Answer::of(refused), Answer::Refused);
    let flushed = || async { first.scrape().await.value("log_buffer_flushed_total") };
    let before = flushed().await;
    receives(&second, 4_000).await;
    assert_eq!(flushed().await, before, "the first forebay goes on writing");
    assert!(first.said().iter().any(|line| line.contains(says)), "{:#?}", first.said());
    first.scrape().await.assert_balanced();
    let (mut all, theirs) = (load.end().await, more.end().await);
    let (status, said) = first.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    rests(&copy, second, &database, &theirs).await;
    all.add(theirs);
    rests(&home, home.ready().await, &database, &all).await;
}

/// Scenario: the directory of a forebay with a backlog moves to another forebay, on another host name's terms: another number of lanes,
/// other limits. Promise: that one stores what the first one has left, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_moves_to_another_forebay() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let home = Home::new(&database, &[]);
    let forebay = home.ready().await;
    let load = Load::once(forebay.endpoint(), 0);
    receives(&forebay, 2_000).await;
    postgres.stop(Stop::Fast).await;
    receives(&forebay, 4_000).await;
    let oracle = load.end().await;
    kill(forebay).await;
    postgres.start_again().await;
    let sets = ["exporters.postgres.pool_size=5", "exporters.postgres.sending_queue.queue_size=500"];
    let moved = home.moved(&sets);
    let next = moved.start().await;
    let page = rests(&moved, next, &database, &oracle).await;
    assert!(page.value("log_buffer_recovered_total") >= 4_000, "the directory had a backlog");
}

/// Scenario: two forebays, each with a directory of its own, write to one database, and both are killed at random. Promise: each record
/// that one of them acknowledged is stored once.
#[tokio::test(flavor = "multi_thread")]
async fn two_directories_and_one_database() {
    let database = database().await;
    let mut chance = chance("two directories");
    let homes = [Home::new(&database, &[]), Home::new(&database, &[])];
    let mut forebays = [homes[0].ready().await, homes[1].ready().await];
    let loads = [0, 1].map(|at: usize| Load::once(forebays[at].endpoint(), at as u64));
    for kill in 0..either(6, 100) {
        sleep(Duration::from_millis(chance.u64(100..600))).await;
        let victim = if kill < 2 { kill } else { chance.usize(0..2) };
        let [first, second] = forebays;
        forebays = match victim {
            0 => [homes[0].killed(first).await, second],
            _ => [first, homes[1].killed(second).await],
        };
        loads[victim].turn_to(forebays[victim].endpoint());
    }
    let mut all = Oracle::default();
    for load in loads {
        all.add(load.end().await);
    }
    for forebay in forebays {
        forebay.settles().await;
        let (status, said) = forebay.terminate().await;
        assert_eq!(status, Some(0), "{said:#?}");
    }
    holds(&database, &all).await;
}
