//! What the database runs out of, and what locks do to us and we with them. What must hold: forebay waits for it without
//! making it worse, and nothing that was answered OK is lost.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use forebay::embedded::Stop;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::chance::either;
use crate::inject::{Frozen, session_where, sessions, terminate_sessions};
use crate::scene::{Scene, is_kind_to};
use crate::support::eventually;
use crate::support::postgres::{Database, Postgres, database};

const SECOND: Duration = Duration::from_secs(1);

/// Takes connections until the server has no more; gives them.
pub async fn take_all_connections(database: &Database) -> Vec<Client> {
    let mut taken = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(database.dsn(), NoTls).await {
        tokio::spawn(connection);
        taken.push(client);
    }
    taken
}

/// Fault 17. Scenario: other clients take all connections, and forebay's are terminated. Promise: no more than one try
/// a second and lane, and the rate is back once there are connections again.
#[tokio::test(flavor = "multi_thread")]
async fn no_connections_left() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    database.connect().await.batch_execute("ALTER SYSTEM SET max_connections = 20").await.unwrap();
    postgres.stop(Stop::Fast).await;
    postgres.start_again().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    let (failures, began) = (scene.failures().await, Instant::now());
    let taken = Mutex::new(take_all_connections(&database).await);
    eventually("forebay is refused", || async {
        // It may have been faster than this.
        terminate_sessions(&client).await;
        let more = take_all_connections(&database).await;
        taken.lock().unwrap().extend(more);
        let refused = scene.forebay.scrape().await.sum("log_buffer_flush_errors_total", "class=\"busy\"");
        (refused > 0).then_some(())
    })
    .await;
    sleep((either(4, 60) * SECOND).saturating_sub(began.elapsed())).await;
    scene.was_calm_since(failures, began).await;
    let count = taken.lock().unwrap().len();
    drop(taken);
    let recovery = scene.recovers().await;
    let account = scene.ends(&format!("fault 17, {count} others have all connections"), recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// A small file system in memory, unmounted when this is dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one in `dir` that belongs to the owner of `dir`; the reason where that is not permitted.
    fn mount(dir: &Path, mib: u32) -> Result<Self, String> {
        let path = dir.join("small");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        let options = format!("size={mib}m,mode=700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        let mount = mount.map_err(|error| error.to_string())?;
        if !mount.status.success() {
            return Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned());
        }
        let disk = Self { path };
        let owner = fs::metadata(dir).map_err(|error| error.to_string())?;
        chown(&disk.path, Some(owner.uid()), Some(owner.gid())).map_err(|error| error.to_string())?;
        Ok(disk)
    }

    /// Fills it up, as another program would.
    fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut filler).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Takes back what filled it.
    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still be there.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Fault 18. Scenario: the table space of the log is on a disk that another program fills, and later frees. Promise:
/// after the first refusal the disk is left alone but for one try in 30 seconds and lane; nothing is lost of what was
/// answered OK, and forebay is back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let client = database.connect().await;
    let data: String = client.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    let disk = match SmallDisk::mount(Path::new(&data), 64) {
        Ok(disk) => disk,
        Err(reason) => {
            return println!("fault 18, full disk: SKIPPED, no tmpfs can be mounted here: {reason}");
        }
    };
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let space = format!("CREATE TABLESPACE small LOCATION '{}'", disk.path.display());
    client.batch_execute(&space).await.unwrap();
    let tables = "SELECT format('ALTER TABLE %s SET TABLESPACE small', inhrelid::regclass) \
                  FROM pg_inherits WHERE inhparent = 'otel.log_records'::regclass";
    for row in client.query(tables, &[]).await.unwrap() {
        client.batch_execute(&row.get::<_, String>(0)).await.unwrap();
    }
    scene.flushes(1000).await;
    disk.fill();
    scene.forebay.becomes_unready("database_refuses").await;
    let refused =
        || async { scene.forebay.scrape().await.sum("log_buffer_flush_errors_total", "class=\"disk_full\"") };
    let began = Instant::now();
    sleep(either(5, 60) * SECOND).await;
    let tries = refused().await;
    let most = 2 * (1 + began.elapsed().as_secs() / 30);
    assert!((1..=most).contains(&tries), "{tries} tries on the full disk, {most} at most");
    disk.free();
    let freed = Instant::now();
    scene.forebay.becomes_ready().await;
    let probe = freed.elapsed();
    let recovery = scene.recovers().await + probe;
    let account = scene.ends(&format!("fault 18, full disk, {tries} tries"), recovery).await;
    assert_eq!(account.lost + account.copies, 0);
    drop(client);
    postgres.stop(Stop::Fast).await;
}

/// Fault 19. Scenario: somebody holds the log's table in an exclusive lock. Promise: forebay waits two seconds at a
/// time, with its two sessions, and goes on once the lock is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_table() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    let failures = scene.failures().await;
    client.batch_execute("BEGIN; LOCK TABLE otel.log_records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let began = Instant::now();
    eventually("the lock is given up on", || async { (scene.failures().await > failures).then_some(()) })
        .await;
    sleep((either(4, 60) * SECOND).saturating_sub(began.elapsed())).await;
    scene.was_calm_since(failures, began).await;
    let most = sessions(&client).await.len();
    assert!(most <= 2, "{most} sessions wait for the lock");
    client.batch_execute("COMMIT").await.unwrap();
    let recovery = scene.recovers().await;
    let account = scene.ends("fault 19, lock on the table", recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Freezes the collector while it waits for the end of its only COPY, which a trigger makes long enough to be met.
async fn freeze_in_a_batch(scene: &Scene, client: &Client) -> Frozen {
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
        CREATE TRIGGER slow AFTER INSERT ON otel.log_records EXECUTE FUNCTION slow()";
    client.batch_execute(slow).await.unwrap();
    session_where(client, "wait_event = 'PgSleep'").await;
    Frozen::freeze(vec![scene.forebay.pid()])
}

/// Fault 20. Scenario: the collector is frozen in the middle of a batch whose rows the server has, and an application
/// changes the table. Promise: the change waits ten seconds at most, for the server ends our session by a timeout of our
/// setting. (Where the server is in a COPY and waits for rows, no timeout of its own ends that; README.md says so.)
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_collector_does_not_keep_the_table() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &["exporters.postgres.pool_size=1"]).await;
    let client = database.connect().await;
    let mut longest = Duration::ZERO;
    let mut recovery = Duration::ZERO;
    for round in 0..either(1, 20) {
        let frozen = freeze_in_a_batch(&scene, &client).await;
        let asked = Instant::now();
        let change = format!("ALTER TABLE otel.log_records ADD COLUMN application_{round} integer");
        client.batch_execute(&change).await.unwrap();
        longest = longest.max(asked.elapsed());
        client.batch_execute("DROP FUNCTION slow CASCADE").await.unwrap();
        client.batch_execute("VACUUM otel.log_records").await.unwrap();
        is_kind_to(&database, 2).await;
        drop(frozen);
        recovery = recovery.max(scene.recovers().await);
    }
    assert!(longest > SECOND, "the change of the table was in nobody's way");
    assert!(longest <= 11 * SECOND, "the change of the table waited {longest:?}");
    let fault = format!("fault 20, collector frozen, change of the table waited {longest:.1?}");
    let account = scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}
