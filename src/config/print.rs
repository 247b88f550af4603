//! A configuration as YAML again, as `forebay print-config` shows it: every key with the value in force.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use serde_saphyr::{FlowSeq, ser_options, to_string_with_options};

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
        let options = ser_options! { compact_list_indent: false, prefer_block_scalars: false };
        to_string_with_options(&Printed(&self.tree()), options).expect("text as keys, and no cycles")
    }
}

fn value(part: &impl Serialize) -> Value {
    serde_json::to_value(part).expect("a configuration has text as keys, and no numbers that JSON has not")
}

/// The components that are there.
fn section<const N: usize>(components: [(&str, Option<Value>); N]) -> Map<String, Value> {
    components.into_iter().filter_map(|(name, component)| Some((name.to_owned(), component?))).collect()
}

/// A value as it is printed.
struct Printed<'a>(&'a Value);

impl Serialize for Printed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            // A single $ may begin a reference.
            Value::String(text) => serializer.serialize_str(&text.replace('$', "$$")),
            Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                serializer.collect_seq(items.iter().map(Printed))
            }
            // Short lists stay on their line.
            Value::Array(items) => {
                FlowSeq(items.iter().map(Printed).collect::<Vec<_>>()).serialize(serializer)
            }
            Value::Object(map) => {
                serializer.collect_map(map.iter().map(|(key, value)| (key, Printed(value))))
            }
            other => other.serialize(serializer),
        }
    }
}
