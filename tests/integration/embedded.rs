//! `dsn: embedded`: a private PostgreSQL that comes, stays and goes with forebay.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use support::eventually;
use support::forebay::{Forebay, QUICK, Ran, arguments, command, ran};
use support::postgres::database;
use support::records::numbered_request;
use tokio::process::Command;

fn in_directory(dir: &Path) -> Command {
    let mut command = command();
    command.current_dir(dir).args(arguments(&[]));
    command
}

/// The printed psql line, with `sql` to be executed.
fn psql(forebay: &Forebay, sql: &str) -> Command {
    let said = forebay.said();
    let line = said.iter().find_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        event["message"].as_str()?.strip_prefix("to look in: ").map(str::to_owned)
    });
    let line = line.expect("the psql line is printed");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("exec env {line} -Atc '{sql}'")]).kill_on_drop(true);
    command
}

/// The rows that the printed psql line finds.
async fn rows(forebay: &Forebay) -> String {
    let mut script = psql(forebay, "SELECT count(*) FROM otel.logs");
    let output = script.output().await.unwrap();
    assert!(output.status.success(), "{script:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Scenario: started in a directory that only its owner can enter; ended by SIGTERM, by SIGKILL, and started again.
/// Guarantee: records are kept, the left-over server is taken care of, the psql line works as printed.
#[tokio::test(flavor = "multi_thread")]
async fn data_is_kept_over_the_end_and_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let forebay = Forebay::spawn(in_directory(dir.path())).await;
    forebay.becomes_ready().await;
    forebay.sender().await.send(numbered_request(0..100)).await.unwrap();
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");

    let mut forebay = Forebay::spawn(in_directory(dir.path())).await;
    forebay.becomes_ready().await;
    assert_eq!(rows(&forebay).await, "100");
    forebay.sender().await.send(numbered_request(100..150)).await.unwrap();
    forebay.settles().await;
    let second = in_directory(dir.path()).output().await.unwrap();
    assert_eq!(second.status.code(), Some(1), "a second forebay has no place here");
    forebay.signal("KILL").await;
    forebay.ends().await;

    let forebay = Forebay::spawn(in_directory(dir.path())).await;
    forebay.becomes_ready().await;
    assert_eq!(rows(&forebay).await, "150");
    assert_eq!(forebay.terminate().await.0, Some(0));
}

/// The warnings about where records go.
fn unnamed(forebay: &Forebay) -> Vec<serde_json::Value> {
    let events = forebay.said().into_iter().filter_map(|line| serde_json::from_str(&line).ok());
    events
        .filter(|event: &serde_json::Value| {
            event["message"].as_str().is_some_and(|message| message.starts_with("no database is named"))
        })
        .collect()
}

/// Scenario: no database is named: by the shipped file without its variable, and by a file without the key. Promise: one warning
/// has the cluster's path and the one setting that changes it, `validate` and `doctor` say the same, and health and metrics call
/// the store private.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_nobody_named_is_no_surprise() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = dir.path().canonicalize().unwrap().join(".forebay/cluster");
    let says = |setting: &str| {
        format!(
            "no database is named: records go to a private PostgreSQL in {}; set {setting} to name one, or to `embedded` \
             where this one is meant",
            cluster.display()
        )
    };
    let validated = run_in(dir.path(), "validate").await;
    let expected = format!("forebay: warning: {}\n", says("DATABASE_URL"));
    assert_eq!((validated.status, validated.err), (Some(0), expected));
    let short = "yaml:{receivers: {otlp: }, exporters: {postgres: }, \
                 service: {pipelines: {logs: {receivers: [otlp], exporters: [postgres]}}}}";
    let validated = ran(command().current_dir(dir.path()).args(["validate", "--config", short])).await;
    let expected = format!("forebay: warning: {}\n", says("exporters.postgres.dsn"));
    assert_eq!((validated.status, validated.err), (Some(0), expected));

    let forebay = Forebay::spawn(in_directory(dir.path())).await;
    let warnings = unnamed(&forebay);
    assert_eq!(warnings.len(), 1, "{:#?}", forebay.said());
    assert_eq!(warnings[0]["message"], says("DATABASE_URL"));
    assert!(warnings[0].to_string().to_lowercase().contains("\"warn\""), "{}", warnings[0]);
    forebay.becomes_ready().await;
    assert!(cluster.join("postmaster.pid").exists());
    assert_eq!(forebay.health().await.1["store"], "private PostgreSQL");
    let endpoint = format!("extensions.health_check.endpoint={}", forebay.health_address());
    let asked = ran(command().args(["health", "--set", &endpoint])).await;
    assert!(asked.status == Some(0) && asked.out.contains("private PostgreSQL"), "{asked:?}");
    let doctor = run_in(dir.path(), "doctor").await;
    let line = format!("warning  store          {}\n", says("DATABASE_URL"));
    assert!(doctor.status == Some(0) && doctor.out.contains(&line), "{doctor:?}");
    let scrape = forebay.scrape().await;
    let kind = |kind: &str| scrape.sum("log_buffer_store_info", &format!("kind=\"{kind}\""));
    assert_eq!((kind("private"), kind("external")), (1, 0));
    assert_eq!(forebay.terminate().await.0, Some(0));
}

/// Scenario: `embedded` is named, by the variable and by the key; and a database of one's own is. Promise: there is no warning;
/// the private store is called private all the same, and the other one is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_store_that_was_asked_for_is_no_warning() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = in_directory(dir.path());
    start.env("DATABASE_URL", "embedded");
    let forebay = Forebay::spawn(start).await;
    forebay.becomes_ready().await;
    assert!(unnamed(&forebay).is_empty(), "{:#?}", forebay.said());
    assert_eq!(forebay.health().await.1["store"], "private PostgreSQL");
    let doctor = run_in(dir.path(), "doctor --set exporters.postgres.dsn=embedded").await;
    assert!(doctor.out.contains("ok       store          a private PostgreSQL in /"), "{doctor:?}");
    assert_eq!(forebay.terminate().await.0, Some(0));

    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    assert!(unnamed(&forebay).is_empty(), "{:#?}", forebay.said());
    assert_eq!(forebay.health().await.1.get("store"), None);
    let scrape = forebay.scrape().await;
    let kind = |kind: &str| scrape.sum("log_buffer_store_info", &format!("kind=\"{kind}\""));
    assert_eq!((kind("private"), kind("external")), (0, 1));
}

/// A forebay in a directory of its own, that takes failures and batches quickly.
async fn begin() -> (tempfile::TempDir, Forebay) {
    let dir = tempfile::tempdir().unwrap();
    let forebay = start_in(dir.path()).await;
    (dir, forebay)
}

async fn start_in(dir: &Path) -> Forebay {
    let mut command = command();
    command.current_dir(dir).args(arguments(QUICK));
    let forebay = Forebay::spawn(command).await;
    forebay.becomes_ready().await;
    forebay
}

/// The server's first process.
fn postmaster(dir: &Path) -> String {
    let file = std::fs::read_to_string(dir.join(".forebay/cluster/postmaster.pid")).unwrap();
    file.lines().next().unwrap().to_owned()
}

async fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().await.unwrap().success());
}

async fn run_in(dir: &Path, arguments: &str) -> Ran {
    ran(command().current_dir(dir).args(arguments.split(' '))).await
}

/// How often it was started again, once that is so often.
async fn restarts(forebay: &Forebay, times: u64) {
    eventually("PostgreSQL is started again", || async {
        (forebay.scrape().await.value("log_buffer_postgresql_restarts_total") == times).then_some(())
    })
    .await;
}

/// The warnings that say so.
fn told(forebay: &Forebay, says: &str) -> usize {
    forebay.said().iter().filter(|line| line.contains(says)).count()
}

/// Scenario: the server's first process is killed, as the kernel does when memory runs out, twice in a row, and is then stopped by
/// somebody else. Promise: it is started again each time, which is counted and logged with the reason; what was sent meanwhile is
/// stored; the commands reach it as before, and the end is an orderly one.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_by_itself_is_started_again() {
    let (dir, forebay) = begin().await;
    assert_eq!(forebay.scrape().await.value("log_buffer_postgresql_restarts_total"), 0);
    for (times, signal) in (1..).zip(["-KILL", "-KILL", "-INT"]) {
        kill(signal, &postmaster(dir.path())).await;
        forebay.sender().await.send(numbered_request((times - 1) * 10..times * 10)).await.unwrap();
        restarts(&forebay, times).await;
        forebay.settles().await;
        forebay.becomes_ready().await;
        assert_eq!(rows(&forebay).await, (times * 10).to_string(), "{:#?}", forebay.said());
    }
    assert_eq!(run_in(dir.path(), "query --json --since 1h").await.json().len(), 30);
    let doctor = run_in(dir.path(), "doctor").await;
    assert_eq!(doctor.status, Some(0), "{doctor:?}");
    let pid = postmaster(dir.path());
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert!(!Path::new("/proc").join(pid).exists(), "it ended with forebay");
    // Repeats within ten seconds are one line, so that the first and the last are there.
    let says = |text: &str| said.iter().any(|line| line.contains("ended by itself") && line.contains(text));
    assert!(says("killed by SIGKILL") && says("pg_ctl stop"), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("the private PostgreSQL runs again")), "{said:#?}");
}

/// Scenario: the cluster's directory is taken away, and the server is killed; later it is put back. Promise: health, `doctor` and
/// `query` say that the server does not run and why, and not that somebody else should stop; records are accepted and held; they are
/// stored once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_started_is_tried_again_and_told_of() {
    let (dir, forebay) = begin().await;
    let cluster = std::fs::canonicalize(dir.path().join(".forebay/cluster")).unwrap();
    let (away, pid) = (cluster.with_file_name("away"), postmaster(dir.path()));
    std::fs::rename(&cluster, &away).unwrap();
    kill("-KILL", &pid).await;
    eventually("health says that the cluster is gone", || async {
        let (status, body) = forebay.health().await;
        let says = body["detail"].as_str().is_some_and(|detail| detail.contains("is gone: put it back"));
        (status == 503 && body["reason"] == "database_unreachable" && says).then_some(())
    })
    .await;
    forebay.sender().await.send(numbered_request(0..20)).await.unwrap();
    assert_eq!(forebay.scrape().await.value("log_buffer_size"), 20);
    let down = format!("the forebay that runs it (pid {}) starts it again", forebay.pid());
    let doctor = run_in(dir.path(), "doctor").await;
    assert_eq!(doctor.status, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("PROBLEM  connection") && doctor.out.contains(&down), "{doctor:?}");
    let query = run_in(dir.path(), "query --since 1h").await;
    assert!(query.status == Some(1) && query.err.contains(&down), "{query:?}");
    std::fs::rename(&away, &cluster).unwrap();
    restarts(&forebay, 1).await;
    forebay.settles().await;
    assert_eq!(rows(&forebay).await, "20");
    assert_eq!(forebay.terminate().await.0, Some(0));
}

/// Scenario: the first process is killed while another one of the server's works on without noticing, which keeps its shared memory.
/// Promise: that one is ended, and the server is started again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_leaves_at_work_is_in_nobodys_way() {
    let (dir, forebay) = begin().await;
    let mut at_work = psql(&forebay, "DO $$BEGIN LOOP END LOOP; END$$").spawn().unwrap();
    eventually("it works", || async {
        let working =
            "SELECT count(*) FROM pg_stat_activity WHERE state = $$active$$ AND query LIKE $$DO %$$";
        let output = psql(&forebay, working).output().await.unwrap();
        (output.stdout == b"1\n").then_some(())
    })
    .await;
    kill("-KILL", &postmaster(dir.path())).await;
    forebay.sender().await.send(numbered_request(0..20)).await.unwrap();
    restarts(&forebay, 1).await;
    forebay.settles().await;
    assert_eq!(rows(&forebay).await, "20");
    assert_eq!(told(&forebay, "whose first process was killed"), 1, "{:#?}", forebay.said());
    assert!(!at_work.wait().await.unwrap().success());
    assert_eq!(forebay.terminate().await.0, Some(0));
}

/// Scenario: forebay is asked to end while a lock keeps it from writing, and then the server is killed. Promise: it is started
/// again for what is held, which is stored before the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_during_the_end_is_started_again_for_what_is_held() {
    let (dir, mut forebay) = begin().await;
    let lock = "BEGIN; LOCK TABLE otel.log_records; SELECT pg_sleep(600)";
    let mut locking = psql(&forebay, lock).spawn().unwrap();
    eventually("the table is locked", || async {
        let locked = "SELECT count(*) FROM pg_locks WHERE mode = $$AccessExclusiveLock$$ AND granted AND relation = $$otel.log_records$$::regclass";
        let output = psql(&forebay, locked).output().await.unwrap();
        (output.stdout == b"1\n").then_some(())
    })
    .await;
    forebay.sender().await.send(numbered_request(0..20)).await.unwrap();
    forebay.signal("TERM").await;
    forebay.becomes_unready("draining").await;
    kill("-KILL", &postmaster(dir.path())).await;
    assert_eq!(forebay.ends().await.code(), Some(0), "{:#?}", forebay.said());
    assert!(!locking.wait().await.unwrap().success());
    let forebay = start_in(dir.path()).await;
    assert_eq!(rows(&forebay).await, "20");
    assert_eq!(forebay.terminate().await.0, Some(0));
}

/// Scenario: one of the server's processes is killed, for which the server itself starts all of them anew. Promise: that is no
/// restart of forebay's; what is sent is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_inside_the_server_is_its_own_matter() {
    let (dir, forebay) = begin().await;
    let first = postmaster(dir.path());
    let session = "SELECT pid FROM pg_stat_activity WHERE application_name = $$forebay$$ LIMIT 1";
    let session = psql(&forebay, session).output().await.unwrap().stdout;
    kill("-KILL", String::from_utf8(session).unwrap().trim()).await;
    forebay.sender().await.send(numbered_request(0..20)).await.unwrap();
    forebay.settles().await;
    forebay.becomes_ready().await;
    assert_eq!(rows(&forebay).await, "20");
    assert_eq!(postmaster(dir.path()), first);
    assert_eq!(forebay.scrape().await.value("log_buffer_postgresql_restarts_total"), 0);
    assert_eq!(forebay.terminate().await.0, Some(0));
}
