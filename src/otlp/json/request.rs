//! The messages of a request, from its top down to its records and their attributes.

use super::reader::JsonReader;
use super::scalar::{integer, unless_scalar};
use super::value::{FLAGS, TIME, dropped, id, key_value, severity, text, value};
use super::writer::Writer;
use super::written::{Done, by_itself, each, message, skip};

/// Writes an `ExportLogsServiceRequest`.
pub(super) fn request(json: &mut JsonReader<'_>, wire: &mut Writer<'_>) -> Done {
    json.object(|json, key| match &*key.name() {
        b"resourceLogs" | b"resource_logs" => {
            each(json, wire, |json, wire| message(json, wire, 1, resource_logs))
        }
        _ => skip(json),
    })
}

fn resource_logs(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, name: &[u8]) -> Done {
    match name {
        b"resource" => unless_scalar(json, wire, |json, wire| by_itself(json, wire, 1, resource)),
        b"scopeLogs" | b"scope_logs" => each(json, wire, |json, wire| message(json, wire, 2, scope_logs)),
        b"schemaUrl" | b"schema_url" => text(json, wire, 3),
        _ => skip(json),
    }
}

fn scope_logs(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, name: &[u8]) -> Done {
    match name {
        b"scope" => unless_scalar(json, wire, |json, wire| by_itself(json, wire, 1, scope)),
        b"logRecords" | b"log_records" => each(json, wire, |json, wire| by_itself(json, wire, 2, record)),
        b"schemaUrl" | b"schema_url" => text(json, wire, 3),
        _ => skip(json),
    }
}

fn resource(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, name: &[u8]) -> Done {
    match name {
        b"attributes" => attributes(json, wire, 1),
        b"droppedAttributesCount" | b"dropped_attributes_count" => dropped(json, wire, 2),
        _ => skip(json),
    }
}

fn scope(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, name: &[u8]) -> Done {
    match name {
        b"name" => text(json, wire, 1),
        b"version" => text(json, wire, 2),
        b"attributes" => attributes(json, wire, 3),
        b"droppedAttributesCount" | b"dropped_attributes_count" => dropped(json, wire, 4),
        _ => skip(json),
    }
}

fn record(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, name: &[u8]) -> Done {
    match name {
        b"timeUnixNano" | b"time_unix_nano" => time(json, wire, 1),
        b"severityNumber" | b"severity_number" => severity(json, wire, 2),
        b"severityText" | b"severity_text" => text(json, wire, 3),
        b"body" => value(json, wire, 5, 0),
        b"attributes" => attributes(json, wire, 6),
        b"droppedAttributesCount" | b"dropped_attributes_count" => dropped(json, wire, 7),
        b"flags" => match integer(json, wire, &FLAGS)? {
            Some(flags) => wire.fixed32(8, flags as u32),
            None => Ok(()),
        },
        b"traceId" | b"trace_id" => id(json, wire, 9),
        b"spanId" | b"span_id" => id(json, wire, 10),
        b"observedTimeUnixNano" | b"observed_time_unix_nano" => time(json, wire, 11),
        b"eventName" | b"event_name" => text(json, wire, 12),
        _ => skip(json),
    }
}

fn attributes(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    let attribute = |json: &mut JsonReader<'_>, wire: &mut Writer<'_>| {
        message(json, wire, number, |json, wire, name| key_value(json, wire, name, 0))
    };
    unless_scalar(json, wire, |json, wire| {
        each(json, wire, |json, wire| unless_scalar(json, wire, attribute))
    })
}

fn time(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    match integer(json, wire, &TIME)? {
        Some(time) => wire.fixed64(number, time as u64),
        None => Ok(()),
    }
}
