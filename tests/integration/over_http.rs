//! OTLP/HTTP from the socket to the committed row.

use forebay::otlp::messages::ExportLogsServiceResponse;
use prost::Message;

use crate::support::forebay::{Forebay, QUICK, command};
use crate::support::http::{Reply, send};
use crate::support::postgres::database;
use crate::support::records::numbered_request;
use crate::support::stored;

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

const ONLY_HTTP: &str = "
receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}
exporters: {postgres: {dsn: '${env:DATABASE_URL}'}}
extensions: {health_check: {endpoint: '127.0.0.1:0'}}
service:
  extensions: [health_check]
  pipelines: {logs: {receivers: [otlp], exporters: [postgres]}}
  telemetry:
    logs: {encoding: json}
    metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}]}
";

async fn post(forebay: &Forebay, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Reply {
    send("POST", &format!("http://{}/v1/logs", forebay.http_address()), headers, body).await
}

/// Scenario: both protocols at once. Guarantee: the records of both are stored, each once.
#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_taken_beside_each_other() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let sender = forebay.sender().await;
    for first in (0..1000).step_by(20) {
        let reply = post(&forebay, &[PROTOBUF], numbered_request(first..first + 10).encode_to_vec()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(ExportLogsServiceResponse::decode(&reply.body[..]).unwrap().partial_success, None);
        sender.send(numbered_request(first + 10..first + 20)).await.unwrap();
    }
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 1000);
    stored(&database).await.assert_holds_each_once(std::slice::from_ref(&(0..1000)));
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
}

/// Scenario: only one protocol is named. Guarantee: the other port is not open.
#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_is_not_named_is_off() {
    let database = database().await;
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, ONLY_HTTP).unwrap();
    let mut command = command();
    command.env("DATABASE_URL", database.dsn()).arg("--config").arg(file);
    let forebay = Forebay::spawn(command).await;
    assert_eq!(forebay.endpoint(), "http://", "nothing is said of gRPC");
    let reply = post(&forebay, &[PROTOBUF], numbered_request(0..10).encode_to_vec()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10);
}
