//! SIGHUP, and the bound on memory that it can move: the configuration is read again while forebay runs.

use std::fs;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use serde_json::Value;
use support::forebay::{Forebay, arguments, command};
use support::metrics::Scrape;
use support::postgres::{Postgres, database};
use support::records::{numbered_request, request, text};
use support::sender::retry_delay;
use support::{eventually, stored};
use tempfile::TempDir;
use tonic::Code;

use ::forebay::embedded::Stop;
use ::forebay::otlp::messages::LogRecord;

const NOWHERE: &str = "host=127.0.0.1 port=1 user=nobody";

/// A forebay whose configuration is the shipped one under a file that can be written anew.
struct Reloading {
    forebay: Forebay,
    file: PathBuf,
    _dir: TempDir,
}

impl Reloading {
    async fn start(dsn: &str, yaml: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("own.yaml");
        fs::write(&file, yaml).unwrap();
        let mut command = command();
        command.env("DATABASE_URL", dsn).args(arguments(&[]));
        command
            .args(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/otel-config.yaml"), "--config"])
            .arg(&file);
        Self { forebay: Forebay::spawn(command).await, file, _dir: dir }
    }

    /// Writes the file, asks for it to be read, and waits until forebay has said `what`; gives that line.
    async fn reload(&self, yaml: &str, what: &str) -> Value {
        let before = self.said(what).len();
        fs::write(&self.file, yaml).unwrap();
        self.forebay.signal("HUP").await;
        eventually(what, || async { self.said(what).get(before).cloned() }).await
    }

    /// The lines with this message.
    fn said(&self, what: &str) -> Vec<Value> {
        let lines =
            self.forebay.said().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.filter(|line| line["message"].as_str().is_some_and(|message| message.contains(what))).collect()
    }
}

const IN_FORCE: &str = "these are in force";
const RESTART: &str = "these need a restart";
const NOTHING: &str = "nothing has changed";
const REFUSED: &str = "the configuration is refused";

/// Scenario: a full buffer; SIGHUP with another overflow policy, and with keys that cannot change; then with a broken
/// file. Guarantee: the policy is in force at once, the other keys are named, and a broken file changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_change_is_taken_over_and_the_rest_is_named() {
    let queue =
        |more: &str| format!("exporters: {{postgres: {{sending_queue: {{queue_size: 10, {more}}}}}}}");
    let reloading = Reloading::start(NOWHERE, &queue("overflow: drop_newest")).await;
    let sender = reloading.forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    let answer = sender.send(numbered_request(10..15)).await.unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_log_records, 5);

    let yaml =
        queue("overflow: reject") + "\nreceivers: {otlp: {protocols: {grpc: {max_concurrent_streams: 7}}}}";
    let fixed = reloading.reload(&yaml, RESTART).await;
    assert_eq!(fixed["keys"], "receivers.otlp.protocols.grpc.max_concurrent_streams");
    let live = &reloading.said(IN_FORCE)[0];
    assert_eq!(live["keys"], "exporters.postgres.sending_queue.overflow");
    let refusal = sender.send(numbered_request(10..15)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);

    let refused = reloading.reload(&queue("overflow: block"), REFUSED).await;
    let error = refused["error"].as_str().unwrap();
    assert!(error.starts_with("exporters.postgres.sending_queue.overflow: found \"block\""), "{error}");
    assert!(sender.send(numbered_request(10..15)).await.is_err(), "what was in force is");

    reloading.reload(&queue("overflow: drop_oldest"), IN_FORCE).await;
    assert_eq!(sender.send(numbered_request(10..15)).await.unwrap().partial_success, None);
    reloading.reload(&queue("overflow: drop_oldest"), NOTHING).await;
    let scrape = reloading.forebay.scrape().await;
    assert_eq!(scrape.sum("log_buffer_dropped_total", r#"reason="drop_oldest""#), 5);
    scrape.assert_balanced();
}

/// Scenario: a password in the connection string changes, and a level. Guarantee: the key is named, the password is not;
/// messages below the level are no longer printed.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_changes_is_named_and_not_shown() {
    let dsn = |password: &str| format!("exporters: {{postgres: {{dsn: {NOWHERE} password={password}}}}}");
    let reloading = Reloading::start(NOWHERE, &dsn("hunter1")).await;
    let fixed = reloading.reload(&dsn("hunter2"), RESTART).await;
    assert_eq!(fixed["keys"], "exporters.postgres.dsn");
    let level = dsn("hunter1") + "\nservice: {telemetry: {logs: {level: error}}}";
    let refused = reloading.reload(&(level.clone() + "\nx: 1"), REFUSED).await;
    assert!(refused["error"].as_str().unwrap().starts_with("x: unknown key"));
    reloading.reload(&level, IN_FORCE).await;
    let (status, said) = reloading.forebay.terminate().await;
    assert_eq!(status, Some(0));
    assert!(!said.iter().any(|line| line.contains("asked to end") || line.contains("hunter")), "{said:#?}");
}

/// Scenario: records wait for a batch that would be due in an hour; SIGHUP with a short timeout. Then a batch that
/// cannot be written is tried again and again; SIGHUP with an end to that. Guarantee: both hold for what is there.
#[tokio::test(flavor = "multi_thread")]
async fn batches_and_retries_follow() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let yaml = |timeout: &str, elapsed: &str| {
        format!(
            "processors: {{batch: {{timeout: {timeout}}}}}\n\
             exporters: {{postgres: {{retry_on_failure: {{initial_interval: 20ms, max_interval: 100ms, \
             max_elapsed_time: {elapsed}}}}}}}"
        )
    };
    let reloading = Reloading::start(database.dsn(), &yaml("1h", "0s")).await;
    reloading.forebay.becomes_ready().await;
    let sender = reloading.forebay.sender().await;
    sender.send(numbered_request(0..5)).await.unwrap();
    assert_eq!(reloading.forebay.scrape().await.value("log_buffer_size"), 5);
    let live = reloading.reload(&yaml("10ms", "0s"), IN_FORCE).await;
    assert_eq!(live["keys"], "processors.batch.timeout");
    reloading.forebay.settles().await;
    stored(&database).await.assert_holds_each_once(std::slice::from_ref(&(0..5)));

    postgres.stop(Stop::Fast).await;
    sender.send(numbered_request(5..12)).await.unwrap();
    reloading.forebay.becomes_unready("database_unreachable").await;
    reloading.reload(&yaml("10ms", "1ms"), IN_FORCE).await;
    let scrape = reloading.forebay.settles().await;
    assert_eq!(scrape.sum("log_buffer_dropped_total", r#"reason="retry_exhausted""#), 7);
}

/// Scenario: 24 MiB are held, and SIGHUP lowers the memory limit far below what forebay takes; later it is raised
/// again. Guarantee: requests are refused as something that passes, counted, and health says so; the oldest give way
/// above the hard limit; afterwards everything is as before.
#[tokio::test(flavor = "multi_thread")]
async fn above_its_memory_limit_it_refuses_and_gives_back() {
    let yaml = |limit: u32| {
        format!(
            "processors: {{memory_limiter: {{check_interval: 10ms, limit_mib: {limit}}}}}\n\
             exporters: {{postgres: {{sending_queue: {{overflow: drop_oldest}}}}}}\n\
             service: {{pipelines: {{logs: {{processors: [memory_limiter, batch]}}}}}}"
        )
    };
    let reloading = Reloading::start(NOWHERE, &yaml(4000)).await;
    let sender = reloading.forebay.sender().await;
    let large = || LogRecord { body: Some(text("x".repeat(1 << 20))), ..LogRecord::default() };
    for _ in 0..24 {
        sender.send(request(vec![large()])).await.unwrap();
    }
    let before = reloading.forebay.scrape().await;
    assert_eq!(before.value("log_buffer_size"), 24);

    reloading.reload(&yaml(1), IN_FORCE).await;
    reloading.forebay.becomes_unready("memory_limit").await;
    let refusal = sender.send(numbered_request(0..10)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert!(retry_delay(&refusal).is_some(), "{refusal:?}");
    let scrape = reloading.forebay.settles().await;
    assert_eq!(scrape.sum("log_buffer_dropped_total", r#"reason="drop_oldest""#), 24);
    assert_eq!(scrape.sum("log_buffer_rejected_total", r#"reason="memory""#), 10);
    assert_eq!(scrape.sum("otelcol_processor_refused_log_records_total", "memory_limiter"), 10);

    let resident = |scrape: &Scrape| scrape.value("otelcol_process_memory_rss_bytes");
    eventually("the memory is given back", || async {
        (resident(&reloading.forebay.scrape().await) + (16 << 20) < resident(&before)).then_some(())
    })
    .await;

    reloading.reload(&yaml(4000), IN_FORCE).await;
    reloading.forebay.becomes_unready("database_unreachable").await;
    sender.send(numbered_request(0..10)).await.unwrap();
    let scrape = reloading.forebay.scrape().await;
    assert_eq!(scrape.value("log_buffer_size"), 10);
    scrape.assert_balanced();
}

/// Scenario: a limit in percent of what this machine has. Guarantee: what forebay takes is far below it, so that records
/// are written as without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_memory_limit_in_percent_is_one_of_this_machine() {
    let database = database().await;
    let yaml = "processors: {memory_limiter: {limit_percentage: 90, spike_limit_percentage: 10}}\n\
                service: {pipelines: {logs: {processors: [memory_limiter, batch]}}}";
    let reloading = Reloading::start(database.dsn(), yaml).await;
    reloading.forebay.becomes_ready().await;
    reloading.forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    let scrape = reloading.forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 10);
    assert_eq!(scrape.sum("log_buffer_rejected_total", r#"reason="memory""#), 0);
}

/// Scenario: a configuration is read again from a file that does not answer, and forebay is asked to end. Guarantee: it ends
/// at once, without waiting for the file.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_a_file() {
    let database = database().await;
    let Reloading { forebay, file, _dir } =
        Reloading::start(database.dsn(), "processors: {batch: {timeout: 10ms}}").await;
    forebay.becomes_ready().await;
    fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    forebay.signal("HUP").await;
    // It can be opened like this once somebody reads it, who then waits for as long as it is open.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    let _open = eventually("the file is read", || async { open(&file, flags, Mode::empty()).ok() }).await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains(REFUSED)), "it has waited: {said:#?}");
}
