//! What differs between two configurations, key by key.

use serde_json::Value;

use super::Config;

impl Config {
    /// The dotted paths of the keys whose values differ in `other`.
    pub fn changes(&self, other: &Config) -> Vec<String> {
        let mut changes = Vec::new();
        compare(&self.tree(), &other.tree(), "", &mut changes);
        // In the trees their secrets are alike.
        for (path, own, others) in [("exporters.postgres.dsn", &self.exporter.dsn, &other.exporter.dsn)] {
            if own != others && !changes.iter().any(|change| change == path) {
                changes.push(path.to_owned());
            }
        }
        changes
    }
}

fn compare(one: &Value, other: &Value, path: &str, changes: &mut Vec<String>) {
    let (Value::Object(ones), Value::Object(others)) = (one, other) else {
        if one != other {
            changes.push(path.to_owned());
        }
        return;
    };
    let added = others.keys().filter(|key| !ones.contains_key(*key));
    for key in ones.keys().chain(added) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
        compare(&value(ones), &value(others), &path, changes);
    }
}
