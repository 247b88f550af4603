//! A configuration as YAML again, as `forebay print-config` shows it: every key with the value in force.

use std::fmt::{self, Display};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Config;

impl Config {
    /// The tree that means this configuration; secrets are redacted in it.
    pub fn tree(&self) -> Value {
        let mut extensions = section([("health_check", self.health.as_ref().map(value))]);
        let authenticators = &self.receiver.authenticators;
        extensions.extend(authenticators.iter().map(|(name, config)| (name.clone(), value(config))));
        json!({
            "receivers": {"otlp": value(&self.receiver)},
            "processors": section([
                ("memory_limiter", self.memory.as_ref().map(value)),
                ("batch", Some(value(&self.batch))),
            ]),
            "exporters": {"postgres": value(&self.exporter)},
            "extensions": extensions,
            "service": {
                "extensions": extensions.keys().collect::<Vec<_>>(),
                "pipelines": {
                    "logs": {
                        "receivers": ["otlp"],
                        "processors": self.memory.as_ref().map(|_| "memory_limiter").into_iter().chain(["batch"]).collect::<Vec<_>>(),
                        "exporters": ["postgres"],
                    },
                },
                "telemetry": value(&self.telemetry),
            },
        })
    }

    /// The tree as YAML, which is a configuration that means the same, but for what is redacted.
    pub fn to_yaml(&self) -> String {
        Yaml(&self.tree(), 0).to_string()
    }
}

fn value(part: &impl Serialize) -> Value {
    serde_json::to_value(part).expect("a configuration has text as keys, and no numbers that JSON has not")
}

/// The components that are there.
fn section<const N: usize>(components: [(&str, Option<Value>); N]) -> Map<String, Value> {
    components.into_iter().filter_map(|(name, component)| Some((name.to_owned(), component?))).collect()
}

/// Block style, two spaces a level, from this level on.
struct Yaml<'a>(&'a Value, usize);

impl Display for Yaml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_block(f, self.0, self.1)
    }
}

fn write_block(f: &mut fmt::Formatter<'_>, value: &Value, depth: usize) -> fmt::Result {
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().try_for_each(|(key, value)| {
            write!(f, "{:1$}{2}:", "", 2 * depth, Quoted(key))?;
            write_value(f, value, depth + 1)
        }),
        Value::Array(items) if !items.is_empty() => items.iter().try_for_each(|item| {
            write!(f, "{:1$}- {2}", "", 2 * depth, Yaml(item, depth + 1).to_string().trim_start())
        }),
        scalar => writeln!(f, "{}", Scalar(scalar)),
    }
}

/// What stands behind a key or a dash.
fn write_value(f: &mut fmt::Formatter<'_>, value: &Value, depth: usize) -> fmt::Result {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        // Short lists stay on their line.
        Value::Array(items) => items.iter().any(|item| item.is_object() || item.is_array()),
        _ => false,
    };
    f.write_str(if is_block { "\n" } else { " " })?;
    if is_block { write_block(f, value, depth) } else { writeln!(f, "{}", Scalar(value)) }
}

/// What stands on one line.
struct Scalar<'a>(&'a Value);

impl Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // A single $ may begin a reference.
            Value::String(text) => write!(f, "{}", Quoted(&text.replace('$', "$$"))),
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| Scalar(item).to_string()).collect();
                write!(f, "[{}]", items.join(", "))
            }
            other => write!(f, "{other}"),
        }
    }
}

/// Text, in quotes unless nothing in it could be taken for something else.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0;
        let is_plain = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
            && !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
        let is_duration = text.ends_with('s')
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text.trim_end_matches(['n', 'u', 'm', 's']).bytes().all(|c| c.is_ascii_digit() || c == b'.');
        if is_plain || is_duration { f.write_str(text) } else { write!(f, "{}", Value::from(text)) }
    }
}
