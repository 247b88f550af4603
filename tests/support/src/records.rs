//! Requests made of OTLP's messages.

use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord, Resource, ResourceLogs,
    ScopeLogs,
};

/// A string value.
pub fn text(text: impl Into<String>) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.into())) }
}

/// A whole number as a value.
pub fn int(number: i64) -> AnyValue {
    AnyValue { value: Some(Value::IntValue(number)) }
}

/// A pair of a key and a value.
pub fn pair(key: impl Into<String>, value: AnyValue) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value) }
}

/// A request of these records, from one service and scope.
pub fn request(records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    request_of("shop", records)
}

/// The same, from the service of this name.
pub fn request_of(service: &str, records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let resource = Resource {
        attributes: vec![pair("service.name", text(service)), pair("host.name", text("h1"))],
        dropped_attributes_count: 0,
    };
    let scope = InstrumentationScope { name: "tests".into(), version: "1".into(), ..Default::default() };
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records: records, schema_url: String::new() }];
    let resource_logs =
        vec![ResourceLogs { resource: Some(resource), scope_logs, schema_url: String::new() }];
    ExportLogsServiceRequest { resource_logs }
}

/// A record whose body is a function of its number, so that a database can be asked which numbers it has.
pub fn numbered(number: u64) -> LogRecord {
    LogRecord {
        time_unix_nano: now(),
        severity_number: 1 + (number % 24) as i32,
        severity_text: "any".into(),
        body: Some(text(body_of(number))),
        attributes: vec![
            pair("number", int(number as i64)),
            pair("http.request.method", text("GET")),
            pair("url.path", text(format!("/orders/{number}"))),
        ],
        trace_id: number.to_be_bytes().repeat(2).into(),
        span_id: number.to_be_bytes().to_vec().into(),
        ..Default::default()
    }
}

/// The body of record `number`.
pub fn body_of(number: u64) -> String {
    format!("record {number} of a run, and some more words about what it was doing at the time")
}

/// A request of the records `numbers`.
pub fn numbered_request(numbers: std::ops::Range<u64>) -> ExportLogsServiceRequest {
    request(numbers.map(numbered).collect())
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}
