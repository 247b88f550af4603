//! A real Prometheus scrapes forebay.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::support::eventually;
use crate::support::forebay::{Forebay, get};
use crate::support::postgres::database;
use crate::support::records::numbered_request;

/// The metrics of the contract, with their types.
const NAMES: &[(&str, &str)] = &[
    ("log_buffer_size", "gauge"),
    ("log_buffer_capacity", "gauge"),
    ("log_buffer_bytes", "gauge"),
    ("log_buffer_dropped_total", "counter"),
    ("log_buffer_flushed_total", "counter"),
    ("log_buffer_flush_duration_seconds", "histogram"),
    ("log_buffer_flush_errors_total", "counter"),
    ("otelcol_receiver_accepted_log_records_total", "counter"),
    ("otelcol_receiver_refused_log_records_total", "counter"),
    ("otelcol_exporter_sent_log_records_total", "counter"),
    ("otelcol_exporter_send_failed_log_records_total", "counter"),
    ("otelcol_exporter_enqueue_failed_log_records_total", "counter"),
    ("otelcol_exporter_queue_size", "gauge"),
    ("otelcol_exporter_queue_capacity", "gauge"),
    ("otelcol_process_uptime_seconds_total", "counter"),
    ("otelcol_process_memory_rss_bytes", "gauge"),
];

/// Scenario: Prometheus scrapes forebay twice a second. Guarantee: it understands the page, has every metric of the
/// contract with its type, and the values that forebay has.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_the_page() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let target = forebay.metrics_address();
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
         scrape_configs:\n  - {{job_name: forebay, static_configs: [{{targets: ['{target}']}}]}}\n"
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    // Taken and given back, so that Prometheus finds it free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _prometheus = Command::new("prometheus")
        .current_dir(dir.path())
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("prometheus is installed, which ./dev test does");
    let api = format!("http://127.0.0.1:{port}");
    eventually("Prometheus listens", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await;
    forebay.sender().await.send(numbered_request(0..321)).await.unwrap();
    eventually("Prometheus has the flushed records", || async {
        (query(&api, "log_buffer_flushed_total").await == Some(321.0)).then_some(())
    })
    .await;
    assert_eq!(query(&api, "up").await, Some(1.0));
    assert_eq!(query(&api, "log_buffer_capacity").await, Some(10_000.0));
    assert_eq!(query(&api, "sum(log_buffer_dropped_total)").await, Some(0.0));
    assert_eq!(query(&api, "count(log_buffer_dropped_total)").await, Some(35.0), "5 reasons, 7 severities");
    assert_eq!(query(&api, "sum(otelcol_exporter_sent_log_records_total)").await, Some(321.0));
    let (_, metadata) = get(&format!("{api}/api/v1/metadata")).await;
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    for (name, kind) in NAMES {
        assert_eq!(metadata["data"][name][0]["type"], *kind, "{name}");
    }
    forebay.settles().await;
}

/// The value of an instant query with one result.
async fn query(api: &str, query: &str) -> Option<f64> {
    let (_, body) = get(&format!("{api}/api/v1/query?query={query}")).await;
    let answer: Value = serde_json::from_str(&body).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}
