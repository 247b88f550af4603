//! How requests travel: the encoding of OTLP, the path, and how an answer says OK. All of them go over HTTP/2, so that
//! what differs is OTLP's.

use base64::Engine as _;
use bytes::{BufMut, Bytes, BytesMut};
use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord};
use prost::Message;
use serde_json::json;

/// What carries the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    Grpc,
    Http,
    Json,
}

impl Transport {
    pub fn of_name(name: &str) -> Self {
        match name {
            "grpc" => Self::Grpc,
            "http" => Self::Http,
            "json" => Self::Json,
            other => panic!("there is no transport {other}; there are grpc, http, json"),
        }
    }

    /// The head of each request.
    pub fn head(self) -> http::Request<()> {
        let (path, content_type) = match self {
            Self::Grpc => ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", "application/grpc"),
            Self::Http => ("/v1/logs", "application/x-protobuf"),
            Self::Json => ("/v1/logs", "application/json"),
        };
        let head = http::Request::post(format!("http://forebay{path}")).header("content-type", content_type);
        head.header("te", "trailers").body(()).expect("a request")
    }

    /// An encoded request as it travels.
    pub fn body(self, request: &Bytes) -> Bytes {
        match self {
            Self::Grpc => {
                let mut framed = BytesMut::with_capacity(5 + request.len());
                framed.put_u8(0);
                framed.put_u32(request.len() as u32);
                framed.put_slice(request);
                framed.freeze()
            }
            Self::Http => request.clone(),
            Self::Json => in_json(&ExportLogsServiceRequest::decode(&request[..]).expect("a request")).into(),
        }
    }
}

/// OTLP/JSON as the SDK for JavaScript writes it.
fn in_json(request: &ExportLogsServiceRequest) -> String {
    let resource_logs = request.resource_logs.iter().map(|resource_logs| {
        let scope_logs = resource_logs.scope_logs.iter().map(|scope_logs| {
            let scope = scope_logs.scope.clone().unwrap_or_default();
            let records: Vec<_> = scope_logs.log_records.iter().map(record).collect();
            json!({"scope": {"name": scope.name, "version": scope.version}, "logRecords": records})
        });
        let resource = resource_logs.resource.clone().unwrap_or_default();
        json!({
            "resource": {"attributes": pairs(&resource.attributes), "droppedAttributesCount": 0},
            "scopeLogs": scope_logs.collect::<Vec<_>>(),
        })
    });
    json!({"resourceLogs": resource_logs.collect::<Vec<_>>()}).to_string()
}

fn record(record: &LogRecord) -> serde_json::Value {
    json!({
        "timeUnixNano": record.time_unix_nano.to_string(),
        "observedTimeUnixNano": record.observed_time_unix_nano.to_string(),
        "severityNumber": record.severity_number,
        "severityText": record.severity_text,
        "body": record.body.as_ref().map(value),
        "attributes": pairs(&record.attributes),
        "droppedAttributesCount": record.dropped_attributes_count,
        "flags": record.flags,
        "traceId": hex(&record.trace_id),
        "spanId": hex(&record.span_id),
    })
}

fn pairs(pairs: &[KeyValue]) -> Vec<serde_json::Value> {
    let pair = |pair: &KeyValue| json!({"key": pair.key, "value": pair.value.as_ref().map(value)});
    pairs.iter().map(pair).collect()
}

fn value(any: &AnyValue) -> serde_json::Value {
    match &any.value {
        None => json!({}),
        Some(Value::StringValue(text)) => json!({"stringValue": text}),
        Some(Value::BoolValue(value)) => json!({"boolValue": value}),
        Some(Value::IntValue(number)) => json!({"intValue": number.to_string()}),
        Some(Value::DoubleValue(number)) => json!({"doubleValue": number}),
        Some(Value::BytesValue(bytes)) => {
            json!({"bytesValue": base64::engine::general_purpose::STANDARD.encode(bytes)})
        }
        Some(Value::ArrayValue(array)) => {
            json!({"arrayValue": {"values": array.values.iter().map(value).collect::<Vec<_>>()}})
        }
        Some(Value::KvlistValue(list)) => json!({"kvlistValue": {"values": pairs(&list.values)}}),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
