//! Any request that OTLP allows, and the extremes more often than chance would have them.

use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{
    AnyValue, ArrayValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, KeyValueList, LogRecord,
    Resource, ResourceLogs, ScopeLogs,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::records::{now, pair};

/// A request of up to 18 records.
pub fn request() -> impl Strategy<Value = ExportLogsServiceRequest> {
    vec(resource_logs(), 0..4).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

/// `levels` arrays and maps around an integer.
pub fn nested(levels: usize) -> AnyValue {
    let innermost = AnyValue { value: Some(Value::IntValue(1)) };
    (0..levels).fold(innermost, |inner, level| {
        let value = match level % 2 {
            0 => Value::ArrayValue(ArrayValue { values: vec![inner] }),
            _ => Value::KvlistValue(KeyValueList { values: vec![pair("in", inner)] }),
        };
        AnyValue { value: Some(value) }
    })
}

fn resource_logs() -> impl Strategy<Value = ResourceLogs> {
    (option::weighted(0.8, resource()), vec(scope_logs(), 0..3), text())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url })
}

fn resource() -> impl Strategy<Value = Resource> {
    let name = prop_oneof![
        4 => text().prop_map(|name| Some(Value::StringValue(name))),
        1 => any::<i64>().prop_map(|number| Some(Value::IntValue(number))),
        1 => any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        1 => Just(None),
    ];
    let names = vec(name.prop_map(|value| pair("service.name", AnyValue { value })), 0..3);
    let attributes = (attributes(), names).prop_map(|pairs| [pairs.0, pairs.1].concat()).prop_shuffle();
    (attributes, count())
        .prop_map(|(attributes, dropped_attributes_count)| Resource { attributes, dropped_attributes_count })
}

fn scope_logs() -> impl Strategy<Value = ScopeLogs> {
    let scope = (text(), text(), attributes(), count()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    (option::weighted(0.8, scope), vec(record(), 0..4), text())
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url })
}

fn record() -> impl Strategy<Value = LogRecord> {
    let severity_number =
        prop_oneof![4 => 0..30, 1 => any::<i32>(), 1 => select(vec![i32::MIN, -1, 32767, 32768])];
    let flags = prop_oneof![0..4u32, any::<u32>(), Just(0x8000_0001)];
    let body = option::of(prop_oneof![text().prop_map(|text| some(Value::StringValue(text))), value()]);
    let fields = (time(), time(), severity_number, text(), body, attributes());
    (fields, count(), flags, id(16), id(8), text()).prop_map(
        |(fields, dropped, flags, trace_id, span_id, name)| {
            let (time_unix_nano, observed_time_unix_nano, severity_number, severity_text, body, attributes) =
                fields;
            LogRecord {
                time_unix_nano,
                observed_time_unix_nano,
                severity_number,
                severity_text,
                body,
                attributes,
                dropped_attributes_count: dropped,
                flags,
                trace_id: trace_id.into(),
                span_id: span_id.into(),
                event_name: name,
            }
        },
    )
}

fn time() -> impl Strategy<Value = u64> {
    const LAST: u64 = i64::MAX as u64;
    let today = now();
    prop_oneof![
        3 => today - 1_000_000_000..today,
        2 => any::<u64>(),
        3 => select(vec![0, 1, 999, 1000, LAST - 999, LAST, LAST + 1, u64::MAX]),
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 1 => any::<u32>(), 1 => select(vec![i32::MAX as u32, 1 << 31, u32::MAX])]
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), length), 1 => vec(any::<u8>(), 0..20), 1 => vec(Just(0), 0..20)]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_value(value().boxed()), 0..6)
}

fn key_value(value: BoxedStrategy<AnyValue>) -> impl Strategy<Value = KeyValue> {
    // Few keys, so that some come twice, and some that are the same once they are repaired.
    let known = select(vec!["", "a", "a\0", "a\u{fffd}", "b", "with.dots"]).prop_map(str::to_owned);
    (prop_oneof![known, text()], option::weighted(0.9, value))
        .prop_map(|(key, value)| KeyValue { key, value })
}

fn value() -> impl Strategy<Value = AnyValue> {
    let doubles = [0.0, -0.0, 1.0, 1e15, 1e16, -1e16, 1e21, 1e300, f64::MAX, f64::MIN_POSITIVE, 5e-324];
    let not_numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let leaf = prop_oneof![
        1 => Just(AnyValue { value: None }),
        4 => text().prop_map(|text| some(Value::StringValue(text))),
        1 => any::<bool>().prop_map(|value| some(Value::BoolValue(value))),
        2 => prop_oneof![any::<i64>(), select(vec![0, -1, i64::MIN, i64::MAX, (1 << 53) + 1])]
            .prop_map(|number| some(Value::IntValue(number))),
        3 => prop_oneof![proptest::num::f64::ANY, select([&doubles[..], &not_numbers].concat())]
            .prop_map(|number| some(Value::DoubleValue(number))),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| some(Value::BytesValue(bytes.into()))),
    ];
    let tree = leaf.prop_recursive(4, 20, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|values| some(Value::ArrayValue(ArrayValue { values }))),
            vec(key_value(inner.boxed()), 0..5)
                .prop_map(|values| some(Value::KvlistValue(KeyValueList { values }))),
        ]
    });
    prop_oneof![30 => tree, 1 => (60..70usize).prop_map(nested)]
}

fn some(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => any::<char>(),
        4 => proptest::char::range(' ', '~'),
        2 => select(vec!['\0', '\u{1}', '\t', '\n', '\r', '"', '\\', '/', '\u{7f}', '\u{fffd}', '\u{ffff}', '🦀']),
    ];
    prop_oneof![1 => Just(String::new()), 6 => vec(character, 0..12).prop_map(String::from_iter)]
}
