//! A real Prometheus scrapes forebay.

use support::eventually;
use support::forebay::Forebay;
use support::postgres::database;
use support::prometheus::Prometheus;
use support::records::numbered_request;

/// The metrics of the contract, with their types.
const NAMES: &[(&str, &str)] = &[
    ("log_buffer_size", "gauge"),
    ("log_buffer_capacity", "gauge"),
    ("log_buffer_bytes", "gauge"),
    ("log_buffer_pressure_ratio", "gauge"),
    ("log_buffer_senders_over_share", "gauge"),
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
    let prometheus = Prometheus::of(forebay.metrics_address(), &[]).await;
    forebay.sender().await.send(numbered_request(0..321)).await.unwrap();
    eventually("Prometheus has the flushed records", || async {
        (prometheus.value("log_buffer_flushed_total").await == Some(321.0)).then_some(())
    })
    .await;
    assert_eq!(prometheus.value("up").await, Some(1.0));
    assert_eq!(prometheus.value("log_buffer_capacity").await, Some(10_000.0));
    assert_eq!(prometheus.value("sum(log_buffer_dropped_total)").await, Some(0.0));
    assert_eq!(
        prometheus.value("count(log_buffer_dropped_total)").await,
        Some(49.0),
        "7 reasons, 7 severities"
    );
    assert_eq!(prometheus.value("sum(otelcol_exporter_sent_log_records_total)").await, Some(321.0));
    let metadata = prometheus.ask("metadata").await;
    for (name, kind) in NAMES {
        assert_eq!(metadata["data"][name][0]["type"], *kind, "{name}");
    }
    forebay.settles().await;
}
