//! A real OpenTelemetry Collector in between: what it forwards, compressed, is stored as it was sent to it.

use std::net::SocketAddr;
use std::process::Stdio;

use support::forebay::Forebay;
use support::postgres::database;
use support::{eventually, free_port};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::matrix::{Cell, ROUNDS};
use crate::sdks::{Sdk, Transport, say, target};
use crate::sender::{Sender, Work};
use crate::set::SET;

/// What telemetrygen sends: workers, and records of each.
const LOAD: (u64, u64) = (4, 1500);

/// A Collector with one pipeline. It is killed when it is dropped.
struct Collector {
    child: Child,
    address: SocketAddr,
    _config: TempDir,
}

impl Collector {
    /// Starts it with this exporter, as YAML, and waits until it listens.
    async fn start(exporter: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (name, _) = exporter.split_once(':').unwrap();
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\n\
             exporters: {{{exporter}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}\n  \
             pipelines: {{logs: {{receivers: [otlp], exporters: [{name}]}}}}\n"
        );
        let config = TempDir::new().unwrap();
        let file = config.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(target("sdk/go/collector"));
        command.arg("--config").arg(file).stdin(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().expect("the Collector starts");
        eventually("the Collector listens", || async { TcpStream::connect(address).await.ok() }).await;
        Self { child, address, _config: config }
    }

    /// SIGTERM, on which it sends what it still holds, then its end.
    async fn ends(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        assert!(self.child.wait().await.unwrap().success());
    }
}

/// Sends the set of records and telemetrygen's load to a Collector that forwards them by `exporter`.
async fn forwarded(exporter: impl Fn(&Forebay) -> String) {
    if !Sdk::installed().any(|sdk| sdk == Sdk::Go) {
        return say("SKIPPED, for want of Go: the Collector\n");
    }
    let database = database().await;
    // The load's records are all the same, and each one counts here.
    let forebay =
        Forebay::ready(database.dsn(), &["exporters.postgres.sending_queue.fold.enabled=false"]).await;
    let collector = Collector::start(&exporter(&forebay)).await;
    let endpoint = format!("http://{}", collector.address);
    let sender = Sender::start(Sdk::Go, Transport::Grpc, &endpoint, Work::Records { rounds: ROUNDS });
    let (told, report) = sender.end().await;
    assert_eq!(report.failed, 0, "{report:?}");
    let (workers, each) = LOAD;
    let load = Command::new(target("sdk/go/telemetrygen"))
        .args(["logs", "--otlp-insecure", "--otlp-endpoint", &collector.address.to_string(), "--rate", "0"])
        .args(["--workers", &workers.to_string(), "--logs", &each.to_string(), "--service", "generated"])
        .args([
            "--telemetry-attributes",
            "by=\"telemetrygen\"",
            "--severity-number",
            "13",
            "--severity-text",
            "Warn",
        ])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(load.status.success(), "{load:?}");
    collector.ends().await;
    let page = forebay.settles().await;
    let (records, load) = ((ROUNDS * SET.records.len()) as u64, workers * each);
    assert_eq!(page.value("log_buffer_flushed_total"), records + load);
    let client = database.connect().await;
    let same = "SELECT count(*) FROM otel.logs WHERE service_name = 'generated' AND body = 'the message' \
                AND attributes->>'by' = 'telemetrygen' AND severity = 'WARN'";
    assert_eq!(client.query_one(same, &[]).await.unwrap().get::<_, i64>(0) as u64, load);
    let cell = Cell::of(&client, Sdk::Go, Transport::Grpc, &told).await;
    let mismatches: Vec<_> = cell.described().collect();
    assert!(mismatches.is_empty(), "{mismatches:#?}");
}

/// Scenario: a Collector forwards over gRPC with gzip. Guarantee: each record arrives, once, and each field is as it
/// was sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_forwards_over_grpc_with_gzip() {
    forwarded(|forebay| {
        let endpoint = forebay.endpoint();
        format!("otlp_grpc: {{endpoint: '{endpoint}', compression: gzip, tls: {{insecure: true}}}}")
    })
    .await;
}

/// Scenario: the same over HTTP with zstd. Guarantee: the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_forwards_over_http_with_zstd() {
    forwarded(|forebay| {
        let endpoint = Transport::HttpProtobuf.endpoint(forebay);
        format!("otlp_http: {{endpoint: '{endpoint}', compression: zstd}}")
    })
    .await;
}
