//! OTLP/JSON against the equivalent protobuf, and errors.

mod memory;
mod scalars;

use prost::Message;
use serde::de::IgnoredAny;

use self::memory::granting;
use super::*;
use crate::otlp::logs::{LogRecord as Read, resource_logs};
use crate::otlp::messages::any_value::Value;
use crate::otlp::messages::{
    AnyValue, ArrayValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, KeyValueList, LogRecord,
    Resource, ResourceLogs, ScopeLogs,
};
use crate::otlp::{Limits, count_records};

fn written(json: &str) -> Result<Vec<u8>, Unwritten> {
    to_wire(json.as_bytes(), &mut granting(usize::MAX)).map(|(wire, _)| wire)
}

fn message(json: &str) -> ExportLogsServiceRequest {
    let wire = written(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    ExportLogsServiceRequest::decode(&wire[..]).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn in_request(records: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#)
}

fn record(json: &str) -> LogRecord {
    let mut request = message(&in_request(json));
    request.resource_logs.remove(0).scope_logs.remove(0).log_records.remove(0)
}

/// The value of an `AnyValue` in JSON.
fn value(json: &str) -> Option<Value> {
    record(&format!(r#"{{"body":{json}}}"#)).body.expect("a body").value
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(value)) }
}

/// Whether each record of a request can be read.
fn readable(json: &str) -> Vec<bool> {
    let wire = written(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let mut readable = Vec::new();
    for resource in resource_logs(&wire) {
        for scope in resource.unwrap().scope_logs() {
            for record in scope.unwrap().log_records() {
                readable.push(Read::default().read(record.unwrap()).is_ok());
            }
        }
    }
    assert_eq!(count_records(&wire, &Limits::default()), Ok(readable.len()));
    readable
}

#[test]
fn every_field_says_what_it_says_in_protobuf() {
    let json = r#" {"resourceLogs": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}],
                     "droppedAttributesCount": 1},
        "scopeLogs": [{
            "scope": {"name": "n", "version": "v", "attributes": [{"value": {"boolValue": true}, "key": "k"}],
                      "droppedAttributesCount": "2"},
            "logRecords": [{
                "timeUnixNano": "1763900000123456789", "observedTimeUnixNano": 1763900000123456790,
                "severityNumber": 9, "severityText": "info", "eventName": "an.event",
                "body": {"stringValue": "a body"},
                "attributes": [{"key": "a", "value": {"intValue": "-5"}}, {"key": "b", "value": {"doubleValue": 0.1}}],
                "droppedAttributesCount": 3, "flags": 257,
                "traceId": "5B8EFFF798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"
            }, {}],
            "schemaUrl": "https://scope"
        }, {"logRecords": []}],
        "schemaUrl": "https://resource"
    }]}
    "#;
    let record = LogRecord {
        time_unix_nano: 1_763_900_000_123_456_789,
        observed_time_unix_nano: 1_763_900_000_123_456_790,
        severity_number: 9,
        severity_text: "info".into(),
        event_name: "an.event".into(),
        body: Some(any(Value::StringValue("a body".into()))),
        attributes: vec![pair("a", Value::IntValue(-5)), pair("b", Value::DoubleValue(0.1))],
        dropped_attributes_count: 3,
        flags: 257,
        trace_id: 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes().to_vec().into(),
        span_id: 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes().to_vec().into(),
    };
    let scope = InstrumentationScope {
        name: "n".into(),
        version: "v".into(),
        attributes: vec![pair("k", Value::BoolValue(true))],
        dropped_attributes_count: 2,
    };
    let scope_logs = vec![
        ScopeLogs {
            scope: Some(scope),
            log_records: vec![record, LogRecord::default()],
            schema_url: "https://scope".into(),
        },
        ScopeLogs::default(),
    ];
    let resource = Resource {
        attributes: vec![pair("service.name", Value::StringValue("shop".into()))],
        dropped_attributes_count: 1,
    };
    let resource_logs =
        vec![ResourceLogs { resource: Some(resource), scope_logs, schema_url: "https://resource".into() }];
    let expected = ExportLogsServiceRequest { resource_logs };
    assert_eq!(message(json), expected);
    // The original names of the fields mean the same, as in the Collector.
    let mut original = String::new();
    for character in json.replace("5B8EFFF", "5b8efff").chars() {
        if character.is_ascii_uppercase() {
            original.push('_');
        }
        original.push(character.to_ascii_lowercase());
    }
    assert_eq!(message(&original), expected, "{original}");
}

#[test]
fn values_of_every_kind() {
    let text = |text: &str| Some(Value::StringValue(text.to_owned()));
    let bytes = |bytes: &'static [u8]| Some(Value::BytesValue(bytes.into()));
    for (json, expected) in [
        ("{}", None),
        (r#"{"stringValue":null}"#, None),
        (r#"{"unheardOf":[{"a":[1,"}"]}],"boolValue":false}"#, Some(Value::BoolValue(false))),
        (r#"{"stringValue":""}"#, text("")),
        (r#"{"stringValue":"é \"\\\/\b\f\n\r\t\u00e9\ud83e\udd80"}"#, text("é \"\\/\u{8}\u{c}\n\r\té🦀")),
        (r#"{"\u0073tringValue":"an escaped key"}"#, text("an escaped key")),
        (r#"{"intValue":"9223372036854775807"}"#, Some(Value::IntValue(i64::MAX))),
        (r#"{"intValue":-9223372036854775808}"#, Some(Value::IntValue(i64::MIN))),
        (r#"{"intValue":1.5e1}"#, Some(Value::IntValue(15))),
        (r#"{"doubleValue":1}"#, Some(Value::DoubleValue(1.0))),
        (r#"{"doubleValue":"-Infinity"}"#, Some(Value::DoubleValue(f64::NEG_INFINITY))),
        (r#"{"doubleValue":"1e-3"}"#, Some(Value::DoubleValue(0.001))),
        (r#"{"doubleValue":2.2250738585072011e-308}"#, Some(Value::DoubleValue(2.225_073_858_507_201e-308))),
        (r#"{"bytesValue":"+/8="}"#, bytes(&[0xfb, 0xff])),
        (r#"{"bytesValue":"-_8"}"#, bytes(&[0xfb, 0xff])),
        (r#"{"bytesValue":"+\/+\/"}"#, bytes(&[0xfb, 0xff, 0xbf])),
        (r#"{"bytesValue":""}"#, bytes(&[])),
        (
            r#"{"arrayValue":{"values":[{"intValue":1},null,{"arrayValue":{}}]}}"#,
            Some(Value::ArrayValue(ArrayValue {
                values: vec![
                    any(Value::IntValue(1)),
                    AnyValue::default(),
                    any(Value::ArrayValue(ArrayValue::default())),
                ],
            })),
        ),
        (
            r#"{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}"#,
            Some(Value::KvlistValue(KeyValueList {
                values: vec![pair("k", Value::StringValue("v".into()))],
            })),
        ),
    ] {
        assert_eq!(value(json), expected, "{json}");
    }
    let Some(Value::DoubleValue(number)) = value(r#"{"doubleValue":"NaN"}"#) else { panic!() };
    assert!(number.is_nan());
}

#[test]
fn severities_have_numbers_and_names() {
    for (json, expected) in [
        ("17", 17),
        ("\"17\"", 17),
        ("-1", -1),
        ("null", 0),
        ("\"SEVERITY_NUMBER_UNSPECIFIED\"", 0),
        ("\"SEVERITY_NUMBER_TRACE\"", 1),
        ("\"SEVERITY_NUMBER_INFO\"", 9),
        ("\"SEVERITY_NUMBER_FATAL4\"", 24),
    ] {
        assert_eq!(record(&format!(r#"{{"severityNumber":{json}}}"#)).severity_number, expected, "{json}");
    }
}

/// JavaScript cuts strings between surrogates, and writes the half. Its byte is replaced when the text is stored.
#[test]
fn half_a_surrogate_pair_is_no_error() {
    for (json, expected) in [
        (r"cut \ud83d", &b"cut \xff"[..]),
        (r"\udd80!", b"\xff!"),
        (r"\ud83d\u0041", b"\xffA"),
        (r"\ud83d\ud83e\udd80", b"\xff\xf0\x9f\xa6\x80"),
    ] {
        let wire = written(&in_request(&format!(r#"{{"severityText":"{json}"}}"#))).unwrap();
        assert!(wire.ends_with(expected), "{json}: {wire:?}");
    }
}

#[test]
fn a_list_or_an_object_in_another_place_costs_its_record_only() {
    for bad in [
        r#"{"timeUnixNano":{"seconds":1}}"#,
        r#"{"traceId":[1,2]}"#,
        r#"{"severityText":{}}"#,
        r#"{"flags":[]}"#,
        r#"{"body":[1]}"#,
        r#"{"body":{"intValue":{"low":1,"high":0}}}"#,
        r#"{"body":{"boolValue":[]}}"#,
        r#"{"body":{"bytesValue":{"0":1}}}"#,
        r#"{"body":{"arrayValue":[1,2]}}"#,
        r#"{"attributes":{"a":1}}"#,
        r#"{"attributes":[["a",1]]}"#,
        "17",
    ] {
        let records = format!(r#"{{"severityNumber":1}},{bad},{{"severityText":"x"}}"#);
        assert_eq!(readable(&in_request(&records)), [true, false, true], "{bad}");
    }
}

#[test]
fn errors_outside_the_records_are_reported() {
    for (json, what) in [
        ("[]", "byte 0: expected an object"),
        ("{", "byte 1: expected a string"),
        (r#"{"resourceLogs":{}}"#, "byte 16: expected a list"),
        (r#"{"resourceLogs":[{"scopeLogs":"x"}]}"#, "expected a list"),
        (r#"{"resourceLogs":[{"schemaUrl":{}}]}"#, "expected a string"),
        (r#"{"resourceLogs":[]} x"#, "byte 20: unexpected bytes after the value"),
        (r#"{"resourceLogs":[{]}"#, "expected a string"),
        (&in_request(r#"{"body":{"stringValue":"a"}"#), "expected a comma or the end"),
        (&in_request(&format!(r#"{{"other":{}}}"#, "[".repeat(2000))), "nested too deeply"),
    ] {
        let Err(Unwritten::Malformed(error)) = written(json) else { panic!("{json}") };
        assert!(error.to_string().contains(what), "{json}: {error}");
    }
}

/// A resource that cannot be read is one whose records are malformed.
#[test]
fn a_fault_in_a_resource_is_its_own() {
    let json = r#"{"resourceLogs":[{"resource":{"attributes":{}},"scopeLogs":[{"logRecords":[{}]}]},
        {"resource":null,"scopeLogs":[{"scope":null,"logRecords":[{"flags":1},null]}]}]}"#;
    assert_eq!(readable(json), [true, true]);
    let wire = written(json).unwrap();
    assert!(resource_logs(&wire).next().unwrap().unwrap().resource == [7], "nobody can read that");
    assert!(resource_logs(&wire).nth(1).unwrap().unwrap().resource.is_empty());
}

#[test]
fn nothing_is_an_empty_request() {
    for json in ["", "{}", " {\n} ", r#"{"resourceLogs":null}"#, r#"{"unheardOf":{"a":[]}}"#] {
        assert_eq!(written(json), Ok(Vec::new()), "{json}");
    }
    assert_eq!(count_records(&written(r#"{"resourceLogs":[]}"#).unwrap(), &Limits::default()), Ok(0));
}

#[test]
fn lengths_of_every_width_are_right() {
    for length in
        [0, 1, 100, 117, 118, 119, 120, 126, 127, 128, 129, 16_370, 16_383, 16_384, 2_097_151, 2_097_152]
    {
        let text = "x".repeat(length);
        let Some(Value::StringValue(plain)) = value(&format!(r#"{{"stringValue":"{text}"}}"#)) else {
            panic!()
        };
        let Some(Value::StringValue(escaped)) = value(&format!(r#"{{"stringValue":"{text}\n"}}"#)) else {
            panic!()
        };
        assert_eq!((plain.len(), escaped.len()), (length, length + 1));
        let inner =
            format!(r#"{{"kvlistValue":{{"values":[{{"key":"k","value":{{"stringValue":"{text}"}}}}]}}}}"#);
        let nested = format!(r#"{{"arrayValue":{{"values":[{inner},{inner}]}}}}"#);
        let entry = || {
            any(Value::KvlistValue(KeyValueList {
                values: vec![pair("k", Value::StringValue(text.clone()))],
            }))
        };
        assert_eq!(value(&nested), Some(Value::ArrayValue(ArrayValue { values: vec![entry(), entry()] })));
    }
}

#[test]
fn what_is_too_deep_to_be_stored_is_left_out() {
    const { assert!(value::DEEPEST > crate::table::MAX_DEPTH) };
    let open = r#"{"arrayValue":{"values":["#;
    for depth in [value::DEEPEST, value::DEEPEST + 1, 250] {
        let json = format!("{}{}{}", open.repeat(depth), r#"{"intValue":1}"#, "]}}".repeat(depth));
        let wire = written(&in_request(&format!(r#"{{"body":{json}}}"#))).unwrap();
        let has_the_bottom = wire.windows(2).any(|window| window == [3 << 3, 1]);
        assert_eq!(has_the_bottom, depth == value::DEEPEST, "{depth}");
        assert_eq!(count_records(&wire, &Limits::default()), Ok(1));
    }
}

#[test]
fn the_reader_and_serde_agree_on_what_is_json() {
    let words = [
        r#"0 -0 01 - 1. .5 1.5e 1e+5 -1.25E-3 +1 0x1 1_0 true tru false nul null "" "a [] [,] [1,]"#,
        r#"[1 [[[]]] [{]} {} {,} {"a"} {"a":} {"a":1,} {a:1} {"a":{"b":[1,{}]},"c":"d"} [1]] NaN"#,
        r#"/**/1 'a'"#,
    ];
    let others = [
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u1234\"",
        "\"\t\"",
        "\"\\",
        "\"long enough for a word \\\" \"",
        "\"long enough for a word \u{1}\"",
        "[1 2]",
        " [ 1 , { } ] ",
        "",
        " ",
        "[\"\u{fe}\u{7f}\"]",
        "\u{feff}1",
        "1 1",
    ];
    for json in words.iter().flat_map(|line| line.split(' ')).chain(others) {
        let mut reader = JsonReader::new(json.as_bytes());
        let ours = reader.skip().and_then(|()| reader.end());
        let theirs = serde_json::from_str::<IgnoredAny>(json);
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{json}: {ours:?}, {theirs:?}");
    }
}
