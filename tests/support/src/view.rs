//! What a log record has to look like in the view `otel.logs`, and what it looks like there.
//!
//! The expectations are written from the documentation and share no code with the program: a field stands there as
//! it was sent, but for what PostgreSQL cannot hold. NUL becomes U+FFFD, a number or time beyond its column's type
//! the nearest that it has, a nesting beyond 64 levels a text, NaN and the infinities texts, -0.0 becomes 0.0.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord, ResourceLogs, ScopeLogs,
};
use tokio_postgres::Client;

/// One row: each column as text, times in microseconds since 1970.
pub type Row = BTreeMap<&'static str, Option<String>>;

/// A record, and what it was sent in.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The resource, with its other records.
    pub resource: &'a ResourceLogs,
    /// The scope, with its other records.
    pub scope: &'a ScopeLogs,
    /// The record itself.
    pub record: &'a LogRecord,
}

const TIMES: [&str; 2] = ["time", "observed_time"];
const JSON: [&str; 4] = ["body_json", "attributes", "resource", "scope_attributes"];
const OTHERS: [&str; 18] = [
    "time_unix_nano",
    "observed_time_unix_nano",
    "severity_number",
    "severity_text",
    "severity",
    "service_name",
    "body",
    "event_name",
    "trace_id",
    "span_id",
    "trace_flags",
    "scope_name",
    "scope_version",
    "resource_schema_url",
    "scope_schema_url",
    "dropped_attributes_count",
    "resource_dropped_attributes_count",
    "scope_dropped_attributes_count",
];

/// The records of `request`, in their order.
pub fn sent(request: &ExportLogsServiceRequest) -> impl Iterator<Item = Sent<'_>> {
    let scopes = request
        .resource_logs
        .iter()
        .flat_map(|resource| resource.scope_logs.iter().map(move |scope| (resource, scope)));
    scopes.flat_map(|(resource, scope)| {
        scope.log_records.iter().map(move |record| Sent { resource, scope, record })
    })
}

/// Rows of the view; `rest` is what follows `FROM otel.logs`.
pub async fn rows(client: &Client, rest: &str) -> Vec<Row> {
    let names: Vec<_> = TIMES.into_iter().chain(JSON).chain(OTHERS).collect();
    let expressions = names.iter().map(|name| match TIMES.contains(name) {
        // In two parts, because a double, which PostgreSQL 13 gives, has not all of the digits.
        true => format!(
            "(extract(epoch FROM date_trunc('second', {name}))::bigint * 1000000 \
             + extract(microseconds FROM {name})::bigint % 1000000)::text"
        ),
        false => format!("{name}::text"),
    });
    let expressions = expressions.collect::<Vec<_>>().join(", ");
    let found = client.query(&format!("SELECT {expressions} FROM otel.logs {rest}"), &[]).await.unwrap();
    let row = |row: tokio_postgres::Row| {
        names.iter().enumerate().map(|(index, name)| (*name, row.get(index))).collect()
    };
    found.into_iter().map(row).collect()
}

/// Compares each record with its row, column by column. A record without any time has the time of its arrival,
/// which is in `arrival` (nanoseconds since 1970).
pub async fn compare(
    client: &Client,
    sent: impl IntoIterator<Item = Sent<'_>>,
    found: &[Row],
    arrival: RangeInclusive<u64>,
) -> Result<(), String> {
    let sent: Vec<_> = sent.into_iter().collect();
    if sent.len() != found.len() {
        return Err(format!("{} records were sent and {} found", sent.len(), found.len()));
    }
    let arrived = |row: &Row| row["time_unix_nano"].as_ref().map_or(0, |nanos| nanos.parse().unwrap());
    let expected = sent.iter().zip(found).map(|(sent, row)| expected(*sent, arrived(row))).collect();
    for ((sent, expected), found) in sent.iter().zip(canonical(client, expected).await).zip(found) {
        if times(sent.record).all(|time| time == 0) && !arrival.contains(&arrived(found)) {
            return Err(format!("{} is not when it arrived, {arrival:?}: {sent:?}", arrived(found)));
        }
        for (column, value) in found {
            if *value != expected[column] {
                let expected = &expected[column];
                return Err(format!("{column} is {value:?}, expected {expected:?}, sent {sent:?}"));
            }
        }
    }
    Ok(())
}

fn times(record: &LogRecord) -> impl Iterator<Item = u64> {
    [record.time_unix_nano, record.observed_time_unix_nano].into_iter()
}

/// The row of a record; its JSON is not yet in PostgreSQL's form.
pub fn expected(sent: Sent<'_>, arrival: u64) -> Row {
    let Sent { resource: resource_logs, scope: scope_logs, record } = sent;
    let resource = resource_logs.resource.clone().unwrap_or_default();
    let scope = scope_logs.scope.clone().unwrap_or_default();
    let time = times(record).find(|&time| time != 0).unwrap_or(arrival);
    let observed = (record.observed_time_unix_nano != 0).then(|| nanoseconds(record.observed_time_unix_nano));
    let body = record.body.as_ref().map(|body| &body.value);
    let severity = match record.severity_number {
        1..=4 => Some("TRACE"),
        5..=8 => Some("DEBUG"),
        9..=12 => Some("INFO"),
        13..=16 => Some("WARN"),
        17..=20 => Some("ERROR"),
        21..=24 => Some("FATAL"),
        _ => None,
    };
    let number = record.severity_number.clamp(i16::MIN.into(), i16::MAX.into());
    Row::from([
        ("time", Some((time / 1000).to_string())),
        ("time_unix_nano", Some(nanoseconds(time).to_string())),
        ("observed_time", observed.map(|nanos| (nanos / 1000).to_string())),
        ("observed_time_unix_nano", observed.map(|nanos| nanos.to_string())),
        ("severity_number", (number != 0).then(|| number.to_string())),
        ("severity_text", text(&record.severity_text)),
        ("severity", severity.map(str::to_owned)),
        ("service_name", service_name(&resource.attributes)),
        (
            "body",
            match body {
                Some(Some(Value::StringValue(text))) => Some(repaired(text)),
                // Any other body is body_json as text.
                _ => None,
            },
        ),
        (
            "body_json",
            match body {
                None | Some(Some(Value::StringValue(_))) => None,
                Some(value) => Some(json(value.as_ref(), 0)),
            },
        ),
        ("event_name", text(&record.event_name)),
        ("trace_id", id(&record.trace_id, 16)),
        ("span_id", id(&record.span_id, 8)),
        ("trace_flags", Some((record.flags as i32).to_string())),
        ("attributes", Some(object(&record.attributes, 0))),
        ("resource", Some(unordered_object(&resource.attributes))),
        ("scope_attributes", Some(unordered_object(&scope.attributes))),
        ("scope_name", text(&scope.name)),
        ("scope_version", text(&scope.version)),
        ("resource_schema_url", text(&resource_logs.schema_url)),
        ("scope_schema_url", text(&scope_logs.schema_url)),
        ("dropped_attributes_count", Some(count(record.dropped_attributes_count))),
        ("resource_dropped_attributes_count", Some(count(resource.dropped_attributes_count))),
        ("scope_dropped_attributes_count", Some(count(scope.dropped_attributes_count))),
    ])
}

fn nanoseconds(time: u64) -> u64 {
    time.min(i64::MAX as u64)
}

fn count(count: u32) -> String {
    count.min(i32::MAX as u32).to_string()
}

fn id(id: &[u8], length: usize) -> Option<String> {
    let is_one = id.len() == length && id.iter().any(|byte| *byte != 0);
    is_one.then(|| id.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn repaired(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| repaired(text))
}

fn service_name(attributes: &[KeyValue]) -> Option<String> {
    let last = attributes.iter().rfind(|pair| pair.key == "service.name")?;
    match last.value.as_ref()?.value.as_ref()? {
        Value::StringValue(name) => Some(repaired(name)),
        other => Some(json(Some(other), 0)),
    }
}

/// Resources and scopes are the same whatever the order of their attributes, so that where two different keys become
/// one by a replacement, it is not the order which says whose value stays.
fn unordered_object(pairs: &[KeyValue]) -> String {
    let mut pairs = pairs.to_vec();
    pairs.sort_by(|one, other| one.key.cmp(&other.key));
    object(&pairs, 0)
}

/// Of equal keys, the last one's value stays.
fn object(pairs: &[KeyValue], depth: usize) -> String {
    let value = |pair: &KeyValue| json(pair.value.as_ref().and_then(|value| value.value.as_ref()), depth);
    let members: BTreeMap<_, _> = pairs.iter().map(|pair| (repaired(&pair.key), value(pair))).collect();
    let members = members.iter().map(|(key, value)| format!("{}:{value}", quoted(key)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// `depth` is the number of arrays and maps around the value.
fn json(value: Option<&Value>, depth: usize) -> String {
    match value {
        None => "null".to_owned(),
        Some(Value::StringValue(text)) => quoted(&repaired(text)),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => double(*number),
        Some(Value::BytesValue(bytes)) => quoted(&STANDARD.encode(bytes)),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) if depth == 64 => {
            quoted("[nested deeper than 64 levels]")
        }
        Some(Value::ArrayValue(array)) => {
            let items = array.values.iter().map(|AnyValue { value }| json(value.as_ref(), depth + 1));
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
        Some(Value::KvlistValue(map)) => object(&map.values, depth + 1),
    }
}

/// A double shows a point wherever an integer of 64 bits could have the same digits.
fn double(number: f64) -> String {
    let text = number.to_string();
    match text.as_str() {
        "NaN" => quoted("NaN"),
        "inf" => quoted("Infinity"),
        "-inf" => quoted("-Infinity"),
        "-0" => "0.0".to_owned(),
        // Of two shortest texts that are equally near, Rust's Display takes the other one than PostgreSQL does.
        digits if digits.contains('.') => ryu::Buffer::new().format_finite(number).to_owned(),
        _ if number.abs() >= 1e19 => text,
        _ => text + ".0",
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Brings the JSON of `rows` into the form in which PostgreSQL shows it.
pub async fn canonical(client: &Client, mut rows: Vec<Row>) -> Vec<Row> {
    let texts: Vec<_> =
        rows.iter().flat_map(|row| JSON.map(|column| row[column].clone())).collect::<Vec<Option<String>>>();
    let statement =
        "SELECT json::jsonb::text FROM unnest($1::text[]) WITH ORDINALITY AS t (json, n) ORDER BY n";
    let shown = client.query(statement, &[&texts]).await.unwrap();
    for (row, shown) in rows.iter_mut().zip(shown.chunks(JSON.len())) {
        for (column, shown) in JSON.into_iter().zip(shown) {
            row.insert(column, shown.get(0));
        }
        if row["body"].is_none() {
            row.insert("body", row["body_json"].clone());
        }
    }
    rows
}
