//! Disks that another program fills, and later frees. What must hold: forebay does not make it worse, is back by itself,
//! and nothing that was answered OK and fits into the buffer is lost.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use forebay::embedded::Stop;
use support::eventually;
use support::postgres::{Database, Postgres};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::chance::either;
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);

/// A small file system in memory, unmounted when this is dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// One in the data directory of the server of `client`; `None`, and the reason said, where that is not permitted.
    pub async fn in_data_of(client: &Client, mib: u32) -> Option<Self> {
        let data: String = client.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
        let disk = Self::mount(Path::new(&data), mib);
        if let Err(reason) = &disk {
            println!("fault 18, full disk: SKIPPED, no tmpfs can be mounted here: {reason}");
        }
        disk.ok()
    }

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

    /// Takes the directory `name` in, which lies beside it, and leaves a link.
    fn take_in(&self, name: &str) {
        let (here, there) = (self.path.join(name), self.path.with_file_name(name));
        let moved = Command::new("mv").arg(&there).arg(&here).status().expect("mv");
        assert!(moved.success(), "{name} is moved");
        symlink(here, there).unwrap();
    }

    /// Fills it up, as another program would; again and again, where something frees a part of it.
    fn fill(&self) {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut filler).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Fills a part of it.
    pub fn fill_by(&self, mib: usize) {
        fs::write(self.filler(), vec![0; mib << 20]).unwrap();
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes back what filled it.
    pub fn free(&self) {
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

/// Moves the partitions to a table space on the disk.
async fn move_to(disk: &SmallDisk, client: &Client) {
    let space = format!("CREATE TABLESPACE small LOCATION '{}'", disk.path.display());
    client.batch_execute(&space).await.unwrap();
    let tables = "SELECT format('ALTER TABLE %s SET TABLESPACE small', inhrelid::regclass) \
                  FROM pg_inherits WHERE inhparent = 'otel.log_records'::regclass";
    for row in client.query(tables, &[]).await.unwrap() {
        client.batch_execute(&row.get::<_, String>(0)).await.unwrap();
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
    let Some(disk) = SmallDisk::in_data_of(&client, 64).await else { return };
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    move_to(&disk, &client).await;
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

/// Fault 18, where room may be made. Scenario: the same, with `drop_when_disk_is_full` and two old partitions on that disk.
/// Promise: the oldest one is dropped and the other one stays as long as that is enough; forebay goes on without waiting for
/// its next try, and nothing is lost of what was answered OK.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_on_which_room_may_be_made() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let client = database.connect().await;
    let Some(disk) = SmallDisk::in_data_of(&client, 96).await else { return };
    let drops = ["exporters.postgres.retention.drop_when_disk_is_full=true"];
    let scene = Scene::begin(&database, database.dsn(), &drops).await;
    move_to(&disk, &client).await;
    for day in ["2026-01-01", "2026-01-02"] {
        client
            .batch_execute(&format!(
                "CREATE TABLE otel.\"{day}\" PARTITION OF otel.log_records \
                 FOR VALUES FROM ('{day} 00:00:00+00') TO ('{day} 24:00:00+00') TABLESPACE small;
                 INSERT INTO otel.\"{day}\" (time, time_unix_nano, resource_id, scope_id, attributes, body) \
                 SELECT '{day} 12:00:00+00', 0, gen_random_uuid(), gen_random_uuid(), '{{}}', repeat('x', 900) \
                 FROM generate_series(1, 24000)"
            ))
            .await
            .unwrap();
    }
    scene.flushes(1000).await;
    disk.fill();
    let there = async |table: &str| {
        let found = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await.unwrap();
        found.get::<_, bool>(0)
    };
    eventually("the oldest partition is dropped", || async {
        (!there("otel.\"2026-01-01\"").await).then_some(())
    })
    .await;
    let dropped = Instant::now();
    scene.flushes(1000).await;
    let recovery = dropped.elapsed();
    assert!(recovery < 15 * SECOND, "{recovery:?}: it did not wait out the 30 seconds");
    assert!(there("otel.\"2026-01-02\"").await, "one partition was enough");
    disk.free();
    scene.forebay.becomes_ready().await;
    // Its rows are not of the load.
    client.batch_execute("DROP TABLE otel.\"2026-01-02\"").await.unwrap();
    let account = scene.ends("fault 18, full disk on which room is made", recovery).await;
    assert_eq!(account.lost + account.copies, 0);
    drop(client);
    postgres.stop(Stop::Fast).await;
}

/// Keeps the disk of the write-ahead log full, and has the server use up what it has of that log, until it ends.
async fn panics(postgres: &Postgres, database: &Database, disk: &SmallDisk) {
    eventually("the server has ended", || async {
        disk.fill();
        if let Ok((client, connection)) = tokio_postgres::connect(database.dsn(), NoTls).await {
            // Its answer may be the end of the server.
            tokio::select! {
                _ = client.query("SELECT pg_switch_wal()", &[]) => {}
                _ = connection => {}
            }
        }
        postgres.has_ended().then_some(())
    })
    .await;
}

/// Fault 18, of the write-ahead log. Scenario: `pg_wal` is on a disk that another program fills: the server panics, and
/// panics again each time it is started, until the disk is freed. Promise: no more than one try a second and lane, nothing is
/// lost or stored twice, and forebay is back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_write_ahead_log() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let client = database.connect().await;
    for (name, value) in [("max_wal_size", "32MB"), ("min_wal_size", "32MB"), ("wal_recycle", "off")] {
        client.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await.unwrap();
    }
    let Some(disk) = SmallDisk::in_data_of(&client, 128).await else { return };
    postgres.stop(Stop::Fast).await;
    disk.take_in("pg_wal");
    postgres.start_again().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let (failures, began, ends) = (scene.failures().await, Instant::now(), either(2, 6));
    for end in 0..ends {
        if end > 0 {
            postgres.tries_to_start().await;
        }
        panics(&postgres, &database, &disk).await;
        postgres.stop(Stop::Kill).await;
        sleep(either(Duration::ZERO, 10 * SECOND)).await;
    }
    scene.forebay.becomes_unready("database_unreachable").await;
    scene.was_calm_since(failures, began).await;
    disk.free();
    postgres.start_again().await;
    let recovery = scene.recovers().await;
    let fault = format!("fault 18, full disk of the write-ahead log, {ends} ends of the server");
    let account = scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
    postgres.stop(Stop::Fast).await;
}
