//! The filter of records.

use std::str::FromStr;

use crate::postgres::ToSql;
use crate::table::Severity;

/// Selects the records that satisfy all its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Their service is one of these; all if there are none.
    pub services: Vec<String>,
    /// They have this severity or a higher one.
    pub severity: Option<Severity>,
    /// Their body contains this, in any case.
    pub text: Option<String>,
    /// They belong to this trace.
    pub trace: Option<TraceId>,
    /// They have these attributes.
    pub attributes: Vec<Attribute>,
}

/// A trace's 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId(String);

/// The text is not a trace's id.
#[derive(Debug, thiserror::Error)]
#[error("a trace's id has 32 hexadecimal digits, such as 5b8efff798038103d269b633813fc60c")]
pub struct TraceError;

/// An attribute's key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    key: String,
    value: String,
}

/// The text is not an attribute's key with its value.
#[derive(Debug, thiserror::Error)]
#[error("an attribute is given as its key with its value, such as http.route=/orders")]
pub struct AttributeError;

/// A condition on the view, with the values of its parameters. It has only the terms that are asked for, so that each statement is
/// planned for these.
#[derive(Default)]
pub(super) struct Condition {
    terms: Vec<String>,
    values: Vec<Box<dyn ToSql + Send + Sync>>,
}

impl Filter {
    pub(super) fn condition(&self) -> Condition {
        let mut condition = Condition::default();
        match &self.services[..] {
            [] => {}
            // The planner estimates the records of one service better this way.
            [service] => condition.and("service_name = ?", service.clone()),
            services => condition.and("service_name = ANY (?)", services.to_vec()),
        }
        if let Some(lowest) = self.severity.and_then(Severity::lowest_number) {
            condition.and("severity_number >= ?", lowest);
        }
        if let Some(text) = &self.text {
            condition.and("body ILIKE ?", pattern(text));
        }
        if let Some(TraceId(id)) = &self.trace {
            condition.and("trace_id = ?", id.clone());
        }
        self.attributes.iter().for_each(|attribute| attribute.narrow(&mut condition));
        condition
    }
}

impl Attribute {
    /// A value that looks like a number may be one, or a text.
    fn narrow(&self, condition: &mut Condition) {
        let object = |value: serde_json::Value| serde_json::json!({ &*self.key: value }).to_string();
        let text = object(serde_json::Value::String(self.value.clone()));
        match serde_json::from_str(&self.value) {
            Ok(value) if !matches!(value, serde_json::Value::String(_)) => {
                let first = condition.value(text);
                let second = condition.value(object(value));
                condition.holds(format!(
                    "(attributes @> {first}::text::jsonb OR attributes @> {second}::text::jsonb)"
                ));
            }
            _ => condition.and("attributes @> ?::text::jsonb", text),
        }
    }
}

impl Condition {
    /// Adds a term, with `?` for the value.
    pub(super) fn and(&mut self, term: &str, value: impl ToSql + Send + Sync + 'static) {
        let parameter = self.value(value);
        self.terms.push(term.replace('?', &parameter));
    }

    /// Adds a term.
    pub(super) fn holds(&mut self, term: String) {
        self.terms.push(term);
    }

    /// The values, in the order of their parameters.
    pub(super) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }

    fn value(&mut self, value: impl ToSql + Send + Sync + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&if self.terms.is_empty() { "true".to_owned() } else { self.terms.join(" AND ") })
    }
}

impl FromStr for TraceId {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { Ok(Self(text.to_ascii_lowercase())) } else { Err(TraceError) }
    }
}

impl FromStr for Attribute {
    type Err = AttributeError;

    fn from_str(text: &str) -> Result<Self, AttributeError> {
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or(AttributeError)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// The LIKE pattern for any text that contains `text`.
fn pattern(text: &str) -> String {
    format!("%{}%", text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_has_what_is_asked_for() {
        assert_eq!(Filter::default().condition().to_string(), "true");
        let filter = Filter {
            services: vec!["shop".into(), "till".into()],
            severity: "warn".parse().ok(),
            text: Some("100%".into()),
            trace: "A".repeat(32).parse().ok(),
            attributes: vec!["a.b==".parse().unwrap(), "order=17".parse().unwrap()],
        };
        let condition = filter.condition();
        let expected = "service_name = ANY ($1) AND severity_number >= $2 AND body ILIKE $3 AND trace_id = $4 AND \
                        attributes @> $5::text::jsonb AND (attributes @> $6::text::jsonb OR attributes @> $7::text::jsonb)";
        assert_eq!(condition.to_string(), expected);
        let values = format!("{:?}", condition.values());
        let expected =
            r#"[["shop", "till"], 13, "%100\\%%", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{\"a.b\":\"=\"}", "#;
        assert!(values.starts_with(expected), "{values}");
        assert!(values.ends_with(r#""{\"order\":\"17\"}", "{\"order\":17}"]"#), "{values}");
    }

    #[test]
    fn what_is_no_id_and_no_attribute_is_refused() {
        for text in ["", "5b8e", "5b8efff798038103d269b633813fc60g", "é5b8efff798038103d269b633813fc6"] {
            assert!(text.parse::<TraceId>().is_err(), "{text}");
        }
        assert!(["", "order", "=17"].iter().all(|text| text.parse::<Attribute>().is_err()));
    }
}
