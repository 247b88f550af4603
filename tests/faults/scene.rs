//! What a fault is injected into: a real forebay on a real database, under load.

use std::cell::Cell;
use std::time::Duration;

use support::eventually;
use support::forebay::Forebay;
use support::postgres::Database;
use tokio::time::{Instant, sleep, timeout};

use crate::chance::{HANG, assert_within, either};
use crate::durable::Home;
use crate::load::Load;
use crate::oracle::{Account, Oracle, losses_are_written};

/// Records by which a rate is measured.
const MEASURED: u64 = 1_000;
/// I8: the longest that the earlier rate may take to be back.
const RECOVERY: Duration = Duration::from_secs(10);
/// The share of the earlier rate that counts as back: beside other tests, and alone.
const BACK: (f64, f64) = (0.5, 0.9);

/// I5: files that may be open beside those before the fault: connections that come and go.
const SPARE_FILES: usize = 8;
/// I7: the longest that a session of ours may outlive its use.
const ZOMBIES: Duration = Duration::from_secs(30);

thread_local! {
    static DURABLE: Cell<bool> = const { Cell::new(false) };
    /// How many scenes with a durable queue were begun.
    static SCENES: Cell<u32> = const { Cell::new(0) };
}

/// Runs `scenario`, a test, with a durable queue for the forebays of its scenes.
pub fn durably(scenario: fn()) {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            DURABLE.set(false);
        }
    }
    let _reset = Reset;
    // The scene begins on this thread, whichever others the test's runtime has.
    DURABLE.set(true);
    let before = SCENES.get();
    scenario();
    assert!(SCENES.get() > before, "the scenario has no scene with a durable queue");
}

/// A forebay under load.
pub struct Scene {
    pub forebay: Forebay,
    pub database: Database,
    pub load: Load,
    /// Records written a second before the fault.
    rate: f64,
    /// Files that forebay had open before the fault.
    open_files: usize,
    /// Whether it is the collector itself that the fault stops, which then cannot answer.
    pub stops_the_collector: bool,
    /// The directory of its durable queue, if it has one.
    home: Option<Home>,
}

impl Scene {
    /// Starts a forebay with these `--set` arguments on `dsn`, which leads to `database`, loads it, and waits until
    /// it writes.
    pub async fn begin(database: &Database, dsn: &str, sets: &[&str]) -> Self {
        if !DURABLE.get() {
            return Self::on(Forebay::ready(dsn, sets).await, database).await;
        }
        SCENES.set(SCENES.get() + 1);
        let home = Home::on(dsn, sets);
        let scene = Self::on(home.ready().await, database).await;
        Self { home: Some(home), ..scene }
    }

    /// Loads `forebay`, and waits until it writes.
    pub async fn on(forebay: Forebay, database: &Database) -> Self {
        let load = Load::start(forebay.endpoint(), 0);
        let mut scene = Self::of(forebay, database, load);
        scene.flushes(MEASURED).await;
        let began = Instant::now();
        let records = scene.flushes(MEASURED).await;
        scene.rate = records as f64 / began.elapsed().as_secs_f64();
        scene.open_files = scene.forebay.open_files();
        scene
    }

    /// A forebay of which no earlier rate is known.
    pub fn of(forebay: Forebay, database: &Database, load: Load) -> Self {
        let open_files = forebay.open_files();
        Self {
            forebay,
            database: database.clone(),
            load,
            rate: 0.0,
            open_files,
            stops_the_collector: false,
            home: None,
        }
    }

    /// The rate before the fault, in records a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Waits until `records` more are written; gives how many more there are.
    pub async fn flushes(&self, records: u64) -> u64 {
        let before = self.flushed().await;
        eventually("more records are written", || async {
            let more = self.flushed().await - before;
            (more >= records).then_some(more)
        })
        .await
    }

    /// Records that are written.
    pub async fn flushed(&self) -> u64 {
        self.forebay.scrape().await.value("log_buffer_flushed_total")
    }

    /// Failed tries to write a batch.
    pub async fn failures(&self) -> u64 {
        self.forebay.scrape().await.value("log_buffer_flush_errors_total")
    }

    /// Whether forebay has said something with this in it.
    pub fn says(&self, words: &str) -> bool {
        self.forebay.said().iter().any(|line| line.contains(words))
    }

    /// How often forebay has found a batch stored whose COMMIT had no answer.
    pub fn looked_up(&self) -> usize {
        let said = self.forebay.said();
        said.iter().filter(|line| line.contains("the batch whose COMMIT was not answered is stored")).count()
    }

    /// I7: since `began`, when there were `failures`, each of two lanes has tried no more than once a second, after
    /// one immediate second try.
    pub async fn was_calm_since(&self, failures: u64, began: Instant) {
        let (failed, seconds) = (self.failures().await - failures, began.elapsed().as_secs_f64());
        let most = 2.0 * (2.0 + seconds);
        assert!(failed as f64 <= most, "I7: {failed} tries failed within {seconds} s");
    }

    /// Waits until the earlier rate is back. The fault ends now; gives how long it takes.
    pub async fn recovers(&self) -> Duration {
        let (ended, share) = (Instant::now(), either(BACK.0, BACK.1));
        let mut seen: Vec<(Instant, u64)> = Vec::new();
        let back = async {
            loop {
                let (now, flushed) = (Instant::now(), self.flushed().await);
                let measured = seen.iter().rev().find(|(_, before)| flushed - before >= MEASURED);
                if let Some((then, before)) = measured
                    && (flushed - before) as f64 >= share * self.rate * (now - *then).as_secs_f64()
                {
                    return;
                }
                seen.push((now, flushed));
                sleep(Duration::from_millis(50)).await;
            }
        };
        let within = timeout(HANG, back).await;
        assert!(within.is_ok(), "I8: {} records/s are not back, {:#?}", self.rate, self.forebay.said());
        assert_within(RECOVERY, ended.elapsed(), "I8: the earlier rate is back");
        ended.elapsed()
    }

    /// Ends the load, lets forebay write what it holds, checks all that must hold, and says what was observed.
    pub async fn ends(self, fault: &str, recovery: Duration) -> Account {
        self.ends_with(fault, recovery, Oracle::default()).await
    }

    /// The same where others than the load have sent as well, and remember `others`.
    pub async fn ends_with(self, fault: &str, recovery: Duration, others: Oracle) -> Account {
        let mut oracle = self.load.end().await;
        oracle.add(others);
        let page = self.forebay.settles().await;
        let account = oracle.settle(&self.database, &page).await;
        is_kind_to(&self.database, 2).await;
        let (peak, limit) = (self.forebay.peak(), page.value("log_buffer_bytes_capacity") + (64 << 20));
        assert!(peak <= limit, "I5: {peak} bytes were resident, {limit} may be");
        let (before, files) = (self.open_files, self.forebay.open_files());
        assert!(files <= before + SPARE_FILES, "I5: {files} files are open, there were {before}");
        if !self.stops_the_collector {
            oracle.assert_answers_in_time();
        }
        println!("{fault}: {account}; recovered in {recovery:.1?}");
        let (status, said) = self.forebay.terminate().await;
        assert_eq!(status, Some(0), "{said:#?}");
        losses_are_written(&self.database, &page).await;
        assert_eq!(page.is_durable(), self.home.is_some());
        if self.home.is_some() {
            assert_eq!((account.lost, account.rejected, account.refused), (0, 0, 0), "I1: the disk has room");
        }
        account
    }
}

/// I7: no more than so many sessions of ours are left, and none of them in an old transaction.
pub async fn is_kind_to(database: &Database, most: i64) {
    let client = database.connect().await;
    let ours = "SELECT count(*), count(*) FILTER (WHERE xact_start < now() - interval '10 s') \
                FROM pg_stat_activity WHERE application_name = 'forebay' AND datname = current_database()";
    let few = eventually("I7: few sessions of ours, without old transactions", || async {
        let row = client.query_one(ours, &[]).await.unwrap();
        (row.get::<_, i64>(0) <= most && row.get::<_, i64>(1) == 0).then_some(())
    });
    assert!(timeout(ZOMBIES, few).await.is_ok(), "I7: sessions of ours are left after {ZOMBIES:?}");
}
