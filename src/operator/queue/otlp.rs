//! Rows of `log_records` as OTLP/JSON. Times are as stored, bytes in attributes are text.

use std::io::Write;
use std::ops::Range;

use serde_json::{Map, Value as Json, json};

use super::rows::{self, Row};
use crate::operator::command_error::CommandError;
use crate::table::decode::{Record, Value, hex};
use crate::table::{Resource, RowFormat, Rows, Scope};
use crate::values::plain::plain_json;

/// The first keys of a record in OTLP, the columns that have them, and whether a number is written as text.
const FIELDS: [(&str, &str, bool); 9] = [
    ("timeUnixNano", "time_unix_nano", true),
    ("observedTimeUnixNano", "observed_time_unix_nano", true),
    ("severityNumber", "severity_number", false),
    ("severityText", "severity_text", false),
    ("droppedAttributesCount", "dropped_attributes_count", false),
    ("flags", "trace_flags", false),
    ("traceId", "trace_id", false),
    ("spanId", "span_id", false),
    ("eventName", "event_name", false),
];

/// Writes the rows `range` of `rows` as a request in one line.
pub(super) fn write_request(
    rows: &Rows,
    range: Range<usize>,
    format: &RowFormat,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    if let Some(table) = &format.destination {
        return Err(CommandError::NoOtlp(table.clone()));
    }
    let names = rows::names(format);
    let mut resources: Vec<Json> = Vec::new();
    let mut last: Option<(Option<&Resource>, Option<&Scope>)> = None;
    for Row { record, resource, scope } in rows::read(rows, range, format, &names) {
        let Some(record) = record else { continue };
        let is_same = last.is_some_and(|last| last == (resource, scope));
        if !is_same {
            resources.push(begin(resource, scope));
            last = Some((resource, scope));
        }
        let records = resources.last_mut().and_then(|last| last.pointer_mut("/scopeLogs/0/logRecords"));
        if let Some(Json::Array(records)) = records {
            records.push(log_record(&record));
        }
    }
    let request = json!({ "resourceLogs": resources }).to_string();
    Ok(writeln!(out, "{}", plain_json(&request))?)
}

fn begin(resource: Option<&Resource>, scope: Option<&Scope>) -> Json {
    let url = |url: Option<&String>| url.cloned().unwrap_or_default();
    json!({
        "resource": resource.map_or(json!({}), |resource| json!({
            "attributes": attributes(&resource.attributes),
            "droppedAttributesCount": resource.dropped_attributes_count,
        })),
        "schemaUrl": url(resource.and_then(|resource| resource.schema_url.as_ref())),
        "scopeLogs": [{
            "scope": scope.map_or(json!({}), |scope| json!({
                "name": scope.name,
                "version": scope.version,
                "attributes": attributes(&scope.attributes),
                "droppedAttributesCount": scope.dropped_attributes_count,
            })),
            "schemaUrl": url(scope.and_then(|scope| scope.schema_url.as_ref())),
            "logRecords": [],
        }],
    })
}

fn log_record(record: &Record<'_>) -> Json {
    let mut fields = Map::new();
    for (key, column, as_text) in FIELDS {
        let value = match record.get(column) {
            Value::Integer(number) if as_text => number.to_string().into(),
            // The flags are 32 bits without a sign.
            Value::Integer(number) if key == "flags" => (number as u32).into(),
            Value::Integer(number) => number.into(),
            Value::Text(text) => text.into(),
            Value::Bytes(bytes) => hex(bytes).into(),
            _ => continue,
        };
        fields.insert(key.to_owned(), value);
    }
    let body = match (record.get("body"), record.get("body_json")) {
        (Value::Text(text), _) => Some(json!({ "stringValue": text })),
        (_, Value::Json(body)) => serde_json::from_str(body.get()).ok().map(any_value),
        _ => None,
    };
    fields.extend(body.map(|body| ("body".to_owned(), body)));
    if let Value::Json(json) = record.get("attributes") {
        fields.insert("attributes".to_owned(), attributes(json.get()));
    }
    Json::Object(fields)
}

/// The attributes in a JSON object.
fn attributes(object: &str) -> Json {
    key_values(serde_json::from_str(object).unwrap_or_default())
}

fn key_values(object: Map<String, Json>) -> Json {
    object.into_iter().map(|(key, value)| json!({ "key": key, "value": any_value(value) })).collect()
}

fn any_value(value: Json) -> Json {
    match value {
        Json::Null => json!({}),
        Json::Bool(value) => json!({ "boolValue": value }),
        Json::Number(number) => match number.as_i64() {
            Some(number) => json!({ "intValue": number.to_string() }),
            None => json!({ "doubleValue": number }),
        },
        Json::String(text) => json!({ "stringValue": text }),
        Json::Array(values) => {
            let values: Vec<_> = values.into_iter().map(any_value).collect();
            json!({ "arrayValue": { "values": values } })
        }
        Json::Object(object) => json!({ "kvlistValue": { "values": key_values(object) } }),
    }
}
