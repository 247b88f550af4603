//! Rows of a mapped table: single values and whole requests.

use prost::Message;
use serde_json::json;

use crate::config::load_texts;
use crate::otlp::Limits;
use crate::otlp::messages::any_value::Value as Wire;
use crate::otlp::messages::{
    AnyValue, ArrayValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord, Resource,
    ResourceLogs, ScopeLogs,
};
use crate::table::decode::Record;
use crate::table::partition::Width;
use crate::table::{Mapping, Space, Transcoded, Transcoder, Untranscoded};

const ARRIVAL: u64 = 1_700_000_000_123_456_789;

/// A mapping of `columns`, which are YAML in one line.
fn mapping(columns: &str) -> Mapping {
    let yaml = format!(
        "receivers: {{otlp: }}\nexporters: {{postgres: {{table: {{name: app.logs, columns: {columns}}}}}}}\n\
         service: {{pipelines: {{logs: {{receivers: [otlp], exporters: [postgres]}}}}}}"
    );
    let config =
        load_texts(&[("a.yaml".to_owned(), yaml)], &[], &|_| None).unwrap_or_else(|error| panic!("{error}"));
    Mapping::new(&config.exporter.table.unwrap()).unwrap()
}

fn text(text: &str) -> Option<Wire> {
    Some(Wire::StringValue(text.into()))
}

fn pair(key: &str, value: Option<Wire>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value }) }
}

fn record(attributes: Vec<KeyValue>) -> LogRecord {
    LogRecord { attributes, ..LogRecord::default() }
}

fn request(resource: Vec<KeyValue>, records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope = InstrumentationScope {
        name: "app.worker".into(),
        version: "2".into(),
        attributes: vec![pair("part", text("inner"))],
        ..Default::default()
    };
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records: records, ..Default::default() }];
    let resource = Some(Resource { attributes: resource, ..Default::default() });
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource, scope_logs, ..Default::default() }],
    }
}

/// The rows of `request` as JSON, and the counts of replacements by kind.
fn rows(mapping: Mapping, request: &ExportLogsServiceRequest) -> (Vec<serde_json::Value>, String) {
    let mapping = std::sync::Arc::new(mapping);
    let names: Vec<_> = mapping.columns().iter().map(|column| column.name.clone()).collect();
    let transcoder = Transcoder::new(Width::default(), Some(mapping.clone()), Limits::default());
    let request = request.encode_to_vec();
    let done: Transcoded<'_> =
        transcoder.transcode(&request, usize::MAX, ARRIVAL, &mut Space::unlimited()).unwrap();
    assert!(done.rows.scopes.is_empty() && done.rows.periods.is_empty(), "nothing is stored beside them");
    let type_of =
        |name: &str| mapping.columns().iter().find(|column| column.name == name).map(|c| c.sql_type);
    let read = |row: usize| {
        let bytes = &done.rows.bytes()[done.rows.range(row, row + 1)];
        serde_json::to_value(Record::read_by(bytes, &names, type_of).expect("it is one row")).unwrap()
    };
    let replaced = done.replaced.iter().filter(|(_, count)| *count > 0);
    let replaced: Vec<_> = replaced.map(|(kind, count)| format!("{} {count}", <&str>::from(kind))).collect();
    ((0..done.rows.len()).map(read).collect(), replaced.join(", "))
}

/// `value` in a column of `sql_type`, and the counts of replacements.
fn converted(sql_type: &str, value: Option<Wire>) -> (serde_json::Value, String) {
    let mapping = mapping(&format!("{{c: {{attribute: a, type: {sql_type}}}}}"));
    let (rows, replaced) = rows(mapping, &request(vec![], vec![record(vec![pair("a", value)])]));
    (rows[0]["c"].clone(), replaced)
}

#[test]
fn values_are_converted_where_that_is_plain() {
    let list = Wire::ArrayValue(ArrayValue { values: vec![AnyValue { value: text("x") }] });
    let id = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    let bytes = Some(Wire::BytesValue((0..16).collect::<Vec<u8>>().into()));
    for (sql_type, value, expected, replaced) in [
        ("text", text("plain"), json!("plain"), ""),
        ("text", text(""), json!(""), ""),
        ("text", None, json!(null), ""),
        ("text", Some(Wire::IntValue(-7)), json!("-7"), ""),
        ("text", Some(Wire::BoolValue(true)), json!("true"), ""),
        ("text", Some(Wire::DoubleValue(1.0)), json!("1.0"), ""),
        ("text", Some(Wire::DoubleValue(f64::NAN)), json!("NaN"), ""),
        ("text", Some(Wire::BytesValue(vec![0, 255].into())), json!("AP8="), ""),
        ("text", Some(list.clone()), json!("[\"x\"]"), ""),
        ("text", text("a\0"), json!("a\u{fffd}"), "nul 1"),
        ("varchar(3)", text("abc"), json!("abc"), ""),
        ("varchar(3)", text("äöüß"), json!("äöü"), "width 1"),
        ("varchar(1)", text("🦀🦀"), json!("🦀"), "width 1"),
        ("varchar(2)", text("\0\0\0"), json!("\u{fffd}\u{fffd}"), "nul 3, width 1"),
        ("varchar(2)", Some(Wire::IntValue(123)), json!("12"), "width 1"),
        ("integer", Some(Wire::IntValue(7)), json!(7), ""),
        ("integer", text(" 12 "), json!(12), ""),
        ("integer", text("12.5"), json!(13), "number 1"),
        ("integer", text("1e2"), json!(100), ""),
        ("integer", Some(Wire::DoubleValue(3.0)), json!(3), ""),
        ("integer", Some(Wire::BoolValue(true)), json!(1), ""),
        ("integer", Some(Wire::IntValue(1 << 40)), json!(i32::MAX), "number 1"),
        ("integer", text("-99999999999999999999"), json!(i32::MIN), "number 1"),
        ("integer", text("twelve"), json!(null), "type 1"),
        ("integer", Some(Wire::DoubleValue(f64::NAN)), json!(null), "type 1"),
        ("integer", Some(list.clone()), json!(null), "type 1"),
        ("smallint", Some(Wire::IntValue(-40000)), json!(i16::MIN), "number 1"),
        ("bigint", Some(Wire::DoubleValue(1e300)), json!(i64::MAX), "number 1"),
        ("bigint", Some(Wire::IntValue(i64::MIN)), json!(i64::MIN), ""),
        ("double precision", text("2.5"), json!(2.5), ""),
        ("double precision", Some(Wire::DoubleValue(f64::INFINITY)), json!("inf"), ""),
        ("double precision", text("fast"), json!(null), "type 1"),
        ("real", Some(Wire::DoubleValue(-1e300)), json!(f64::from(f32::MIN)), "number 1"),
        ("boolean", text("Yes"), json!(true), ""),
        ("boolean", Some(Wire::IntValue(0)), json!(false), ""),
        ("boolean", text("perhaps"), json!(null), "type 1"),
        ("timestamptz", text("2026-11-25T12:00:00.5+02:00"), json!("2026-11-25T10:00:00.5Z"), ""),
        ("timestamp", text("2026-11-25 12:00:00"), json!("2026-11-25T12:00:00Z"), ""),
        ("timestamptz", text("2026-11-25"), json!("2026-11-25T00:00:00Z"), ""),
        ("timestamptz", text("-009000-01-01T00:00:00Z"), json!(null), "type 1"),
        ("timestamptz", Some(Wire::IntValue(1_700_000_000)), json!(null), "type 1"),
        ("date", text("2026-11-25T23:30:00-02:00"), json!("2026-11-26"), ""),
        ("date", text("1999-12-31"), json!("1999-12-31"), ""),
        ("uuid", text(&id.to_uppercase()), json!(id), ""),
        ("uuid", bytes.clone(), json!(id), ""),
        ("uuid", text("no"), json!(null), "type 1"),
        ("bytea", text("ab"), json!("6162"), ""),
        ("bytea", bytes, json!("000102030405060708090a0b0c0d0e0f"), ""),
        ("bytea", Some(Wire::IntValue(1)), json!(null), "type 1"),
        ("inet", text("10.0.0.7"), json!("10.0.0.7"), ""),
        ("inet", text("fe80::1/64"), json!("fe80::1"), ""),
        ("inet", text("10.0.0.7/33"), json!(null), "type 1"),
        ("json", Some(list.clone()), json!(["x"]), ""),
        ("jsonb", Some(list), json!(["x"]), ""),
        ("jsonb", text("{\"not\": \"parsed\"}"), json!("{\"not\": \"parsed\"}"), ""),
    ] {
        let shown = format!("{value:?} into {sql_type}");
        assert_eq!(converted(sql_type, value), (expected, replaced.to_owned()), "{shown}");
    }
}

#[test]
fn every_field_of_a_record_has_its_column() {
    let all = "{a: {field: time}, b: {field: time_unix_nano}, c: {field: observed_time}, d: {field: severity}, \
               e: {field: severity_number}, f: {field: severity_text}, g: {field: service_name}, h: {field: body}, \
               i: {field: event_name}, j: {field: trace_id}, k: {field: span_id, type: bytea}, l: {field: trace_flags}, \
               m: {field: attributes}, n: {field: resource, type: json}, o: {field: scope_attributes}, \
               p: {field: scope_name}, q: {field: scope_version}, r: {field: dropped_attributes_count}, \
               s: {field: observed_time_unix_nano}, t: {scope: part}, u: {field: resource_schema_url}, \
               v: {field: trace_id, type: uuid}, w: {field: body, type: jsonb}, x: {field: time, type: text}, \
               y: {field: time, type: date}}";
    let full = LogRecord {
        time_unix_nano: ARRIVAL,
        observed_time_unix_nano: 1_000,
        severity_number: 13,
        severity_text: "warning".into(),
        body: Some(AnyValue { value: Some(Wire::IntValue(5)) }),
        attributes: vec![pair("k", text("v"))],
        dropped_attributes_count: 2,
        flags: 1,
        trace_id: vec![0xab; 16].into(),
        span_id: vec![0xcd; 8].into(),
        event_name: "started".into(),
    };
    let request = request(vec![pair("service.name", text("shop"))], vec![full, LogRecord::default()]);
    let (rows, replaced) = rows(mapping(all), &request);
    let expected = json!({
        "a": "2023-11-14T22:13:20.123456Z", "b": ARRIVAL, "c": "1970-01-01T00:00:00.000001Z", "d": "WARN", "e": 13,
        "f": "warning", "g": "shop", "h": "5", "i": "started", "j": "ab".repeat(16), "k": "cd".repeat(8), "l": 1,
        "m": {"k": "v"}, "n": {"service.name": "shop"}, "o": {"part": "inner"}, "p": "app.worker", "q": "2", "r": 2,
        "s": 1000, "t": "inner", "u": null, "v": "abababab-abab-abab-abab-abababababab", "w": 5,
        "x": "2023-11-14T22:13:20.123456789Z", "y": "2023-11-14",
    });
    assert_eq!(rows[0], expected);
    let empty = json!({
        "a": "2023-11-14T22:13:20.123456Z", "b": ARRIVAL, "c": null, "d": null, "e": null, "f": null, "g": "shop",
        "h": null, "i": null, "j": null, "k": null, "l": 0, "m": {}, "n": {"service.name": "shop"},
        "o": {"part": "inner"}, "p": "app.worker", "q": "2", "r": 0, "s": null, "t": "inner", "u": null, "v": null,
        "w": null, "x": "2023-11-14T22:13:20.123456789Z", "y": "2023-11-14",
    });
    assert_eq!((&rows[1], replaced.as_str()), (&empty, ""));
}

#[test]
fn groups_take_what_they_name_and_rest_takes_what_nobody_names() {
    let columns = "{error: {attributes: [error_type, error_message]}, times: {attributes: ['*_ms', db.*]}, \
                   user: {attribute: user}, rest: {attributes: rest, default: '{}'}}";
    let first = ["error_message", "user", "other", "query_ms", "db.name", "ms", "error_type", "other"];
    let pairs = first.iter().enumerate().map(|(index, key)| pair(key, Some(Wire::IntValue(index as i64))));
    let (rows, _) = rows(mapping(columns), &request(vec![], vec![record(pairs.collect()), record(vec![])]));
    let expected = json!({
        "error": {"error_type": 6, "error_message": 0}, "times": {"query_ms": 3, "db.name": 4}, "user": "1",
        "rest": {"other": 7, "ms": 5},
    });
    assert_eq!(rows, [expected, json!({"error": null, "times": null, "user": null, "rest": {}})]);
}

#[test]
fn defaults_maps_and_the_first_of_several() {
    let columns = "{level: {field: severity, map: {WARN: WARNING, FATAL: CRITICAL}, default: INFO}, \
                   code: {attribute: code, type: integer, map: {ok: 200, '7': 700}, default: -1}, \
                   user: {first_of: [{attribute: user}, {attribute: enduser.id}, {resource: user}], default: nobody}, \
                   here: {constant: true, type: boolean}, size: {first_of: [{attribute: size}, {attribute: bytes}], \
                   type: integer}}";
    let of = |severity_number, attributes| LogRecord { severity_number, ..record(attributes) };
    let records = vec![
        of(13, vec![pair("code", text("ok")), pair("enduser.id", text("e")), pair("user", text("u"))]),
        of(21, vec![pair("code", Some(Wire::IntValue(7))), pair("enduser.id", text("e"))]),
        of(9, vec![pair("code", text("odd")), pair("size", text("much")), pair("bytes", text("12"))]),
        of(0, vec![pair("user", None)]),
    ];
    let (rows, replaced) = rows(mapping(columns), &request(vec![pair("user", text("r"))], records));
    let row = |level, code, user, size| json!({"level": level, "code": code, "user": user, "here": true, "size": size});
    let expected = [
        row("WARNING", 200, "u", json!(null)),
        row("CRITICAL", 700, "e", json!(null)),
        row("INFO", -1, "r", json!(12)),
        row("INFO", -1, "r", json!(null)),
    ];
    assert_eq!((&rows[..], replaced.as_str()), (&expected[..], "type 2"));
}

#[test]
fn ids_are_uuids_that_grow() {
    let columns = "{id: {generate: uuid}, text: {generate: uuid, type: varchar(36)}}";
    let records = vec![LogRecord::default(); 2000];
    let ids = || {
        let (rows, replaced) = rows(mapping(columns), &request(vec![], records.clone()));
        assert_eq!(replaced, "");
        rows.into_iter().flat_map(|row| [row["id"].clone(), row["text"].clone()]).collect::<Vec<_>>()
    };
    let (one, two) = (ids(), ids());
    let different: std::collections::BTreeSet<_> =
        one.iter().chain(&two).map(|id| id.as_str().unwrap()).collect();
    assert_eq!(different.len(), 8000);
    for id in &different {
        let id = uuid::Uuid::parse_str(id).unwrap();
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(id.get_timestamp().map(|time| time.to_unix().0), Some(ARRIVAL / 1_000_000_000));
    }
    // Not all of them, if the random bits overflow.
    let grow =
        |ids: &[serde_json::Value]| ids.windows(2).filter(|pair| pair[0].as_str() < pair[1].as_str()).count();
    assert!(grow(&one) >= 3998, "{}", grow(&one));
}

#[test]
fn what_all_records_of_a_scope_share_is_counted_for_each_of_them() {
    let columns = "{host: {resource: host.name, type: varchar(2)}, pid: {resource: pid, type: integer}, n: {attribute: n}}";
    let resource = |host| vec![pair("host.name", text(host)), pair("pid", text("none"))];
    let both =
        [request(resource("alpha"), vec![record(vec![]); 3]), request(resource("b"), vec![record(vec![])])];
    let resource_logs = both.into_iter().flat_map(|request| request.resource_logs).collect();
    let (rows, replaced) = rows(mapping(columns), &ExportLogsServiceRequest { resource_logs });
    let hosts: Vec<_> = rows.iter().map(|row| row["host"].as_str().unwrap()).collect();
    assert_eq!((hosts, replaced.as_str()), (vec!["al", "al", "al", "b"], "width 3, type 4"));
}

#[test]
fn losses_are_counted_by_service_without_a_column_for_it() {
    let of = |service| request(vec![pair("service.name", text(service))], vec![LogRecord::default(); 2]);
    let resource_logs =
        [of("shop"), of("auth"), of("shop")].into_iter().flat_map(|r| r.resource_logs).collect();
    let request = ExportLogsServiceRequest { resource_logs };
    let transcoder = Transcoder::new(
        Width::default(),
        Some(std::sync::Arc::new(mapping("{body: {field: body}}"))),
        Limits::default(),
    );
    let rows = transcoder
        .transcode(&request.encode_to_vec(), usize::MAX, ARRIVAL, &mut Space::unlimited())
        .unwrap()
        .rows;
    let tally = rows.tally(1..5);
    let blocks: Vec<_> = tally.by_service().map(|(service, counts)| (service, counts.total())).collect();
    assert_eq!(blocks[..3], [(Some("shop"), 1), (Some("auth"), 2), (Some("shop"), 1)]);
}

/// Several columns may contain the same bytes of record and resource. Rows take at most the memory that was requested, and a request
/// that copies a large resource into each row does not get it.
#[test]
fn rows_take_no_more_memory_than_was_asked_for() {
    let columns = "{a: {attribute: key}, b: {attribute: key}, all: {field: attributes}, rest: {attributes: rest}, \
                    group: {attributes: [key, 'k*']}, body: {field: body}, body2: {field: body, type: jsonb}, \
                    host: {resource: host.name}, host2: {resource: host.name}, resource: {field: resource}, \
                    either: {first_of: [{attribute: none}, {resource: host.name}]}, \
                    at: {field: time, type: text}, id: {generate: uuid}, flag: {constant: x}}";
    let mapping = std::sync::Arc::new(mapping(columns));
    let transcoder = Transcoder::new(Width::default(), Some(mapping), Limits::default());
    let deep = (0..100).fold(Wire::IntValue(1), |inner, _| {
        Wire::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(inner) }] })
    });
    let values = [
        text(&"\u{1}".repeat(9000)),
        text("\u{1}"),
        Some(Wire::BytesValue(vec![0xff; 5000].into())),
        Some(Wire::ArrayValue(ArrayValue { values: vec![AnyValue::default(); 5000] })),
        Some(Wire::DoubleValue(-1.234_567_890_123_456_7e-300)),
        Some(deep),
        None,
    ];
    for host in ["h", &"\u{1}".repeat(20_000)] {
        for value in &values {
            let body = Some(AnyValue { value: value.clone() });
            let attributes = vec![pair("key", value.clone()), pair("k2", value.clone()), pair("other", None)];
            let record = LogRecord { body, attributes, ..LogRecord::default() };
            let request = request(vec![pair("host.name", text(host))], vec![record; 20]).encode_to_vec();
            let mut granted = 0;
            let mut more = |bytes: usize| {
                granted += bytes;
                true
            };
            // The code that writes a row asserts that it is within its bound.
            let done = transcoder.transcode(&request, 20, ARRIVAL, &mut Space::new(0, &mut more)).unwrap();
            assert_eq!(done.rows.len(), 20);
            assert!(
                done.rows.held_bytes() <= granted + size_of_val(&done.rows) + done.rows.resources[0].size()
            );
        }
    }
    let copied =
        request(vec![pair("host.name", text(&"h".repeat(200_000)))], vec![LogRecord::default(); 1000]);
    let mut left = 64_usize << 20;
    let mut more = |bytes: usize| {
        left = left.saturating_sub(bytes);
        left > 0
    };
    let copied = copied.encode_to_vec();
    let made = transcoder.transcode(&copied, 1000, ARRIVAL, &mut Space::new(0, &mut more));
    assert!(matches!(made, Err(Untranscoded::NoSpace(_))), "a gigabyte of rows");
}
