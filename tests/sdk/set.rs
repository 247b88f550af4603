//! The records that every SDK sends, from records.json.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The file.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/records.json");

pub static SET: LazyLock<Set> =
    LazyLock::new(|| serde_json::from_slice(&std::fs::read(FILE).unwrap()).expect("records.json"));

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub scope: Scope,
    pub resource: Map<String, Value>,
    pub records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    pub name: String,
    pub version: String,
}

/// A record. Values are objects with one key, which is their kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What it is there for: a row of the table of results, and the body where there is no other.
    pub kind: String,
    #[serde(default = "info")]
    pub level: String,
    pub body: Option<Value>,
    /// The attribute `value`, beside `index`, the record's number in its run.
    pub value: Option<Value>,
    /// An object of `trace_id`, `span_id` and `flags`.
    pub trace: Option<Value>,
    pub event: Option<String>,
    /// The message of an error that is logged with the record.
    pub exception: Option<String>,
}

fn info() -> String {
    "info".to_owned()
}

/// The value as the view has it: bytes as base64, NaN and the infinities as text.
pub fn plain(value: &Value) -> Value {
    let (kind, inner) = value.as_object().and_then(|object| object.iter().next()).expect("one kind");
    let text = || inner.as_str().unwrap();
    match kind.as_str() {
        "null" => Value::Null,
        "long" => json!("x".repeat(inner.as_u64().unwrap() as usize)),
        "int" => json!(text().parse::<i64>().unwrap()),
        "double" if matches!(text(), "NaN" | "Infinity" | "-Infinity") => inner.clone(),
        "double" => json!(text().parse::<f64>().unwrap()),
        "bytes" => json!(STANDARD.encode(bytes(value))),
        "array" => inner.as_array().unwrap().iter().map(plain).collect(),
        "map" => inner.as_object().unwrap().iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        "string" | "bool" => inner.clone(),
        _ => panic!("{kind} is no kind of value"),
    }
}

/// The bytes of a value of that kind.
pub fn bytes(value: &Value) -> Vec<u8> {
    let hex = value["bytes"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
