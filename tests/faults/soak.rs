//! Faults one after the other, by chance, for as long as is asked for. The seed says which, in which order, how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::embedded::Stop;
use support::postgres::{Database, Postgres};
use support::proxy::{Action, End, Line, Message, Proxy};
use tokio::time::{Instant, sleep};

use crate::chance::chance;
use crate::inject::{Frozen, sessions, terminate_sessions};
use crate::resources::take_all_connections;
use crate::scene::Scene;

/// How many minutes it takes.
const MINUTES: &str = "FOREBAY_SOAK_MINUTES";

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Fault {
    SessionsTerminated,
    FastRestart,
    CrashRestart,
    PostmasterKilled,
    SessionsFrozen,
    PostmasterFrozen,
    CollectorFrozen,
    ConnectionCut,
    LineSilent,
    LineSlow,
    NoConnections,
    TableLocked,
}

const FAULTS: [Fault; 12] = [
    Fault::SessionsTerminated,
    Fault::FastRestart,
    Fault::CrashRestart,
    Fault::PostmasterKilled,
    Fault::SessionsFrozen,
    Fault::PostmasterFrozen,
    Fault::CollectorFrozen,
    Fault::ConnectionCut,
    Fault::LineSilent,
    Fault::LineSlow,
    Fault::NoConnections,
    Fault::TableLocked,
];

/// Everything that a fault may happen to.
struct Bench {
    postgres: Postgres,
    database: Database,
    line: Line,
    /// The proxy cuts behind so many messages; 0 is never.
    cut_in: Arc<AtomicU64>,
    _proxy: Proxy,
    scene: Scene,
}

impl Bench {
    async fn set_up() -> Self {
        let mut postgres = Postgres::start().await;
        let database = postgres.database().await;
        // Few, so that they are soon taken.
        database.connect().await.batch_execute("ALTER SYSTEM SET max_connections = 20").await.unwrap();
        postgres.stop(Stop::Fast).await;
        postgres.start_again().await;
        let (line, cut_in) = (Line::default(), Arc::new(AtomicU64::new(0)));
        let left = cut_in.clone();
        let decide = move |_: &Message| {
            let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if before == Ok(1) { Action::CutBefore(End::Rst) } else { Action::Forward }
        };
        let proxy = Proxy::start_on(line.clone(), database.address(), decide).await;
        let dsn = format!("{} sslmode=disable", database.dsn_by_way_of(proxy.address()));
        let mut scene = Scene::begin(&database, &dsn, &["exporters.postgres.timeout=2s"]).await;
        scene.stops_the_collector = true;
        Self { postgres, database, line, cut_in, _proxy: proxy, scene }
    }

    /// Lets a fault happen and pass.
    async fn inject(&mut self, fault: Fault, chance: &mut fastrand::Rng) {
        let lasting = Duration::from_millis(chance.u64(200..4000));
        match fault {
            Fault::FastRestart => self.restart(Stop::Fast, lasting).await,
            Fault::CrashRestart => self.restart(Stop::Immediate, lasting).await,
            Fault::PostmasterKilled => self.restart(Stop::Kill, lasting).await,
            Fault::CollectorFrozen => hold(Frozen::freeze(vec![self.scene.forebay.pid()]), lasting).await,
            Fault::ConnectionCut => {
                self.cut_in.store(chance.u64(1..100), Ordering::SeqCst);
                sleep(lasting).await;
                self.cut_in.store(0, Ordering::SeqCst);
            }
            Fault::LineSilent => {
                self.line.set_silent(true);
                sleep(lasting).await;
                self.line.set_silent(false);
            }
            Fault::LineSlow => {
                self.line.set_slow(Duration::from_millis(200), Some(64 << 10));
                sleep(lasting).await;
                self.line.set_slow(Duration::ZERO, None);
            }
            Fault::SessionsTerminated
            | Fault::SessionsFrozen
            | Fault::PostmasterFrozen
            | Fault::NoConnections
            | Fault::TableLocked => self.inject_by_sql(fault, lasting).await,
        }
    }

    async fn inject_by_sql(&self, fault: Fault, lasting: Duration) {
        let client = self.database.connect().await;
        match fault {
            Fault::SessionsFrozen => hold(Frozen::freeze(sessions(&client).await), lasting).await,
            Fault::PostmasterFrozen => {
                let frozen = Frozen::freeze(vec![self.postgres.pid()]);
                terminate_sessions(&client).await;
                hold(frozen, lasting).await;
            }
            Fault::NoConnections => {
                let taken = take_all_connections(&self.database).await;
                terminate_sessions(&client).await;
                hold((taken, take_all_connections(&self.database).await), lasting).await;
            }
            Fault::TableLocked => {
                let lock = "BEGIN; LOCK TABLE otel.log_records IN ACCESS EXCLUSIVE MODE";
                client.batch_execute(lock).await.unwrap();
                hold(client, lasting).await;
            }
            _ => drop(terminate_sessions(&client).await),
        }
    }

    async fn restart(&mut self, stop: Stop, away: Duration) {
        self.postgres.stop(stop).await;
        sleep(away).await;
        self.postgres.start_again().await;
    }
}

/// Keeps what is the fault for a while.
async fn hold<T>(fault: T, lasting: Duration) {
    sleep(lasting).await;
    drop(fault);
}

fn median<T: Copy + Ord>(values: &[T]) -> T {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[values.len() / 2]
}

/// The open descriptors of process `pid`.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Fault 45. Scenario: faults of this list at random, under load, for as many minutes as `FOREBAY_SOAK_MINUTES` says.
/// Promise: the rate is back in ten seconds after each of them, in the end the books balance, and neither open descriptors nor memory
/// have grown since the first third.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes ten minutes: ./dev soak"]
pub async fn soak() {
    let minutes =
        std::env::var(MINUTES).map_or(10.0, |minutes| minutes.parse().expect("a number of minutes"));
    let mut chance = chance("soak");
    let mut bench = Bench::set_up().await;
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    let (mut open, mut resident) = (Vec::new(), Vec::new());
    while began.elapsed().as_secs_f64() < minutes * 60.0 {
        let fault = FAULTS[chance.usize(0..FAULTS.len())];
        bench.inject(fault, &mut chance).await;
        let recovery = bench.scene.recovers().await;
        let page = bench.scene.forebay.scrape().await;
        open.push(descriptors(bench.scene.forebay.pid()));
        resident.push(page.value("otelcol_process_memory_rss_bytes") >> 20);
        println!(
            "{:6.1} s {fault:?}: recovered in {recovery:.1?}, {} MiB, {} descriptors",
            began.elapsed().as_secs_f64(),
            resident[resident.len() - 1],
            open[open.len() - 1],
        );
        longest = longest.max(recovery);
    }
    let count = open.len();
    assert!(median(&open[2 * count / 3..]) <= median(&open[..count.div_ceil(3)]) + 2, "{open:?}");
    assert!(
        median(&resident[2 * count / 3..]) <= median(&resident[..count.div_ceil(3)]) * 5 / 4,
        "{resident:?}"
    );
    let account = bench.scene.ends(&format!("soak, {count} faults in {minutes} minutes"), longest).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
}
