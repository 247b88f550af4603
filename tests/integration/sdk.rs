//! The official SDKs send, with their default batches, and every field is compared with what was sent.

use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::{SpanId, TraceFlags, TraceId};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use support::forebay::Forebay;
use support::postgres::database;
use tokio::process::Command;
use tokio_postgres::Client;

const RECORDS: usize = 1000;

/// A double as the contract has it: NaN and the infinities as text.
fn double(number: f64) -> Value {
    match number {
        n if n.is_nan() => json!("NaN"),
        n if n.is_infinite() => json!(if n > 0.0 { "Infinity" } else { "-Infinity" }),
        n => json!(n),
    }
}

fn base64(bytes: &[u8]) -> Value {
    json!(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// The value of record `index`: its kinds take turns.
fn value(index: usize) -> (AnyValue, Value) {
    let n = index as i64;
    match index % 8 {
        0 => (AnyValue::from(format!("text {n} ü 🦀")), json!(format!("text {n} ü 🦀"))),
        1 => (AnyValue::from(n % 3 == 0), json!(n % 3 == 0)),
        2 => (AnyValue::from(i64::MAX - n), json!(i64::MAX - n)),
        3 => (AnyValue::from(n as f64 + 0.5), double(n as f64 + 0.5)),
        4 => (AnyValue::Double(f64::NEG_INFINITY), double(f64::NEG_INFINITY)),
        5 => (AnyValue::Bytes(Box::new(vec![0, 255, n as u8])), base64(&[0, 255, n as u8])),
        6 => (AnyValue::ListAny(Box::new(vec![AnyValue::from(n), AnyValue::from("")])), json!([n, ""])),
        _ => {
            let inner =
                HashMap::from([("deep".into(), AnyValue::ListAny(Box::new(vec![AnyValue::from(n)])))]);
            (AnyValue::Map(Box::new(inner)), json!({"deep": [n]}))
        }
    }
}

/// Scenario: the official Rust SDK sends 1,000 records of all kinds of values. Guarantee: each field of each one is in
/// the view as it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let exporter = opentelemetry_otlp::LogExporter::builder()
        .with_tonic()
        .with_endpoint(forebay.endpoint())
        .build()
        .unwrap();
    let resource = Resource::builder_empty().with_service_name("rusty").build();
    let provider = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let logger = provider.logger("rust-scope");
    for index in 0..RECORDS {
        let mut record = logger.create_log_record();
        let (sent, _) = value(index);
        record.set_body(sent.clone());
        record.add_attribute("value", sent);
        record.add_attribute("index", index as i64);
        record.set_severity_number(Severity::Warn2);
        record.set_severity_text("careful");
        record.set_event_name("an.event");
        record.set_timestamp(
            std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, index as u32 * 1000 + 7),
        );
        let (trace, span) = (TraceId::from(index as u128 + 1), SpanId::from(index as u64 + 1));
        record.set_trace_context(trace, span, Some(TraceFlags::SAMPLED));
        logger.emit(record);
    }
    tokio::task::spawn_blocking(move || provider.shutdown()).await.unwrap().unwrap();
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), RECORDS as u64);
    let client = database.connect().await;
    let same = "SELECT count(*) FROM otel.logs WHERE attributes = $1::text::jsonb AND coalesce(body_json, to_jsonb(body)) \
                = $2::text::jsonb AND (body_json IS NULL) = (jsonb_typeof($2::text::jsonb) = 'string' AND $9) \
                AND time_unix_nano = $3 AND trace_id = $4 AND span_id = $5 AND trace_flags = 1 AND severity_number = 14 \
                AND severity = 'WARN' AND severity_text = 'careful' AND event_name = 'an.event' \
                AND service_name = $6 AND scope_name = $7 AND resource = $8::text::jsonb AND observed_time IS NOT NULL";
    let statement = client.prepare(same).await.unwrap();
    for index in 0..RECORDS {
        let (_, expected) = value(index);
        let attributes = json!({"value": expected, "index": index}).to_string();
        let time = 1_700_000_000_000_000_007 + index as i64 * 1000;
        let (trace, span) = (format!("{:032x}", index + 1), format!("{:016x}", index + 1));
        let resource = r#"{"service.name": "rusty"}"#;
        let is_text = index % 8 == 0;
        let body = expected.to_string();
        let row = client
            .query_one(
                &statement,
                &[&attributes, &body, &time, &trace, &span, &"rusty", &"rust-scope", &resource, &is_text],
            )
            .await
            .unwrap();
        assert_eq!(row.get::<_, i64>(0), 1, "record {index}: {attributes} {body}");
    }
}

/// Scenario: the official Python SDK sends 1,000 records of all kinds of values and says what it sent. Guarantee: each
/// field of each one is in the view as it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python");
    assert!(python.exists(), "{} is missing; ./dev test makes it", python.display());
    let output = Command::new(python)
        .arg(root.join("tests/sdk/python/send.py"))
        .args(["--count", &RECORDS.to_string(), &forebay.endpoint()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "the SDK was refused");
    let sent: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(sent.len(), RECORDS);
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), RECORDS as u64);
    let client = database.connect().await;
    for record in &sent {
        assert_stored(&client, record).await;
    }
}

/// Exactly one row has everything that `record` says.
async fn assert_stored(client: &Client, record: &Value) {
    let index = record["index"].to_string();
    let row = client
        .query_one(
            "SELECT time_unix_nano::text, coalesce(observed_time_unix_nano, 0)::text, coalesce(severity_number, 0)::text, \
             coalesce(severity_text, ''), coalesce(event_name, ''), coalesce(trace_id, ''), coalesce(span_id, ''), \
             trace_flags::text, coalesce(body, ''), coalesce(scope_name, ''), coalesce(scope_version, ''), \
             coalesce(scope_schema_url, ''), coalesce(resource_schema_url, ''), dropped_attributes_count::text, \
             body IS NULL, body_json IS NULL, attributes = $2::text::jsonb, resource = $3::text::jsonb, \
             scope_attributes = $4::text::jsonb, body_json IS NOT DISTINCT FROM $5::text::jsonb \
             FROM otel.logs WHERE attributes->>'test.index' = $1",
            &[
                &index,
                &object(&record["attributes"]).to_string(),
                &object(&record["resource"]["attributes"]).to_string(),
                &object(&record["scope"]["attributes"]).to_string(),
                &plain(&record["body"]).to_string(),
            ],
        )
        .await
        .unwrap_or_else(|error| panic!("record {index}: {error}"));
    let texts: Vec<String> = (0..14).map(|column| row.get(column)).collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('\0', "\u{fffd}");
    let time = [&record["time_unix_nano"], &record["observed_time_unix_nano"]];
    match time.into_iter().find(|time| **time != "0") {
        Some(time) => assert_eq!(texts[0], nanoseconds(time), "time of {record}"),
        None => assert!(
            texts[0].parse::<u64>().unwrap() > 1_700_000_000_000_000_000,
            "it has the time of its arrival"
        ),
    }
    assert_eq!(texts[1], nanoseconds(&record["observed_time_unix_nano"]), "observed time of {record}");
    assert_eq!(texts[2], record["severity_number"].to_string(), "{record}");
    for (column, key) in [(3, "severity_text"), (4, "event_name"), (5, "trace_id"), (6, "span_id")] {
        assert_eq!(texts[column], text(&record[key]), "{key} of {record}");
    }
    assert_eq!(texts[7], record["trace_flags"].to_string(), "{record}");
    for (column, key) in [(9, "name"), (10, "version"), (11, "schema_url")] {
        assert_eq!(texts[column], text(&record["scope"][key]), "scope {key} of {record}");
    }
    assert_eq!(texts[12], text(&record["resource"]["schema_url"]), "{record}");
    assert_eq!(texts[13], record["dropped_attributes_count"].to_string(), "{record}");
    let [no_body, no_json, attributes, resource, scope, json_body] =
        [14, 15, 16, 17, 18, 19].map(|c| row.get::<_, bool>(c));
    assert!(attributes, "attributes of {record}");
    assert!(resource && scope, "resource or scope of {record}");
    match record["body"]["type"].as_str() {
        None => assert!(no_body && no_json, "body of {record}"),
        Some("string") => assert_eq!((texts[8].clone(), no_json), (text(&record["body"]["value"]), true)),
        // The SDK leaves a body of None out, or sends it as an empty value.
        Some("empty") => assert!(no_json || json_body, "body of {record}"),
        Some(_) => assert!(json_body, "body of {record}"),
    }
}

/// Nanoseconds as a bigint holds them: it ends in 2262.
fn nanoseconds(time: &Value) -> String {
    time.as_str().unwrap().parse::<u64>().unwrap().min(i64::MAX as u64).to_string()
}

/// Pairs as the object that jsonb keeps: of equal keys the last wins.
fn object(pairs: &Value) -> Value {
    let pairs = pairs.as_array().map(Vec::as_slice).unwrap_or_default();
    Value::Object(pairs.iter().map(|pair| (clean(&pair[0]), plain(&pair[1]))).collect::<Map<_, _>>())
}

/// A value of the sender's notation as the contract stores it.
fn plain(value: &Value) -> Value {
    let inner = &value["value"];
    match value["type"].as_str() {
        Some("string") => json!(clean(inner)),
        Some("int") => json!(inner.as_str().unwrap().parse::<i64>().unwrap()),
        Some("double") => {
            let bits = u64::from_str_radix(value["bits"].as_str().unwrap(), 16).unwrap();
            double(f64::from_bits(bits))
        }
        Some("bytes") => {
            let hex = inner.as_str().unwrap();
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
            base64(&bytes.collect::<Vec<_>>())
        }
        Some("array") => inner.as_array().unwrap().iter().map(plain).collect(),
        Some("map") => object(inner),
        Some("bool") => inner.clone(),
        _ => Value::Null,
    }
}

fn clean(text: &Value) -> String {
    text.as_str().unwrap_or_default().replace('\0', "\u{fffd}")
}
