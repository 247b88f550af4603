//! Rows as PostgreSQL will read them: each field is a value of its column's type that it can hold.

use std::sync::LazyLock;

use forebay::table::Rows;
use forebay::table::columns::COLUMNS;
use forebay::table::decode::{Record, Value};
use serde_json::value::RawValue;

static NAMES: LazyLock<Vec<String>> =
    LazyLock::new(|| COLUMNS.iter().map(|column| column.name.to_owned()).collect());

/// Reads every row, and checks it and the resources and scopes that it names.
pub fn read(rows: &Rows) -> Vec<Record<'_>> {
    let read: Vec<_> = (0..rows.len())
        .map(|row| Record::read(&rows.bytes()[rows.range(row, row + 1)], &NAMES).expect("it is one row"))
        .collect();
    assert_eq!(rows.range(0, rows.len()), 0..rows.bytes().len(), "the rows are all of it");
    assert!(rows.held_bytes() >= rows.bytes().len());
    for resource in &rows.resources {
        check_json(&resource.attributes);
        [&resource.service_name, &resource.schema_url]
            .into_iter()
            .flatten()
            .for_each(|text| check_text(text));
    }
    for scope in &rows.scopes {
        check_json(&scope.attributes);
        [&scope.name, &scope.version, &scope.schema_url]
            .into_iter()
            .flatten()
            .for_each(|text| check_text(text));
    }
    for row in &read {
        check(row);
        assert!(rows.resources.iter().any(|resource| Some(resource.id) == id(row, "resource_id")));
        assert!(rows.scopes.iter().any(|scope| Some(scope.id) == id(row, "scope_id")));
    }
    read
}

fn check(row: &Record<'_>) {
    for column in COLUMNS {
        match row.get(column.name) {
            Value::Null => assert!(column.nullable, "{} is NULL", column.name),
            Value::Unreadable(bytes) => panic!("{} is {bytes:?}", column.name),
            Value::Text(text) => check_text(text),
            Value::Json(json) => check_json(json.get()),
            Value::Time(_) | Value::Integer(_) | Value::Uuid(_) | Value::Bytes(_) => {}
            other => panic!("{} is {other:?}", column.name),
        }
    }
}

/// text has every character but NUL.
fn check_text(text: &str) {
    assert!(!text.contains('\0'), "{text:?}");
}

/// jsonb is JSON without NUL and without half a surrogate pair, which the parser refuses.
fn check_json(text: &str) {
    fn check(value: &serde_json::Value) {
        match value {
            serde_json::Value::String(text) => check_text(text),
            serde_json::Value::Array(items) => items.iter().for_each(check),
            serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| {
                check_text(key);
                check(value);
            }),
            _ => {}
        }
    }
    check(&serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")));
}

/// The uuid in column `name`.
pub fn id(row: &Record<'_>, name: &str) -> Option<[u8; 16]> {
    if let Value::Uuid(id) = row.get(name) { Some(id.into_bytes()) } else { None }
}

/// The integer in column `name`.
pub fn integer(row: &Record<'_>, name: &str) -> Option<i64> {
    if let Value::Integer(number) = row.get(name) { Some(number) } else { None }
}

/// The time in column `name`, in microseconds since 1970.
pub fn micros(row: &Record<'_>, name: &str) -> Option<i64> {
    if let Value::Time(time) = row.get(name) { Some(time.as_microsecond()) } else { None }
}

/// The text in column `name`.
pub fn text<'a>(row: &Record<'a>, name: &str) -> Option<&'a str> {
    if let Value::Text(text) = row.get(name) { Some(text) } else { None }
}

/// The bytes in column `name`.
pub fn bytes<'a>(row: &Record<'a>, name: &str) -> Option<&'a [u8]> {
    if let Value::Bytes(bytes) = row.get(name) { Some(bytes) } else { None }
}

/// The JSON in column `name`.
pub fn json<'a>(row: &Record<'a>, name: &str) -> Option<&'a RawValue> {
    if let Value::Json(json) = row.get(name) { Some(json) } else { None }
}
