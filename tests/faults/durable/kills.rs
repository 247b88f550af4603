//! SIGKILL at random moments.

use std::time::Duration;

use forebay::embedded::Stop;
use support::postgres::{Database, Postgres};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Home, rests};
use crate::chance::{chance, either};
use crate::inject::{Frozen, sessions, terminate_sessions};
use crate::load::Load;

/// How many times forebay is killed; `FOREBAY_FAULTS_LONG` asks for the long count.
const KILLS: (u32, u32) = (20, 200);

fn moment(chance: &mut fastrand::Rng, most: u64) -> Duration {
    Duration::from_millis(chance.u64(20..most))
}

/// Lets PostgreSQL go up and down until `over`; leaves it up.
async fn weather(
    mut postgres: Postgres,
    database: Database,
    mut chance: fastrand::Rng,
    over: watch::Receiver<bool>,
) -> (Postgres, u32) {
    let mut faults = 0;
    while !*over.borrow() {
        sleep(moment(&mut chance, 1200)).await;
        faults += 1;
        match chance.u8(0..6) {
            0 => drop(terminate_sessions(&database.connect().await).await),
            1 => {
                let processes = sessions(&database.connect().await).await;
                let frozen = Frozen::freeze([processes, vec![postgres.pid()]].concat());
                sleep(moment(&mut chance, 2000)).await;
                drop(frozen);
            }
            kind => {
                postgres.stop([Stop::Immediate, Stop::Fast, Stop::Kill][usize::from(kind) % 3]).await;
                sleep(moment(&mut chance, 1500)).await;
                postgres.start_again().await;
            }
        }
    }
    (postgres, faults)
}

/// Scenario: forebay is killed at random moments, and started again at once, while PostgreSQL is stopped, killed, frozen and
/// started again beside it. Promise: each record that was answered OK is stored exactly once, and none is stored twice.
#[tokio::test(flavor = "multi_thread")]
async fn kills_while_postgresql_goes_up_and_down() {
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    let mut chance = chance("SIGKILL, durable");
    let home = Home::new(&database, &[]);
    let mut forebay = home.ready().await;
    let load = Load::once(forebay.endpoint(), 0);
    let over = watch::Sender::new(false);
    let weather = tokio::spawn(weather(postgres, database.clone(), chance.fork(), over.subscribe()));
    let (kills, mut longest) = (either(KILLS.0, KILLS.1), Duration::ZERO);
    for _ in 0..kills {
        sleep(moment(&mut chance, 1000)).await;
        let killed = Instant::now();
        forebay = home.killed(forebay).await;
        longest = longest.max(killed.elapsed());
        load.turn_to(forebay.endpoint());
    }
    over.send_replace(true);
    let (_postgres, faults) = weather.await.unwrap();
    let oracle = load.end().await;
    rests(&home, forebay, &database, &oracle).await;
    let account = oracle.settle_killed(&database, 0).await;
    assert!(account.unanswered > 0, "nobody was cut off: {account}");
    println!(
        "{kills} × SIGKILL, durable, {faults} faults of PostgreSQL: {account}; it listens again in {longest:.1?} at most"
    );
}
