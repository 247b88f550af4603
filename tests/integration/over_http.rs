//! OTLP/HTTP from the socket to the committed row.

use std::io::Write;
use std::ops::Range;

use flate2::Compression;
use flate2::write::GzEncoder;
use forebay::otlp::messages::ExportLogsServiceResponse;
use prost::Message;
use serde_json::{Value, json};
use support::forebay::{Forebay, QUICK, command};
use support::http::{Reply, send};
use support::postgres::database;
use support::records::{body_of, now, numbered_request};
use support::stored;

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

/// The same records as [`numbered_request`] has, as far as the tests look.
fn numbered_json(numbers: Range<u64>) -> Vec<u8> {
    let record = |number: u64| {
        json!({
            "timeUnixNano": now().to_string(),
            "severityNumber": 9,
            "body": {"stringValue": body_of(number)},
            "attributes": [{"key": "number", "value": {"intValue": number.to_string()}}],
            "traceId": format!("{number:032X}"),
        })
    };
    let records: Vec<_> = numbers.map(record).collect();
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]});
    json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]})
        .to_string()
        .into()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn post(forebay: &Forebay, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Reply {
    send("POST", &format!("http://{}/v1/logs", forebay.http_address()), headers, body).await
}

/// Scenario: both protocols at once. Guarantee: the records of both are stored, each once, and counted by protocol.
#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_taken_beside_each_other() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let sender = forebay.sender().await;
    for first in (0..1000).step_by(25) {
        let reply = post(&forebay, &[PROTOBUF], numbered_request(first..first + 10).encode_to_vec()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(ExportLogsServiceResponse::decode(&reply.body[..]).unwrap().partial_success, None);
        sender.send(numbered_request(first + 10..first + 25)).await.unwrap();
    }
    let metrics = forebay.settles().await;
    assert_eq!(metrics.value("log_buffer_flushed_total"), 1000);
    let received =
        |name, transport| metrics.sum(&format!("otelcol_receiver_{name}_log_records_total"), transport);
    for (transport, accepted) in [("transport=\"grpc\"", 600), ("transport=\"http\"", 400)] {
        let counted = (received("accepted", transport), received("refused", transport));
        assert_eq!(counted, (accepted, 0), "{transport}");
    }
    stored(&database).await.assert_holds_each_once(std::slice::from_ref(&(0..1000)));
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
}

/// Scenario: both encodings, compressed in each way. Guarantee: all of it is stored, each record once, and each answer
/// has the request's encoding.
#[tokio::test(flavor = "multi_thread")]
async fn every_encoding_is_stored() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    // No id is all zero, which means none.
    let mut first = 1;
    for (content_type, answer) in [("application/x-protobuf", &b""[..]), ("application/json", b"{}")] {
        for encoding in ["identity", "gzip", "zstd"] {
            let numbers = first..first + 50;
            let body = match answer {
                b"" => numbered_request(numbers).encode_to_vec(),
                _ => numbered_json(numbers),
            };
            let body = match encoding {
                "gzip" => gzip(&body),
                "zstd" => zstd::bulk::compress(&body, 3).unwrap(),
                _ => body,
            };
            let headers = [("content-type", content_type), ("content-encoding", encoding)];
            let reply = post(&forebay, &headers, body).await;
            assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, answer), "{headers:?}");
            assert_eq!(reply.header("content-type"), Some(content_type));
            first += 50;
        }
    }
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 300);
    stored(&database).await.assert_holds_each_once(std::slice::from_ref(&(1..first)));
    let same = "SELECT count(*) FROM otel.logs WHERE service_name = 'shop' AND severity_number IS NOT NULL
        AND attributes ->> 'number' = (('x' || right(trace_id, 16))::bit(64)::bigint)::text";
    let same: i64 = database.connect().await.query_one(same, &[]).await.unwrap().get(0);
    assert_eq!(same, 300, "ids and attributes say the same number");
}

/// Scenario: JSON as SDKs and people write it, with scalars that their fields cannot hold, one in each record, and one record
/// whose attributes are an object. Promise: no scalar costs its record; the nearest value or its text is stored, and counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_scalar_of_json_never_costs_its_record() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let cases = [
        (r#"{"intValue":18446744073709552000}"#, "18446744073709552000"),
        (r#"{"intValue":1e21}"#, "1000000000000000000000"),
        (r#"{"intValue":"18446744073709551617"}"#, r#""18446744073709551617""#),
        (r#"{"intValue":1.5}"#, "1.5"),
        (r#"{"intValue":"5.0"}"#, "5"),
        (r#"{"doubleValue":1e309}"#, r#""1e309""#),
        (r#"{"boolValue":"true"}"#, "true"),
        (r#"{"stringValue":5}"#, r#""5""#),
        (r#"{"bytesValue":"????"}"#, r#""????""#),
        (r#""bare""#, r#""bare""#),
    ];
    let mut records: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(at, (value, _))| {
            format!(
                r#"{{"severityNumber":"ERROR","traceId":"not hex","timeUnixNano":"soon",
            "eventName":"{at}","attributes":[{{"key":"v","value":{value}}}]}}"#
            )
        })
        .collect();
    records.insert(3, r#"{"attributes":{"v":1}}"#.to_owned());
    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#, records.join(","));
    let reply = post(&forebay, &[("content-type", "application/json")], json).await;
    let said: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        (reply.status.as_u16(), said["partialSuccess"]["rejectedLogRecords"].as_str()),
        (200, Some("1"))
    );
    let scrape = forebay.settles().await;
    let replaced = |kind| scrape.sum("log_buffer_replaced_values_total", &format!("kind=\"{kind}\""));
    assert_eq!(["number", "type", "time", "id"].map(replaced), [5, 4 + 10, 10, 10]);
    let rows = "SELECT (attributes -> 'v')::text, severity_number, trace_id IS NULL, time > now() - interval '1 hour'
        FROM otel.logs ORDER BY event_name::int";
    let client = database.connect().await;
    let rows = client.query(rows, &[]).await.unwrap();
    let stored: Vec<(String, i16, bool, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let expected: Vec<_> = cases.map(|(_, value)| (value.to_owned(), 17_i16, true, true)).into();
    assert_eq!(stored, expected);
}

/// Scenario: a database that is away, and a buffer of ten records. Guarantee: what does not fit is shed or given back as
/// `overflow` says, the sender is told, and the books balance.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_is_told() {
    let json = [("content-type", "application/json")];
    let small = "exporters.postgres.sending_queue.queue_size=10";
    let end = "exporters.postgres.shutdown_timeout=10ms";
    for (overflow, status, rejected) in [("drop_newest", 200, Some("5")), ("reject", 429, None)] {
        let overflow = format!("exporters.postgres.sending_queue.overflow={overflow}");
        let forebay = Forebay::start("postgres://nobody@127.0.0.1:1/none", &[small, end, &overflow]).await;
        assert_eq!(post(&forebay, &json, numbered_json(0..10)).await.status, 200);
        let reply = post(&forebay, &json, numbered_json(10..15)).await;
        let said: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(reply.status, status, "{said}");
        assert_eq!(said["partialSuccess"]["rejectedLogRecords"].as_str(), rejected, "{said}");
        let after = reply.header("retry-after");
        assert_eq!(after.is_some_and(|after| ["1", "2"].contains(&after)), status == 429, "{after:?}");
        let scrape = forebay.scrape().await;
        scrape.assert_balanced();
        assert_eq!((scrape.value("log_buffer_size"), scrape.value("log_buffer_received_total")), (10, 15));
        assert_eq!(forebay.terminate().await.0, Some(1), "ten are lost with it");
    }
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
