//! An existing table and how its rows are filled: `exporters.postgres.table`, checked and ready for use.
//!
//! The types are those of the configuration, not of the catalogue, because rows are made before forebay has reached the database;
//! the writer compares both. A value is converted to its column's type if that is obvious (the text "12" to an integer), cut to the
//! column's width, or else replaced by the column's default. Replacements are counted ([`crate::table::ReplacedKind`]) and never
//! cost the record.

mod bounds;
pub mod config;
mod fill;
mod keys;
mod types;
mod value;

#[cfg(test)]
mod tests;

use super::identifier::quoted;
use super::row::RowWriter;
use super::text::Replaced;
use crate::otlp::value::AnyValue;
use bounds::Bounds;
use config::{ColumnConfig, Field, Generated, Group, Literal, TableConfig};
use keys::{Keys, Pattern};
pub use types::{ColumnType, UnknownType};
use value::Value;

/// An existing table, and how its rows are filled.
#[derive(Debug)]
pub struct Mapping {
    schema: String,
    table: String,
    columns: Vec<Column>,
    /// The keys of records' attributes that columns use.
    record_keys: Keys,
    resource_keys: Keys,
    scope_keys: Keys,
    bounds: Bounds,
}

/// One column that is filled.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as the configuration states it.
    pub sql_type: ColumnType,
    /// Whether it may be left NULL.
    pub nullable: bool,
    /// The first source with a value fills it.
    sources: Vec<Source>,
    /// Whether it is the same for all records of a scope.
    is_of_scope: bool,
    /// The field for each of these values, as text.
    map: Vec<(Vec<u8>, Box<[u8]>)>,
    /// The field if there is no value, or none of its type.
    default: Option<Box<[u8]>>,
}

impl Column {
    /// Whether the record's time fills it.
    pub fn is_of_time(&self) -> bool {
        let is_time = |source: &Source| matches!(source, Source::Field(Field::Time | Field::TimeUnixNano));
        self.sources.iter().any(is_time)
    }

    /// Whether forebay generates it.
    pub fn is_made_up(&self) -> bool {
        self.sources.contains(&Source::Uuid)
    }
}

/// The source of a value.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Field(Field),
    /// By its index among the keys.
    Attribute(usize),
    Resource(usize),
    Scope(usize),
    Group {
        keys: Vec<usize>,
        patterns: Vec<usize>,
    },
    Rest,
    /// All attributes of the record.
    All,
    /// The column's default.
    Constant,
    Uuid,
}

/// A key of the configuration whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The path below `table`.
    pub path: Vec<String>,
    /// The value found.
    pub found: String,
    /// The allowed values.
    pub expected: String,
}

type Built<T> = Result<T, Refusal>;

/// The most columns of a table in PostgreSQL.
const MOST_COLUMNS: usize = 1600;

impl Mapping {
    /// The mapping of `config`.
    ///
    /// # Errors
    ///
    /// The first key that cannot be used.
    pub fn new(config: &TableConfig) -> Built<Self> {
        let name = config.name.split_once('.').filter(|(schema, table)| is_name(schema) && is_name(table));
        let Some((schema, table)) = name else {
            let expected = "schema and table, such as public.logs, with the letters that PostgreSQL shows";
            return Err(refusal(&["name"], format!("{:?}", config.name), expected));
        };
        let mut mapping = Self {
            schema: schema.to_owned(),
            table: table.to_owned(),
            columns: Vec::with_capacity(config.columns.len()),
            record_keys: Keys::default(),
            resource_keys: Keys::default(),
            scope_keys: Keys::default(),
            bounds: Bounds::default(),
        };
        if !(1..=MOST_COLUMNS).contains(&config.columns.len()) {
            let found = format!("{} columns", config.columns.len());
            return Err(refusal(&["columns"], found, "1 to 1600 columns, each with what it is filled with"));
        }
        for (name, column) in &config.columns {
            let built = mapping.column(name, column).map_err(|mut refusal| {
                refusal.path.splice(0..0, ["columns".to_owned(), name.clone()]);
                refusal
            })?;
            mapping.columns.push(built);
        }
        mapping.bounds = Bounds::of(&mapping.columns);
        Ok(mapping)
    }

    /// The columns that are filled, in the order of each row.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The names of schema and table.
    pub fn names(&self) -> (&str, &str) {
        (&self.schema, &self.table)
    }

    /// The table, ready for a statement.
    pub fn identifier(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// A column; `columns.NAME` is not in the path of its refusal.
    fn column(&mut self, name: &str, config: &ColumnConfig) -> Built<Column> {
        if !is_name(name) {
            return Err(refusal(&[], format!("{name:?}"), "a column's name of 1 to 63 bytes"));
        }
        let (sources, natural) = self.sources(config)?;
        let sql_type = config.sql_type.unwrap_or(natural);
        if sources.iter().any(Source::is_object) && !sql_type.holds_objects() {
            return Err(refusal(
                &["type"],
                sql_type.to_string(),
                "json, jsonb or text for several attributes",
            ));
        }
        let written = |key: &[&str], literal: &Literal| {
            encode(sql_type, literal).ok_or_else(|| {
                refusal(key, format!("{:?}", literal.0), format!("a value that {sql_type} holds"))
            })
        };
        let mut map = Vec::with_capacity(config.map.len());
        for (from, to) in &config.map {
            map.push((from.clone().into_bytes(), written(&["map", from], to)?));
        }
        let default = match (&config.constant, &config.default) {
            (Some(_), Some(_)) => {
                return Err(refusal(&["default"], "default beside constant", "one of the two"));
            }
            (Some(constant), None) => Some(written(&["constant"], constant)?),
            (None, Some(default)) => Some(written(&["default"], default)?),
            (None, None) => None,
        };
        let always = sources.iter().any(|source| source.is_always_there(sql_type));
        Ok(Column {
            name: name.to_owned(),
            sql_type,
            nullable: default.is_none() && !always,
            is_of_scope: sources.iter().all(Source::is_of_scope),
            sources,
            map,
            default,
        })
    }

    /// The sources of a column, and their natural type.
    fn sources(&mut self, config: &ColumnConfig) -> Built<(Vec<Source>, ColumnType)> {
        let single = self.source(config);
        let group = config.attributes.as_ref().map(|group| self.group(group)).transpose()?;
        let generated = config.generate.map(|Generated::Uuid| (Source::Uuid, ColumnType::Uuid));
        let constant = config.constant.is_some().then_some((Source::Constant, ColumnType::Text(None)));
        let mut found: Vec<_> = single.into_iter().chain(group).chain(generated).chain(constant).collect();
        let several = !config.first_of.is_empty();
        if found.len() + usize::from(several) != 1 {
            let what = if found.is_empty() && !several { "no source" } else { "several sources" };
            let expected =
                "one of field, attribute, resource, scope, attributes, constant, generate, first_of";
            return Err(refusal(&[], what, expected));
        }
        for (index, source) in config.first_of.iter().enumerate() {
            let one = self.source(source);
            let has_more = !source.is_source_alone();
            if one.len() != 1 || has_more {
                let found =
                    if has_more { "further keys".to_owned() } else { format!("{} sources", one.len()) };
                let expected = "one of field, attribute, resource, scope";
                return Err(refusal(&["first_of", &format!("[{index}]")], found, expected));
            }
            found.extend(one);
        }
        let natural = found[0].1;
        Ok((found.into_iter().map(|(source, _)| source).collect(), natural))
    }

    /// The sources that `config` names; more than one is an error of the caller's.
    fn source(&mut self, config: &ColumnConfig) -> Vec<(Source, ColumnType)> {
        let text = ColumnType::Text(None);
        let field = config.field.map(|field| match field {
            Field::Attributes => (Source::All, field.natural_type()),
            field => (Source::Field(field), field.natural_type()),
        });
        let attribute =
            config.attribute.as_ref().map(|key| (Source::Attribute(self.record_keys.add(key)), text));
        let resource =
            config.resource.as_ref().map(|key| (Source::Resource(self.resource_keys.add(key)), text));
        let scope = config.scope.as_ref().map(|key| (Source::Scope(self.scope_keys.add(key)), text));
        [field, attribute, resource, scope].into_iter().flatten().collect()
    }

    fn group(&mut self, group: &Group) -> Built<(Source, ColumnType)> {
        let Group::Keys(names) = group else { return Ok((Source::Rest, ColumnType::Jsonb)) };
        if names.is_empty() {
            return Err(refusal(&["attributes"], "no keys", "a list of keys, or rest"));
        }
        let (mut keys, mut patterns) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            match name.split_once('*') {
                None => {
                    let place = self.record_keys.add(name);
                    if !keys.contains(&place) {
                        keys.push(place);
                    }
                }
                Some((before, after)) if !after.contains('*') => {
                    patterns.push(self.record_keys.add_pattern(Pattern::new(before, after)));
                }
                Some(_) => {
                    let index = format!("[{index}]");
                    return Err(refusal(&["attributes", &index], format!("{name:?}"), "at most one *"));
                }
            }
        }
        Ok((Source::Group { keys, patterns }, ColumnType::Jsonb))
    }
}

impl Source {
    /// Whether it is the same for all records of a scope.
    fn is_of_scope(&self) -> bool {
        match self {
            Self::Resource(_) | Self::Scope(_) | Self::Constant => true,
            Self::Field(field) => field.is_of_scope(),
            Self::Attribute(_) | Self::Group { .. } | Self::Rest | Self::All | Self::Uuid => false,
        }
    }

    /// Whether each record has it and `into` holds all of its values.
    fn is_always_there(&self, into: ColumnType) -> bool {
        match self {
            Self::Uuid => matches!(into, ColumnType::Uuid | ColumnType::Text(_)),
            Self::Field(field) => {
                field.is_always_there()
                    && (into.holds(field.natural_type())
                        || matches!(into, ColumnType::Text(_) | ColumnType::Json))
            }
            Self::All => into.holds_objects(),
            _ => false,
        }
    }

    fn is_object(&self) -> bool {
        matches!(self, Self::Group { .. } | Self::Rest | Self::All)
    }
}

impl Field {
    /// Its type in the view.
    fn natural_type(self) -> ColumnType {
        match self {
            Self::Time | Self::ObservedTime => ColumnType::Timestamptz,
            Self::TimeUnixNano | Self::ObservedTimeUnixNano => ColumnType::BigInt,
            Self::SeverityNumber => ColumnType::SmallInt,
            Self::TraceFlags | Self::DroppedAttributesCount => ColumnType::Integer,
            Self::Attributes | Self::Resource | Self::ScopeAttributes => ColumnType::Jsonb,
            Self::SeverityText
            | Self::Severity
            | Self::ServiceName
            | Self::Body
            | Self::EventName
            | Self::TraceId
            | Self::SpanId
            | Self::ScopeName
            | Self::ScopeVersion
            | Self::ResourceSchemaUrl
            | Self::ScopeSchemaUrl => ColumnType::Text(None),
        }
    }

    fn is_of_scope(self) -> bool {
        matches!(
            self,
            Self::ServiceName
                | Self::Resource
                | Self::ScopeAttributes
                | Self::ScopeName
                | Self::ScopeVersion
                | Self::ResourceSchemaUrl
                | Self::ScopeSchemaUrl
        )
    }

    fn is_always_there(self) -> bool {
        matches!(
            self,
            Self::Time
                | Self::TimeUnixNano
                | Self::TraceFlags
                | Self::DroppedAttributesCount
                | Self::Resource
                | Self::ScopeAttributes
        )
    }
}

/// Whether PostgreSQL accepts the name in quotes.
fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && !name.contains(char::is_control)
}

/// `literal` as a field of type `into`; `None` if it is no value of that type, or would be replaced.
fn encode(into: ColumnType, literal: &Literal) -> Option<Box<[u8]>> {
    let text = literal.0.as_str();
    let value = match into {
        ColumnType::Json | ColumnType::Jsonb => {
            serde_json::from_str::<serde_json::Value>(text).ok()?;
            // JSON allows this character, jsonb does not.
            if text.contains("\\u0000") {
                return None;
            }
            Value::Json(text)
        }
        _ => Value::Any(AnyValue::String(text.as_bytes())),
    };
    let (mut out, mut replaced) = (Vec::new(), Replaced::default());
    let written = value::write(&mut RowWriter::at(&mut out, &mut replaced), into, value);
    (written == Ok(true) && replaced == Replaced::default()).then(|| out.into_boxed_slice())
}

fn refusal(path: &[&str], found: impl Into<String>, expected: impl Into<String>) -> Refusal {
    let path = path.iter().map(|&step| step.to_owned()).collect();
    Refusal { path, found: found.into(), expected: expected.into() }
}
