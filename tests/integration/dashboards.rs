//! The dashboards of `deploy/grafana`: each of their queries, taken out of the JSON, at a real Prometheus and at a real
//! store.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use support::eventually;
use support::forebay::Forebay;
use support::postgres::database;
use support::prometheus::Prometheus;
use support::records::{numbered, numbered_request, request, text};

use crate::alerts::on_disk;

/// What the panels of a healthy forebay do not show.
const EMPTY_WHEN_WELL: &[&str] = &["Not ready, by reason", "Alerts"];
/// A request of one record whose body ends too early, so that it is given back.
const MALFORMED: &[u8] = &[0x0a, 6, 0x12, 4, 0x12, 2, 0x2a, 0x7f];

/// Scenario: a forebay with a queue on disk has written, lost, given back and dead-lettered records, and Prometheus has seen it happen.
/// Guarantee: every query of the health dashboard is understood, and gives something.
#[tokio::test(flavor = "multi_thread")]
async fn the_health_dashboard_shows_what_happens() {
    let database = database().await;
    let directory = tempfile::tempdir().unwrap();
    let small = "exporters.postgres.sending_queue.max_bytes=1MiB".to_owned();
    let sets: Vec<_> = on_disk(directory.path()).into_iter().chain([small]).collect();
    let forebay = Forebay::ready(database.dsn(), &sets.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let rules = ["recording", "alerts"].map(|rules| deploy(&format!("prometheus/rules/{rules}.yml")));
    let prometheus = Prometheus::of(forebay.metrics_address(), &rules.each_ref().map(|path| &**path)).await;
    let sender = forebay.sender().await;
    sender.send(numbered_request(1000..1010)).await.unwrap();
    eventually("Prometheus has seen the beginning", || async {
        prometheus.value("log_buffer_flush_duration_seconds_count > 0").await
    })
    .await;
    let client = database.connect().await;
    client.batch_execute("ALTER TABLE otel.log_records ADD CHECK (body <> 'bad')").await.unwrap();
    sender.send_bytes(Bytes::from_static(MALFORMED)).await.unwrap();
    let mut bad = numbered(0);
    bad.body = Some(text("bad"));
    sender.send(request(vec![bad, numbered(1)])).await.unwrap();
    let mut large = numbered(2);
    large.body = Some(text("x".repeat(2 << 20)));
    sender.send(request(vec![large, numbered(3)])).await.unwrap();
    let board = board("forebay-health");
    for (title, query) in queries(&board) {
        let query = query.replace("$job", ".*").replace("$instance", ".*");
        if EMPTY_WHEN_WELL.contains(&title) {
            prometheus.series(&query).await;
            continue;
        }
        eventually(&format!("{title}: {query}"), || async {
            let series = prometheus.series(&query).await;
            let numbers = series.iter().filter(|series| series["value"][1] != "NaN");
            (numbers.count() > 0).then_some(())
        })
        .await;
    }
    for variable in board["templating"]["list"].as_array().unwrap() {
        if let Some(definition) = variable["definition"].as_str() {
            let label = variable["name"].as_str().unwrap();
            assert!(definition.ends_with(&format!(", {label})")), "{definition}");
            let series = prometheus.series(&format!("count by ({label}) (log_buffer_capacity)")).await;
            assert!(series[0]["metric"][label].is_string(), "{label}");
        }
    }
    forebay.settles().await;
}

/// Scenario: a store with records of a service, of a trace, with errors and with losses. Guarantee: every query of the
/// dashboard of the logs is understood as Grafana sends it, with its variables on all and on one, and gives something.
#[tokio::test(flavor = "multi_thread")]
async fn the_logs_dashboard_shows_what_is_stored() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.losses_window=100ms"]).await;
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..100)).await.unwrap();
    sender.send_bytes(Bytes::from_static(MALFORMED)).await.unwrap();
    forebay.settles().await;
    let client = database.connect().await;
    let losses = "SELECT FROM otel.losses";
    eventually("the loss is written", || async { client.query_opt(losses, &[]).await.unwrap() }).await;
    let trace = hex(&numbered(17).trace_id);
    let board = board("forebay-logs");
    let services = variable(&board, "service")["query"].as_str().unwrap();
    let services: Vec<String> =
        client.query(services, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(services, ["shop"]);
    let all = [("service", None), ("severity", None), ("text", Some("")), ("trace", Some(trace.as_str()))];
    let one = [
        ("service", Some("shop")),
        ("severity", Some("WARN")),
        ("text", Some("SOME more's")),
        ("trace", Some(trace.as_str())),
    ];
    for (chosen, found) in [(all, true), (one, false)] {
        for panel in board["panels"].as_array().unwrap() {
            let (title, target) = (panel["title"].as_str().unwrap(), &panel["targets"][0]);
            let sql = as_grafana_sends(&board, target["rawSql"].as_str().unwrap(), &chosen);
            let rows =
                client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{title}: {error}\n{sql}"));
            // No body has the one text, whose quote must not end the string.
            let depends = sql.contains("more''s");
            assert_eq!(rows.is_empty(), !found && depends, "{title}:\n{sql}");
            if target["format"] == "time_series" && found {
                let severities: BTreeSet<String> = rows.iter().map(|row| row.get("metric")).collect();
                assert_eq!(severities.len(), 6, "{severities:?}");
                let counted: i64 = rows.iter().map(|row| row.get::<_, i64>("value")).sum();
                assert_eq!(counted, 100);
            }
        }
    }
}

/// The SQL with macros and variables replaced as Grafana does it; a variable that is on all has no value.
pub fn as_grafana_sends(board: &Value, sql: &str, variables: &[(&str, Option<&str>)]) -> String {
    let now = jiff::Timestamp::now();
    let hour = jiff::Span::new().hours(1);
    let at = |time: jiff::Timestamp| format!("'{time:.3}'");
    let mut sql = sql
        .replace("$__timeFrom()", &at(now - hour))
        .replace("$__timeTo()", &at(now + hour))
        .replace("$__interval", "1m");
    for (name, value) in variables {
        let value = match value {
            // Grafana puts this in as it is.
            None => variable(board, name)["allValue"].as_str().unwrap().to_owned(),
            Some(value) => format!("'{}'", value.replace('\'', "''")),
        };
        sql = sql.replace(&format!("${{{name}:sqlstring}}"), &value);
    }
    assert!(!sql.contains('$'), "something is not replaced:\n{sql}");
    sql
}

fn variable<'a>(board: &'a Value, name: &str) -> &'a Value {
    let list = board["templating"]["list"].as_array().unwrap();
    list.iter().find(|variable| variable["name"] == name).unwrap_or_else(|| panic!("a variable {name}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The titles of a dashboard's panels and annotations with their queries for Prometheus.
fn queries(board: &Value) -> impl Iterator<Item = (&str, String)> {
    let panels = board["panels"].as_array().unwrap().iter();
    let panels = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| (panel["title"].as_str().unwrap(), &target["expr"]))
    });
    let annotations = board["annotations"]["list"].as_array().unwrap().iter();
    let annotations =
        annotations.map(|annotation| (annotation["name"].as_str().unwrap(), &annotation["expr"]));
    panels.chain(annotations).filter_map(|(title, query)| Some((title, query.as_str()?.to_owned())))
}

pub fn board(name: &str) -> Value {
    let file = deploy(&format!("grafana/dashboards/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

pub fn deploy(file: &str) -> Box<Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file).into()
}
