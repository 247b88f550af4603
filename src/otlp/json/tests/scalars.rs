//! Scalars of other types than their fields.

use super::*;
use crate::otlp::replaced::ReplacedKind::{self, Number, Time, Type};

/// The record, and the values replaced in it.
fn replaced(json: &str) -> (LogRecord, Vec<(ReplacedKind, u64)>) {
    assert_eq!(readable(&in_request(json)), [true], "{json}");
    let (_, replaced) = to_wire(in_request(json).as_bytes(), &mut granting(usize::MAX)).unwrap();
    (record(json), replaced.iter().filter(|(_, count)| *count > 0).collect())
}

#[test]
fn a_value_is_stored_as_the_nearest_one_or_as_its_text() {
    let text = |text: &str| Value::StringValue(text.to_owned());
    for (json, expected, kind) in [
        // As JavaScript writes it.
        (r#"{"intValue":18446744073709552000}"#, Value::DoubleValue(2_f64.powi(64)), Number),
        (r#"{"intValue":18446744073709551616}"#, text("18446744073709551616"), Number),
        (r#"{"intValue":"9223372036854775808"}"#, text("9223372036854775808"), Number),
        (r#"{"intValue":1e21}"#, Value::DoubleValue(1e21), Number),
        (r#"{"intValue":1e+21}"#, Value::DoubleValue(1e21), Number),
        (r#"{"intValue":-9223372036854775809}"#, text("-9223372036854775809"), Number),
        (r#"{"intValue":"18446744073709551617"}"#, text("18446744073709551617"), Number),
        (r#"{"intValue":1.5}"#, Value::DoubleValue(1.5), Number),
        (r#"{"intValue":"1.5"}"#, Value::DoubleValue(1.5), Number),
        (r#"{"intValue":1e309}"#, text("1e309"), Number),
        (r#"{"intValue":"five"}"#, text("five"), Type),
        (r#"{"intValue":""}"#, text(""), Type),
        (r#"{"intValue":"\u0035"}"#, text("5"), Type),
        (r#"{"intValue":"Infinity"}"#, text("Infinity"), Type),
        (r#"{"intValue":true}"#, Value::BoolValue(true), Type),
        (r#"{"doubleValue":1e309}"#, text("1e309"), Number),
        (r#"{"doubleValue":"-1e999"}"#, text("-1e999"), Number),
        (r#"{"doubleValue":"nan"}"#, text("nan"), Type),
        (r#"{"doubleValue":"1,5"}"#, text("1,5"), Type),
        (r#"{"doubleValue":false}"#, Value::BoolValue(false), Type),
        (r#"{"boolValue":"true"}"#, Value::BoolValue(true), Type),
        (r#"{"boolValue":"False"}"#, Value::BoolValue(false), Type),
        (r#"{"boolValue":"yes"}"#, text("yes"), Type),
        (r#"{"boolValue":1}"#, Value::IntValue(1), Type),
        (r#"{"stringValue":5}"#, text("5"), Type),
        (r#"{"stringValue":-1.50e3}"#, text("-1.50e3"), Type),
        (r#"{"stringValue":true}"#, text("true"), Type),
        (r#"{"bytesValue":"a"}"#, text("a"), Type),
        (r#"{"bytesValue":"????"}"#, text("????"), Type),
        (r#"{"bytesValue":"\/\u00e9"}"#, text("/é"), Type),
        (r#"{"bytesValue":17}"#, Value::IntValue(17), Type),
        (r#"{"arrayValue":"x"}"#, text("x"), Type),
        (r#"{"kvlistValue":false}"#, Value::BoolValue(false), Type),
        (r#""a text""#, text("a text"), Type),
        ("5", Value::IntValue(5), Type),
        ("0.5", Value::DoubleValue(0.5), Type),
        ("false", Value::BoolValue(false), Type),
    ] {
        let (record, replaced) = replaced(&format!(r#"{{"body":{json}}}"#));
        assert_eq!(
            (record.body.unwrap().value, replaced),
            (Some(expected.clone()), vec![(kind, 1)]),
            "{json}"
        );
        let (record, _) = self::replaced(&format!(r#"{{"attributes":[{{"key":"k","value":{json}}}]}}"#));
        assert_eq!(record.attributes[0].value, Some(any(expected)), "{json}");
    }
}

#[test]
fn null_and_the_forms_that_proto3_allows_are_not_counted() {
    for json in [
        r#"{"body":{"intValue":"1.0"}}"#,
        r#"{"body":{"intValue":1e3}}"#,
        r#"{"body":{"doubleValue":"5"}}"#,
        r#"{"body":{"intValue":null,"boolValue":null,"doubleValue":null,"bytesValue":null}}"#,
        r#"{"body":null,"attributes":null,"traceId":null,"spanId":null,"severityText":null,"eventName":null}"#,
        r#"{"timeUnixNano":null,"observedTimeUnixNano":null,"flags":null,"severityNumber":null}"#,
        r#"{"droppedAttributesCount":null,"attributes":[null,{"key":null,"value":null}]}"#,
        r#"{"timeUnixNano":1.7e18,"flags":"1","severityNumber":"SEVERITY_NUMBER_WARN2","traceId":"","spanId":""}"#,
    ] {
        assert_eq!(replaced(json).1, [], "{json}");
    }
}

#[test]
fn a_time_is_the_nearest_one_or_none() {
    for (json, expected, counted) in [
        ("-1", 0, true),
        (r#""2026-11-27T17:05:00Z""#, 0, true),
        (r#""""#, 0, true),
        ("true", 0, true),
        (r#""soon""#, 0, true),
        ("1763900000.5", 1_763_900_001, true),
        // These are counted when they are stored.
        (r#""18446744073709551616""#, u64::MAX, false),
        ("1e300", u64::MAX, false),
    ] {
        let (record, replaced) = replaced(&format!(r#"{{"timeUnixNano":{json}}}"#));
        let counts = if counted { vec![(Time, 1)] } else { Vec::new() };
        assert_eq!((record.time_unix_nano, replaced), (expected, counts), "{json}");
    }
}

#[test]
fn other_numbers_are_the_nearest_ones_or_none() {
    for (json, expected, counts) in [
        (r#""severityNumber":2147483648"#, [i32::MAX as u32, 0, 0], vec![]),
        (r#""severityNumber":"INFO""#, [9, 0, 0], vec![(Type, 1)]),
        (r#""severityNumber":"error2""#, [18, 0, 0], vec![(Type, 1)]),
        (r#""severityNumber":"SEVERITY_NUMBER_INFO5""#, [0, 0, 0], vec![(Number, 1)]),
        (r#""severityNumber":9.5"#, [10, 0, 0], vec![(Number, 1)]),
        (r#""severityNumber":true"#, [0, 0, 0], vec![(Number, 1)]),
        (r#""flags":4294967296"#, [0, u32::MAX, 0], vec![(Number, 1)]),
        (r#""flags":"01""#, [0, 1, 0], vec![]),
        (r#""flags":-1"#, [0, 0, 0], vec![(Number, 1)]),
        (r#""flags":"sampled""#, [0, 0, 0], vec![(Number, 1)]),
        (r#""droppedAttributesCount":1e10"#, [0, 0, u32::MAX], vec![]),
        (r#""droppedAttributesCount":-7"#, [0, 0, 0], vec![(Number, 1)]),
    ] {
        let (record, replaced) = replaced(&format!("{{{json}}}"));
        let numbers = [record.severity_number as u32, record.flags, record.dropped_attributes_count];
        assert_eq!((numbers, replaced), (expected, counts), "{json}");
    }
}

/// Its replacement has an invalid length, so NULL is stored and counted.
#[test]
fn an_id_that_is_not_hex_is_none() {
    for json in [
        r#""xyz""#,
        r#""abc""#,
        "5",
        "true",
        r#""zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz""#,
        r#""zzzzzzzzzzzzzzzz""#,
        r#""0x""#,
        r#""0x5b8efff798038103d269b633813fc60c""#,
    ] {
        let (record, replaced) = replaced(&format!(r#"{{"traceId":{json},"spanId":{json}}}"#));
        assert_eq!(
            (&record.trace_id[..], &record.span_id[..], replaced),
            (&b"?"[..], &b"?"[..], vec![]),
            "{json}"
        );
    }
}

#[test]
fn texts_keys_and_lists_have_scalars_too() {
    let (record, counts) =
        replaced(r#"{"severityText":5,"eventName":true,"attributes":[{"key":1,"value":"v"},"a",5]}"#);
    assert_eq!((record.severity_text.as_str(), record.event_name.as_str()), ("5", "true"));
    assert_eq!(record.attributes, [pair("1", Value::StringValue("v".into()))]);
    assert_eq!(counts, [(Type, 6)]);
    let (record, counts) =
        replaced(r#"{"attributes":"none","body":{"arrayValue":{"values":[1,null,"x",{"intValue":"y"}]}}}"#);
    let text = |text: &str| any(Value::StringValue(text.into()));
    let values = vec![any(Value::IntValue(1)), AnyValue::default(), text("x"), text("y")];
    assert_eq!(record.body.unwrap().value, Some(Value::ArrayValue(ArrayValue { values })));
    assert_eq!(counts, [(Type, 4)]);
}

#[test]
fn a_resource_and_a_scope_lose_no_record_to_a_scalar_and_count_what_is_read() {
    let json = r#"{"resourceLogs":[{"resource":5,"schemaUrl":1,"scopeLogs":[{"scope":{"name":2},"logRecords":[{}]}]}]}"#;
    assert_eq!(readable(json), [true]);
    let (_, counts) = to_wire(json.as_bytes(), &mut granting(usize::MAX)).unwrap();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 3);
    let request = message(json).resource_logs.remove(0);
    assert_eq!(
        (request.schema_url.as_str(), request.scope_logs[0].scope.as_ref().unwrap().name.as_str()),
        ("1", "2")
    );
    // An unreadable record is not stored.
    let (_, counts) =
        to_wire(in_request(r#"{"severityText":5,"attributes":{}}"#).as_bytes(), &mut granting(usize::MAX))
            .unwrap();
    assert!(counts.is_empty());
}

/// Longer texts than a piece are decoded in pieces.
#[test]
fn base64_and_hex_of_any_length_are_read() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    for length in [0, 1, 2, 3, 767, 768, 769, 5000] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| (at * 251 % 256) as u8).collect();
        for written in [STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            let json = format!(r#"{{"body":{{"bytesValue":"{written}"}}}}"#);
            let (wire, replaced) = to_wire(in_request(&json).as_bytes(), &mut granting(usize::MAX)).unwrap();
            assert!(wire.ends_with(&bytes) && replaced.is_empty(), "{length}");
        }
        let json = format!(r#"{{"traceId":"{}"}}"#, const_hex::encode_upper(&bytes));
        let (wire, replaced) = to_wire(in_request(&json).as_bytes(), &mut granting(usize::MAX)).unwrap();
        assert!(wire.ends_with(&bytes) && replaced.is_empty(), "{length}");
    }
}
