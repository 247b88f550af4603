//! A configuration as YAML again, as `forebay print-config` shows it: every key with the value in force.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use serde_saphyr::{FlowMap, FlowSeq, ser_options, to_string_with_options};

use super::Config;
use crate::table::mapping::config::ColumnConfig;
use crate::values::plain::plain;

impl Config {
    /// The tree that means this configuration; secrets are redacted in it.
    pub fn tree(&self) -> Value {
        let mut extensions = section([("health_check", self.health.as_ref().map(value))]);
        let authenticators = &self.receiver.authenticators;
        extensions.extend(authenticators.iter().map(|(name, config)| (name.clone(), value(config))));
        extensions.extend(self.storage.iter().map(|storage| (storage.name.clone(), value(&storage.files))));
        json!({
            "receivers": {"otlp": value(&self.receiver)},
            "processors": section([
                ("memory_limiter", self.memory.as_ref().map(value)),
                ("batch", Some(value(&self.batch))),
            ]),
            "exporters": {"postgres": self.exporter_tree()},
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

    /// The exporter, with the keys of the durable queue among those of the queue.
    fn exporter_tree(&self) -> Value {
        let mut exporter = value(&self.exporter);
        let storage = self.storage.as_ref().map_or_else(|| json!({"storage": "none"}), value);
        if let (Some(queue), Value::Object(storage)) = (exporter["sending_queue"].as_object_mut(), storage) {
            queue.extend(storage);
        }
        exporter
    }

    /// The tree as YAML, which is a configuration that means the same, but for what is redacted.
    pub fn to_yaml(&self) -> String {
        yaml(&Printed(&self.tree()))
    }
}

/// A configuration that fills each of `columns` of `table` with its source, as YAML. A comment names a column without one, and says why.
pub fn mapping_to_yaml(table: &str, columns: &[(String, Result<ColumnConfig, String>)]) -> String {
    let name = json!({"exporters": {"postgres": {"table": {"name": table}}}});
    let mut text = yaml(&Printed(&name)) + "      columns:\n";
    for (name, source) in columns {
        let line = match source {
            Ok(source) => yaml(&BTreeMap::from([(name, FlowMap(Printed(&value(source))))])),
            Err(reason) => format!("# {}: {reason}\n", plain(name)),
        };
        text += &format!("        {line}");
    }
    text
}

fn yaml(tree: &impl Serialize) -> String {
    let options = ser_options! { compact_list_indent: false, prefer_block_scalars: false };
    to_string_with_options(tree, options).expect("text as keys, and no cycles")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_with;

    #[test]
    fn a_mapping_is_read_as_it_was_whatever_its_columns_are_called() {
        let names = "at · on · 1 · 1e3 · a b · a\"b · it's · $x · ${env:X} · x: y · #c · ~ · << · - x · {a} · a, b · ? z · é ·   · \\ · null · No · = · %a · &a · *a · !a · | · x: · \u{feff}a";
        let sources = names.split(" · ").map(|name| {
            (name.to_owned(), ColumnConfig { attribute: Some(name.to_owned()), ..ColumnConfig::default() })
        });
        let mut columns: Vec<_> = sources.clone().map(|(name, source)| (name, Ok(source))).collect();
        columns.push(("no\nkey: \u{1b}".to_owned(), Err("the table fills it".to_owned())));
        let text = mapping_to_yaml("app.a b: $x", &columns);
        let pipeline = "yaml:{receivers: {otlp: }, processors: {batch: }, service: {pipelines: {logs: {receivers: [otlp], processors: [batch], exporters: [postgres]}}}}";
        let config = load_with(&[format!("yaml:{text}").into(), pipeline.into()], &[], &|_| None);
        let table = config.unwrap_or_else(|error| panic!("{error} in:\n{text}")).exporter.table.unwrap();
        assert_eq!((table.name.as_str(), table.columns), ("app.a b: $x", sources.collect()));
        assert!(text.ends_with("        # no\\nkey: \\u{1b}: the table fills it\n"), "{text}");
    }
}
