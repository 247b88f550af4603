//! The dashboards of `deploy/grafana`: each of their queries, taken out of the JSON, at a real Prometheus and at a real
//! store.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use crate::support::eventually;
use crate::support::forebay::Forebay;
use crate::support::postgres::database;
use crate::support::prometheus::Prometheus;
use crate::support::records::{numbered, numbered_request, request, text};

/// What the panels of a healthy forebay do not show.
const EMPTY_WHEN_WELL: &[&str] = &["Not ready, by reason", "Alerts"];
/// A request of one record whose body ends too early, so that it is given back.
const MALFORMED: &[u8] = &[0x0a, 6, 0x12, 4, 0x12, 2, 0x2a, 0x7f];

/// Scenario: a forebay has written, lost, given back and dead-lettered records, and Prometheus has seen it happen.
/// Guarantee: every query of the health dashboard is understood, and gives something.
#[tokio::test(flavor = "multi_thread")]
async fn the_health_dashboard_shows_what_happens() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.sending_queue.queue_size=100"]).await;
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
    sender.send(numbered_request(2..302)).await.unwrap();
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

fn board(name: &str) -> Value {
    let file = deploy(&format!("grafana/dashboards/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn deploy(file: &str) -> Box<Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file).into()
}
