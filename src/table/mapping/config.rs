//! `exporters.postgres.table` in the YAML: an existing table, and the sources of its columns.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::types::ColumnType;
use crate::values::scalar::{self, Scalar, Words};

/// `exporters.postgres.table`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableConfig {
    /// Schema and table.
    pub name: String,
    /// The columns that are filled, by their names.
    pub columns: BTreeMap<String, ColumnConfig>,
}

/// The source of a column, or `first_of` several.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnConfig {
    /// A field of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Field>,
    /// The value of an attribute of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// The value of an attribute of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The value of an attribute of the scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// A JSON object of attributes of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Group>,
    /// A constant value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<Literal>,
    /// A generated value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generated>,
    /// The first of these with a value fills the column. Each has one of the first four keys, and no other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first_of: Vec<ColumnConfig>,
    /// The column's type; by default the natural type of the source.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub sql_type: Option<ColumnType>,
    /// Replacements of some values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, Literal>,
    /// The value of the column if there is none, or none that the type holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Literal>,
}

impl ColumnConfig {
    /// Whether it has only keys that one of several sources may have.
    pub(super) fn is_source_alone(&self) -> bool {
        let Self { field, attribute, resource, scope, .. } = self.clone();
        *self == Self { field, attribute, resource, scope, ..Self::default() }
    }
}

/// A field of a record, by its name in the view.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The record's time, else its observed time, else its arrival.
    Time,
    /// The same in nanoseconds since 1970.
    TimeUnixNano,
    /// When it was collected.
    ObservedTime,
    /// The same in nanoseconds since 1970.
    ObservedTimeUnixNano,
    /// 1 to 24.
    SeverityNumber,
    /// The severity as the source names it.
    SeverityText,
    /// TRACE, DEBUG, INFO, WARN, ERROR or FATAL.
    Severity,
    /// The resource's `service.name`.
    ServiceName,
    /// The body: a string as it is, anything else as JSON.
    Body,
    /// The event's name.
    EventName,
    /// The trace's id.
    TraceId,
    /// The span's id.
    SpanId,
    /// OTLP's flags.
    TraceFlags,
    /// All attributes of the record, as a JSON object.
    Attributes,
    /// All attributes of the resource, as a JSON object.
    Resource,
    /// All attributes of the scope, as a JSON object.
    ScopeAttributes,
    /// The library or logger.
    ScopeName,
    /// Its version.
    ScopeVersion,
    /// The schema of the resource.
    ResourceSchemaUrl,
    /// The schema of the scope.
    ScopeSchemaUrl,
    /// Attributes that the sender dropped.
    DroppedAttributesCount,
}

/// A value that forebay generates.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Generated {
    /// A UUID of version 7, which grows with time.
    Uuid,
}

/// The attributes of a JSON object.
#[derive(Clone, Debug, PartialEq)]
pub enum Group {
    /// All that no column names.
    Rest,
    /// Those with these keys; a key may have one `*`, which matches any text.
    Keys(Vec<String>),
}

/// A value in the configuration: text, a number, true or false.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Literal(pub String);

const REST: &str = "rest";

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rest => serializer.serialize_str(REST),
            Self::Keys(keys) => keys.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GroupVisitor;

        impl<'de> Visitor<'de> for GroupVisitor {
            type Value = Group;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of keys, or rest")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Group, E> {
                if text == REST {
                    return Ok(Group::Rest);
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Group, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = items.next_element()? {
                    keys.push(key);
                }
                Ok(Group::Keys(keys))
            }
        }

        // For a map, the tree also returns a list or a scalar.
        deserializer.deserialize_map(GroupVisitor)
    }
}

impl Scalar for Literal {
    fn expected() -> Words {
        "text, a number, true or false".into()
    }

    fn parse(text: &str) -> Result<Self, Words> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::read_text(deserializer)
    }
}
