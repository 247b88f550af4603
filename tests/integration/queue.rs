//! `forebay queue`: a queue on disk is shown, checked, exported and dropped, beside a running forebay and without one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ::forebay::embedded::Stop;
use serde_json::{Value, json};
use support::eventually;
use support::forebay::{Forebay, QUICK, Ran, run};
use support::http::send;
use support::postgres::{Database, Postgres, database};
use support::records::{body_of, now, numbered_request};
use support::stored;
use support::view::{compare, rows, sent};
use tempfile::TempDir;

/// Nobody listens there.
const AWAY: &str = "postgres://forebay@127.0.0.1:1/away";

/// A queue in a directory of its own.
struct Queue {
    dir: TempDir,
}

impl Queue {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    /// A queue with the records of these requests, left by a forebay that was killed, and that had never reached its database.
    async fn left(requests: impl IntoIterator<Item = std::ops::Range<u64>>) -> Self {
        let queue = Self::new();
        let forebay = queue.forebay(AWAY).await;
        for numbers in requests {
            forebay.sender().await.send(numbered_request(numbers)).await.unwrap();
        }
        kill(forebay).await;
        queue
    }

    fn setting(&self) -> String {
        format!("extensions.file_storage.directory={}", self.dir.path().display())
    }

    async fn forebay(&self, dsn: &str) -> Forebay {
        Forebay::start(dsn, &[QUICK, &[&self.setting()]].concat()).await
    }

    /// Runs `forebay queue` on the configuration of that forebay.
    async fn command(&self, dsn: &str, arguments: &str) -> Ran {
        run(dsn, format!("queue {arguments}").trim_end(), &[&self.setting()]).await
    }

    /// The same where the database is away and the directory is named.
    async fn run(&self, arguments: &str) -> Ran {
        let directory = self.dir.path().display();
        run(AWAY, format!("queue --directory {directory} {arguments}").trim_end(), &[]).await
    }

    async fn shown(&self, dsn: &str) -> Value {
        let shown = self.command(dsn, "show --json").await;
        assert_eq!((shown.status, shown.err.as_str()), (Some(0), ""), "{shown:?}");
        shown.json().remove(0)
    }

    /// The numbers of the records that `export` writes, and its exit status.
    async fn exported(&self, arguments: &str) -> (Vec<u64>, Option<i32>) {
        let exported = self.run(&format!("export {arguments}")).await;
        let number = |line: &Value| line["record"]["attributes"]["number"].as_u64().unwrap();
        (exported.json().iter().map(number).collect(), exported.status)
    }

    /// Each file with its content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// The only segment.
    fn segment(&self) -> PathBuf {
        let paths: Vec<_> = self.files().into_keys().filter(|path| path.extension().is_some()).collect();
        let segments: Vec<_> = paths.iter().filter(|path| path.extension().unwrap() == "segment").collect();
        assert_eq!(segments.len(), 1, "{paths:?}");
        segments[0].clone()
    }
}

async fn kill(mut forebay: Forebay) {
    forebay.signal("KILL").await;
    forebay.ends().await;
}

/// Where the entries of a segment begin: each begins with the segment's salt, behind two blocks of 4 KiB.
fn entries(segment: &Path) -> (Vec<u8>, Vec<usize>) {
    let bytes = fs::read(segment).unwrap();
    let salt = &bytes[8192..8200];
    let entries = (8192..bytes.len() - 8).filter(|at| bytes[*at..*at + 8] == *salt).collect();
    (bytes, entries)
}

/// Scenario: records are stored, PostgreSQL goes away, more records come; forebay is killed and started again; PostgreSQL comes back.
/// Guarantee: the command and the gauge show the records that wait and no others, whoever can be asked, and change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_shown_beside_forebay_and_without_it() {
    let queue = Queue::new();
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let dsn = database.dsn();
    let forebay = queue.forebay(dsn).await;
    forebay.becomes_ready().await;
    forebay.sender().await.send(numbered_request(0..48)).await.unwrap();
    forebay.settles().await;
    let noted = || async { queue.dir.path().join("state.1").exists().then_some(()) };
    eventually("the directory says which records are stored", noted).await;
    postgres.stop(Stop::Fast).await;
    let begun = now();
    forebay.sender().await.send(numbered_request(48..72)).await.unwrap();
    let waits = || async {
        let shown = queue.shown(dsn).await;
        (shown["records"] == 24).then_some(shown)
    };
    let shown = eventually("the last note is written", waits).await;
    assert_eq!((&shown["in_use"], &shown["stored_by"]), (&json!(true), &json!("directory")), "{shown}");
    let severities = json!({"TRACE": 4, "DEBUG": 4, "INFO": 4, "WARN": 4, "ERROR": 4, "FATAL": 4});
    let service = json!([{"service": "shop", "records": 24, "severities": severities}]);
    assert_eq!(shown["services"], service);
    for time in ["oldest", "newest"] {
        let at: jiff::Timestamp = shown[time].as_str().unwrap().parse().unwrap();
        assert!((i128::from(begun)..=i128::from(now())).contains(&at.as_nanosecond()), "{shown}");
    }
    assert_eq!(queue.exported("").await, ((48..72).collect(), Some(0)));
    assert_eq!(queue.exported("--all").await, ((0..72).collect(), Some(0)));
    assert_eq!(queue.run("check").await.status, Some(0));
    kill(forebay).await;

    let before = queue.files();
    let shown = queue.shown(dsn).await;
    assert_eq!((&shown["in_use"], &shown["records"]), (&json!(false), &json!(24)), "{shown}");
    let lines = queue.run("").await;
    assert!(lines.out.contains("24 records wait; 1 segments"), "{lines:?}");
    assert!(lines.out.contains("the directory says which records are stored"), "{lines:?}");
    assert!(lines.out.contains("4 TRACE, 4 DEBUG, 4 INFO, 4 WARN, 4 ERROR, 4 FATAL"), "{lines:?}");
    assert_eq!(queue.exported("").await, ((48..72).collect(), Some(0)));
    assert_eq!(queue.files(), before, "nothing is changed");

    let forebay = queue.forebay(dsn).await;
    assert_eq!(forebay.scrape().await.value("log_buffer_disk_records"), 24, "by the note");
    kill(forebay).await;
    postgres.start_again().await;
    let before = queue.files();
    let shown = queue.shown(dsn).await;
    assert_eq!((&shown["records"], &shown["stored_by"]), (&json!(24), &json!("postgresql")), "{shown}");
    for note in ["state.0", "state.1"] {
        let _ = fs::remove_file(queue.dir.path().join(note));
    }
    assert_eq!(queue.shown(dsn).await["records"], 24, "PostgreSQL alone knows it");
    before.into_iter().for_each(|(path, content)| fs::write(path, content).unwrap());

    let forebay = queue.forebay(dsn).await;
    let empty = || async { (queue.shown(dsn).await["records"] == 0).then_some(()) };
    eventually("all are stored", empty).await;
    forebay.settles().await;
    stored(&database).await.assert_holds_each_once(&[0..72]);
}

/// Scenario: the note says that records are stored which PostgreSQL does not have, because its store was made again. Guarantee: they
/// are still there, and stored again.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_note_costs_no_record() {
    let queue = Queue::new();
    let forebay = queue.forebay(database().await.dsn()).await;
    forebay.becomes_ready().await;
    forebay.sender().await.send(numbered_request(0..50)).await.unwrap();
    forebay.settles().await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:?}");
    let second: Database = database().await;
    let forebay = queue.forebay(AWAY).await;
    assert_eq!(forebay.scrape().await.value("log_buffer_disk_records"), 0, "the note says so");
    forebay.terminate().await;
    let forebay = queue.forebay(second.dsn()).await;
    forebay.becomes_ready().await;
    let recovered = || async { (stored(&second).await.rows() == 50).then_some(()) };
    eventually("they are stored again", recovered).await;
    stored(&second).await.assert_holds_each_once(&[0..50]);
    forebay.settles().await;
}

/// Scenario: a bit flips in the second of three requests, the first of which is large. Guarantee: `check` names it and fails, the others are exported, and
/// nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_reported_with_its_place() {
    let queue = Queue::left([0..400, 400..410, 410..420]).await;
    let checked = queue.run("check").await;
    let whole = "1 segments, 420 records that can be read, 0 damages\n";
    assert_eq!((checked.status, checked.out.as_str()), (Some(0), whole), "{checked:?}");
    let segment = queue.segment();
    let (mut bytes, entries) = entries(&segment);
    assert_eq!(entries.len(), 3, "{entries:?}");
    bytes[entries[2] - 1] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let before = queue.files();
    let checked = queue.run("check").await;
    let name = segment.file_name().unwrap().to_string_lossy();
    let (at, length) = (entries[1], entries[2] - entries[1]);
    let expected = format!(
        "{name}: {length} bytes at {at} are damaged: 10 records are lost, numbers 400 to 409\n\
         1 segments, 410 records that can be read, 1 damages\n"
    );
    assert_eq!((checked.status, checked.out), (Some(1), expected));
    let others: Vec<_> = (0..400).chain(410..420).collect();
    assert_eq!(queue.exported("").await, (others, Some(1)));
    assert_eq!(queue.shown(AWAY).await["damaged"], 10);
    assert_eq!(queue.files(), before, "nothing is changed");
    assert!(!queue.dir.path().join("quarantine").exists());
}

/// Scenario: forebay is killed in the middle of a write. Guarantee: `check` says what that is, and does not fail.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_write_is_no_damage() {
    let queue = Queue::left([0..10, 10..20]).await;
    let segment = queue.segment();
    let (mut bytes, entries) = entries(&segment);
    bytes.truncate(entries[1] + 100);
    fs::write(&segment, bytes).unwrap();
    // A running forebay may remove a segment after its name was read.
    let gone = segment.with_file_name("0000000000000001-0000000000000000.segment");
    std::os::unix::fs::symlink("nowhere", gone).unwrap();
    let checked = queue.run("check").await;
    let name = segment.file_name().unwrap().to_string_lossy();
    let expected = format!(
        "{name}: 100 bytes at {} are a write that was not completed; its records were not acknowledged\n\
         1 segments, 10 records that can be read, 0 damages\n",
        entries[1]
    );
    assert_eq!((checked.status, checked.out), (Some(0), expected));
    assert_eq!(queue.exported("").await, ((0..10).collect(), Some(0)));
}

/// Scenario: records wait; they are exported as OTLP, and sent to another forebay. Guarantee: it stores what was sent first. Each line
/// of NDJSON has the columns of its row, with its resource and its scope.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_what_was_sent() {
    let (queue, since) = (Queue::new(), now());
    let request = numbered_request(0..30);
    let forebay = queue.forebay(AWAY).await;
    forebay.sender().await.send(request.clone()).await.unwrap();
    kill(forebay).await;
    let exported = queue.run("export").await;
    assert_eq!(exported.status, Some(0), "{exported:?}");
    let line = exported.json().remove(7);
    assert_eq!(line["record"]["body"], body_of(7));
    assert_eq!(line["record"]["trace_id"], "00000000000000070000000000000007");
    assert_eq!(line["resource"]["service_name"], "shop");
    assert_eq!(line["resource"]["attributes"], json!({"service.name": "shop", "host.name": "h1"}));
    assert_eq!((&line["scope"]["name"], &line["scope"]["version"]), (&json!("tests"), &json!("1")));

    let exported = queue.run("export --format otlp").await;
    assert_eq!(exported.err.lines().last(), Some("30 records exported"), "{exported:?}");
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let url = format!("http://{}/v1/logs", forebay.http_address());
    for line in exported.out.lines() {
        let answer = send("POST", &url, &[("content-type", "application/json")], line).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    forebay.settles().await;
    let client = database.connect().await;
    let rows = rows(&client, "ORDER BY (attributes->>'number')::int").await;
    compare(&client, sent(&request), &rows, since..=now()).await.unwrap();
}

/// Scenario: records wait, one request of them for a day; a segment is of a later version. Guarantee: nothing is dropped beside a
/// running forebay or without --yes; --older-than covers the old ones alone; the later segment goes only if that is asked for; what
/// was dropped is not stored later, and the rest is.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_dropped_on_request_only() {
    let queue = Queue::left([0..24, 24..48]).await;
    let segment = queue.segment();
    let (mut bytes, entries) = entries(&segment);
    let first = &mut bytes[entries[0]..entries[0] + 48];
    let time = u64::from_le_bytes(first[16..24].try_into().unwrap()) - 86_400_000_000_000;
    first[16..24].copy_from_slice(&time.to_le_bytes());
    let checksum = crc32fast::hash(&first[..44]);
    first[44..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&segment, bytes).unwrap();
    let later = queue.dir.path().join("1000000000000000-0000000000000000.segment");
    fs::write(&later, [&b"FORBYSEG"[..], &2u32.to_le_bytes(), &[0; 8180]].concat()).unwrap();

    let before = queue.files();
    let all = "48 records (8 TRACE, 8 DEBUG, 8 INFO, 8 WARN, 8 ERROR, 8 FATAL) would be dropped; 1 segments that this version \
               cannot read would go with --unreadable; nothing is without --yes";
    let asked = queue.run("drop").await;
    assert_eq!((asked.status, asked.out.lines().last()), (Some(2), Some(all)), "{asked:?}");
    assert_eq!(queue.files(), before, "nothing is changed");
    let forebay = queue.forebay(AWAY).await;
    let before = queue.files();
    let refused = queue.run("drop --yes").await;
    assert_eq!(refused.status, Some(1));
    assert!(refused.err.contains("stop it first"), "{refused:?}");
    assert_eq!(queue.files(), before, "nothing is changed");
    kill(forebay).await;

    let dropped = queue.run("drop --older-than 1h --yes").await;
    let old = "24 records (4 TRACE, 4 DEBUG, 4 INFO, 4 WARN, 4 ERROR, 4 FATAL) dropped, 0 segments deleted; 1 segments that this \
               version cannot read would go with --unreadable; 24 newer records stay";
    assert_eq!((dropped.status, dropped.out.lines().last()), (Some(0), Some(old)), "{dropped:?}");
    assert_eq!(
        queue.exported("").await,
        ((24..48).collect(), Some(1)),
        "the later segment is not among them"
    );
    let database = database().await;
    let forebay = queue.forebay(database.dsn()).await;
    forebay.becomes_ready().await;
    let done = || async { (queue.shown(database.dsn()).await["records"] == 0).then_some(()) };
    eventually("the others are stored", done).await;
    forebay.settles().await;
    stored(&database).await.assert_holds_each_once(&[24..48]);
    forebay.terminate().await;

    assert!(later.exists());
    let shown = queue.shown(database.dsn()).await;
    let reason = "a later version of forebay has written it, in version 2 of the format";
    assert_eq!(shown["unreadable"][0]["reason"], reason, "{shown}");
    let dropped = queue.run("drop --unreadable --yes").await;
    assert_eq!(dropped.status, Some(0), "{dropped:?}");
    assert!(!later.exists());
}

/// Scenario: all records that wait are dropped. Guarantee: their segment goes with them, and forebay begins with an empty queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_queue_is_empty() {
    let queue = Queue::left([0..24]).await;
    let segment = queue.segment();
    let dropped = queue.run("drop --yes").await;
    assert!(dropped.out.ends_with("dropped, 1 segments deleted\n"), "{dropped:?}");
    assert!(!segment.exists());
    let database = database().await;
    let forebay = queue.forebay(database.dsn()).await;
    forebay.becomes_ready().await;
    assert_eq!(forebay.scrape().await.value("log_buffer_disk_records"), 0);
    forebay.sender().await.send(numbered_request(100..110)).await.unwrap();
    forebay.settles().await;
    stored(&database).await.assert_holds_each_once(&[100..110]);
}

/// Scenario: no queue is configured or named, or its directory is not there. Guarantee: the answer says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_the_cure_is_said() {
    let ran = run(AWAY, "queue", &[]).await;
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.err.contains("sending_queue.storage is not set; name the directory of one with --directory"));
    let ran = run(AWAY, "queue check --directory /nowhere/queue", &[]).await;
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.err.contains("cannot use /nowhere/queue for the durable queue: No such file"), "{ran:?}");
}
