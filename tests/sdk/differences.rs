//! What a bridge cannot express, or expresses in its own way: all in which a stored record differs from records.json,
//! SDK by SDK. What is not named here has to be equal.

use serde_json::{Map, Value, json};

use crate::sdks::{Sdk, Transport};
use crate::set::{bytes, plain};

/// What becomes of a value on its way through a bridge.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    AsSent,
    /// The program has to write it as JSON, since the bridge knows no such values.
    JsonText,
    /// Something else.
    Other(Value),
    Nothing,
}

/// The attribute `value`.
pub fn value(sdk: Sdk, transport: Transport, value: &Value) -> Form {
    let kind = value.as_object().unwrap().keys().next().unwrap().as_str();
    match (sdk, kind) {
        // tracing and Logback's appender leave out a field without a value.
        (Sdk::Rust | Sdk::Java, "null") => Form::Nothing,
        (Sdk::Rust, "array" | "map") | (Sdk::Java, "map") => Form::JsonText,
        // Logback's appender has arrays of one kind only, bytes among them as numbers.
        (Sdk::Java, "array") if !is_of_one_kind(value) => Form::JsonText,
        (Sdk::Java, "bytes") if bytes(value).is_empty() => Form::Nothing,
        (Sdk::Java, "bytes") => Form::Other(bytes(value).into_iter().map(|byte| json!(byte as i8)).collect()),
        // A number of JavaScript is a double; what is whole goes as an integer, and integers end at 2^53.
        (Sdk::Node, "double") if whole(value) => Form::Other(json!(plain(value).as_f64().unwrap() as i64)),
        (Sdk::Node, "int") if beyond_safe(value) => Form::Other(value["int"].clone()),
        // JSON.stringify makes null of them.
        (Sdk::Node, "double") if plain(value).is_string() && transport == Transport::HttpJson => {
            Form::Other(Value::Null)
        }
        _ => Form::AsSent,
    }
}

fn is_of_one_kind(array: &Value) -> bool {
    let items = array["array"].as_array().unwrap();
    let all = |kind: &str| items.iter().all(|item| item.get(kind).is_some());
    !items.is_empty() && (all("string") || all("int"))
}

fn whole(double: &Value) -> bool {
    plain(double).as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn beyond_safe(int: &Value) -> bool {
    plain(int).as_i64().unwrap().unsigned_abs() >= 1 << 53
}

/// A body: that of a logging library is a text, only the logs API has others.
pub fn body(sdk: Sdk, body: &Value) -> Form {
    match sdk {
        Sdk::Node => Form::AsSent,
        _ if plain(body).is_string() => Form::AsSent,
        _ => Form::JsonText,
    }
}

/// The number and the text of a level.
pub fn severity(sdk: Sdk, level: &str) -> (Option<u8>, &'static str) {
    match (sdk, level) {
        // Python's logging has no such level; the bridge gives no number to one below DEBUG.
        (Sdk::Python, "trace") => (None, "Level 5"),
        // slog writes levels between its own by their distance.
        (Sdk::Go, "trace") => (Some(1), "DEBUG-4"),
        (Sdk::Go, "fatal") => (Some(21), "ERROR+4"),
        // tracing and SLF4J have none above ERROR.
        (Sdk::Rust | Sdk::Java, "fatal") => (Some(17), "ERROR"),
        (_, "trace") => (Some(1), "TRACE"),
        (_, "debug") => (Some(5), "DEBUG"),
        (_, "info") => (Some(9), "INFO"),
        (_, "warn") => (Some(13), "WARN"),
        (_, "error") => (Some(17), "ERROR"),
        _ => (Some(21), "FATAL"),
    }
}

/// The name of the event.
pub fn event(sdk: Sdk, event: Option<&str>) -> Option<&str> {
    match sdk {
        // Each place that logs has a name, by default its file and line.
        Sdk::Rust => Some(event.unwrap_or("unnamed")),
        // slog has no names.
        Sdk::Go => None,
        Sdk::Python | Sdk::Java | Sdk::Node => event,
    }
}

/// The version of the scope: loggers that have nothing but a name have none.
pub fn scope_version(sdk: Sdk, version: &str) -> Option<&str> {
    matches!(sdk, Sdk::Go | Sdk::Node).then_some(version)
}

/// What an SDK adds for an exception, beside `exception.message`: the type, and whether there is a stack trace.
pub fn exception(sdk: Sdk) -> (Option<&'static str>, bool) {
    match sdk {
        // An error of Rust says neither.
        Sdk::Rust => (None, false),
        Sdk::Go => (Some("*errors.errorString"), false),
        Sdk::Python => (Some("TimeoutError"), true),
        Sdk::Java => (Some("java.util.concurrent.TimeoutException"), true),
        Sdk::Node => (Some("RangeError"), true),
    }
}

/// What an SDK adds to the resource, as it is found there; whatever else is found there is not expected.
pub fn added_to_resource(sdk: Sdk, found: &Map<String, Value>) -> Map<String, Value> {
    let language = match sdk {
        Sdk::Rust => "rust",
        Sdk::Python => "python",
        Sdk::Go => "go",
        Sdk::Java => "java",
        Sdk::Node => "nodejs",
    };
    let added = [("telemetry.sdk.language", json!(language)), ("telemetry.sdk.name", json!("opentelemetry"))];
    // Which version, and which process.
    let various = if sdk == Sdk::Python {
        &["telemetry.sdk.version", "service.instance.id"][..]
    } else {
        &["telemetry.sdk.version"]
    };
    let various = various
        .iter()
        .map(|key| (*key, found.get(*key).filter(|value| value.is_string()).cloned().expect(key)));
    added.into_iter().chain(various).map(|(key, value)| (key.to_owned(), value)).collect()
}
