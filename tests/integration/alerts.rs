//! The alert rules of `deploy/prometheus`, by Prometheus' own tool, and against the metrics that there really are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::eventually;
use support::forebay::{Forebay, get};
use support::postgres::database;
use support::prometheus::Prometheus;
use support::records::{numbered, numbered_request, request};

use ::forebay::otlp::messages::LogRecord;

/// Scenario: promtool runs the tests beside the rules. Guarantee: each alert has a case in which it fires and one in
/// which it does not, and all of them hold.
#[test]
fn each_alert_fires_on_what_it_is_for_and_not_otherwise() {
    let tests = prometheus("tests/alerts.yml");
    let tested = Command::new("promtool").args(["test", "rules"]).arg(&tests).output();
    let tested = tested.expect("promtool comes with prometheus, which ./dev test installs");
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    let cases = yaml(&tests);
    let cases: Vec<_> = list(&cases["tests"]).flat_map(|test| list(&test["alert_rule_test"])).collect();
    for alert in alerts() {
        let fires = |case: &&Value| -> bool { list(&case["exp_alerts"]).next().is_some() };
        let name = alert["alert"].as_str().unwrap();
        let (firing, quiet): (Vec<&Value>, Vec<&Value>) =
            cases.iter().filter(|case| case["alertname"] == name).partition(|case| fires(case));
        assert!(!firing.is_empty(), "no case has {name} fire");
        assert!(!quiet.is_empty(), "no case has {name} keep quiet");
    }
}

/// Scenario: the rules and a running forebay with a queue on disk. Guarantee: what the rules ask for is on its page, so that none of them is
/// silent for a name that is written wrong.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_ask_for_metrics_that_are_there() {
    let database = database().await;
    let directory = tempfile::tempdir().unwrap();
    let forebay =
        Forebay::ready(database.dsn(), &on_disk(directory.path()).each_ref().map(|set| &**set)).await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    // Only then are the histograms there.
    forebay.settles().await;
    let (_, page) = get(&format!("http://{}/metrics", forebay.metrics_address())).await;
    let there: BTreeSet<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split([' ', '{']).next())
        .collect();
    let mut asked = 0;
    for rule in rules() {
        let expression = rule["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
        for name in words.filter(|word| word.starts_with("log_buffer_") || word.starts_with("otelcol_")) {
            assert!(there.contains(name), "{name} is not on forebay's page, but in: {expression}");
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked} names were looked up");
    let capacity = forebay.scrape().await.value("log_buffer_disk_capacity_bytes");
    assert_eq!(capacity, 1 << 30, "it is max_size");
}

/// Scenario: the table is locked; a service sends more DEBUG than its share, then more ERROR than there is room for. Guarantee: a real
/// Prometheus sees a sender over its share, pages nobody for DEBUG, and pages for ERROR.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_are_dropped_for_a_share_are_a_page_and_debug_is_none() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.sending_queue.queue_size=10"]).await;
    let rules = ["rules/recording.yml", "rules/alerts.yml"].map(prometheus);
    let at = Prometheus::of(forebay.metrics_address(), &rules.each_ref().map(PathBuf::as_path)).await;
    let locked = database.connect().await;
    locked.batch_execute("BEGIN; LOCK otel.log_records").await.unwrap();
    eventually("Prometheus has seen the beginning", || async {
        (at.value("sum(log_buffer_dropped_total)").await == Some(0.0)).then_some(())
    })
    .await;
    let sender = forebay.sender().await;
    for (severity_number, records, dropped) in [(5, 10, 5), (17, 1, 0)] {
        let record = |number| LogRecord { severity_number, ..numbered(number) };
        let answer = sender.send(request((0..records).map(record).collect())).await.unwrap();
        assert_eq!(answer.partial_success.map_or(0, |partial| partial.rejected_log_records), dropped);
    }
    let is = async |alert: &str, state: &str| {
        let query = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"{state}\"}}");
        !at.series(&query).await.is_empty()
    };
    eventually("the sender over its share is seen", || async {
        is("ForebaySenderOverShare", "pending").await.then_some(())
    })
    .await;
    let lost = "increase(log_buffer_dropped_total{severity=\"debug\", reason=\"share\"}[5m]) > 0";
    eventually("Prometheus has seen the loss", || async { at.value(lost).await }).await;
    assert!(!is("ForebayLosesRecords", "firing").await && !is("ForebayLosesErrors", "firing").await);
    let errors = (0..20).map(|number| LogRecord { severity_number: 17, ..numbered(number) });
    let answer = sender.send(request(errors.collect())).await.unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_log_records, 16, "four are free");
    eventually("a page", || async { is("ForebayLosesErrors", "firing").await.then_some(()) }).await;
    assert!(!is("ForebayLosesRecords", "firing").await);
    locked.batch_execute("ROLLBACK").await.unwrap();
    forebay.settles().await;
}

/// Guarantee: whoever is woken by an alert finds what it means, what to look at and what to do, under its name.
#[test]
fn each_alert_has_its_entry_in_the_runbook() {
    let runbook = std::fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    let mut entries: Vec<_> = runbook.split("\n## ").skip(1).collect();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let place = entries.iter().position(|entry| entry.lines().next() == Some(name));
        let entry =
            entries.remove(place.unwrap_or_else(|| panic!("docs/runbook.md has no entry for {name}")));
        assert!(
            entry.contains("**Look**") && entry.contains("**Do**"),
            "{name}: what to look at, what to do"
        );
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(entry.contains(&format!("*{severity}.*")), "{name} is a {severity}");
        let link = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook"], link.as_str());
    }
    assert!(entries.is_empty(), "entries without an alert: {entries:?}");
}

/// The `--set` arguments of a forebay with a queue of 1 GiB in `directory`.
pub fn on_disk(directory: &Path) -> [String; 4] {
    let queue = |set: &str| format!("exporters.postgres.sending_queue.{set}");
    // Another program may have filled the disk of the tests.
    let sets = ["storage=file_storage", "max_size=1GiB", "min_free=0%"].map(queue);
    let [storage, size, free] = sets;
    [storage, size, free, format!("extensions.file_storage.directory={}", directory.display())]
}

fn alerts() -> impl Iterator<Item = Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string())
}

fn rules() -> Vec<Value> {
    let files = ["rules/recording.yml", "rules/alerts.yml"].map(|file| yaml(&prometheus(file)));
    let groups = files.iter().flat_map(|file| list(&file["groups"]));
    groups.flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn prometheus(file: &str) -> PathBuf {
    root().join("deploy/prometheus").join(file)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
