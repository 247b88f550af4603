//! The differences between two configurations, key by key.

use serde_json::Value;

use super::Config;

impl Config {
    /// The dotted paths of the keys whose values differ in `other`.
    pub fn changes(&self, other: &Config) -> Vec<String> {
        let mut changes = Vec::new();
        compare(&self.tree(), &other.tree(), "", &mut changes);
        // The trees show all secrets alike.
        for path in self.changed_secrets(other) {
            if !changes.iter().any(|change| change.starts_with(&path)) {
                changes.push(path);
            }
        }
        changes
    }

    /// The paths of the keys whose secrets differ.
    fn changed_secrets(&self, other: &Config) -> Vec<String> {
        let (own, others) = (&self.receiver.authenticators, &other.receiver.authenticators);
        let differs =
            |(name, config): &(&String, &_)| others.get(*name).is_some_and(|other| other != *config);
        let authenticators = own.iter().filter(differs).map(|(name, _)| format!("extensions.{name}"));
        let (metrics, others) = (&self.telemetry.metrics, &other.telemetry.metrics);
        let keys = [
            ("exporters.postgres.dsn", self.exporter.dsn != other.exporter.dsn),
            ("service.telemetry.metrics.readers", metrics.readers != others.readers),
            ("receivers.otlp.protocols", self.receiver.protocols != other.receiver.protocols),
        ];
        let changed = keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned());
        changed.chain(authenticators).collect()
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
