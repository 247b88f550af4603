//! A mapping to begin with: every column of a live table, filled by what its name suggests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::operator::command_error::CommandError;
use crate::postgres::dsn::Target;
use crate::postgres::pool::Pool;
use crate::postgres::session::Connection;
use crate::store::Config;
use crate::store::existing::{LiveColumn, LiveTable};
use crate::table::Mapping;
use crate::table::mapping::ColumnType;
use crate::table::mapping::config::{ColumnConfig, Field, Generated, Group, Literal, TableConfig};
use crate::values::plain::{plain, plain_json};

/// The YAML of a mapping for `table`, which is written as `schema.table`, at `target`.
///
/// # Errors
///
/// Where the table cannot be looked at.
pub async fn propose(target: Target, config: &Config, table: &str) -> Result<String, CommandError> {
    let pool = Pool::new(target, 1, config.timeout)?;
    let not_there = || CommandError::NoTable(table.to_owned());
    let (schema, name) = table.split_once('.').ok_or_else(not_there)?;
    let read = async |c: &Connection| LiveTable::read(c, schema, name).await;
    let live = pool.session(config.timeout, read).await?.ok_or_else(not_there)?;
    let mut yaml =
        format!("exporters:\n  postgres:\n    table:\n      name: {}\n      columns:\n", scalar(table));
    for column in &live.columns {
        let name = quoted(&column.name);
        let _ = match proposal(column) {
            Ok(proposal) => writeln!(yaml, "        {name}: {}", flow(&proposal)),
            Err(why) => writeln!(yaml, "        # {name}: {why}"),
        };
    }
    Ok(yaml)
}

/// What could fill `column`, or why nothing should.
fn proposal(column: &LiveColumn) -> Result<ColumnConfig, String> {
    let Ok(sql_type) = column.sql_type.parse::<ColumnType>() else {
        return Err(format!("forebay cannot write {}", plain(&column.sql_type)));
    };
    if column.is_generated || column.is_identity {
        return Err("the table fills it".to_owned());
    }
    let config = ColumnConfig { sql_type: Some(sql_type), ..by_name(&column.name, sql_type) };
    let default = (column.not_null && may_be_null(&config)).then(|| Literal(nothing(sql_type).to_owned()));
    Ok(ColumnConfig { default, ..config })
}

fn may_be_null(config: &ColumnConfig) -> bool {
    let columns = BTreeMap::from([("a".to_owned(), config.clone())]);
    let mapping = Mapping::new(&TableConfig { name: "a.a".to_owned(), columns });
    mapping.is_ok_and(|mapping| mapping.columns()[0].nullable)
}

/// The source that a column's name suggests: else the attribute of this name.
fn by_name(name: &str, sql_type: ColumnType) -> ColumnConfig {
    use ColumnType::{BigInt, Date, Integer, Json, Jsonb, SmallInt, Text, Timestamp, Timestamptz, Uuid};
    let field = |field| ColumnConfig { field: Some(field), ..ColumnConfig::default() };
    let resource = |key: &str| ColumnConfig { resource: Some(key.to_owned()), ..ColumnConfig::default() };
    match (name.to_lowercase().as_str(), sql_type) {
        ("id" | "uuid" | "log_id", Uuid | Text(None | Some(36..))) => {
            ColumnConfig { generate: Some(Generated::Uuid), ..ColumnConfig::default() }
        }
        (
            "timestamp" | "time" | "ts" | "at" | "date" | "datetime" | "created_at" | "logged_at",
            Timestamptz | Timestamp | Date,
        ) => field(Field::Time),
        ("level" | "severity" | "log_level" | "levelname", Text(_)) => field(Field::Severity),
        ("level" | "severity" | "log_level" | "severity_number", SmallInt | Integer | BigInt) => {
            field(Field::SeverityNumber)
        }
        ("message" | "msg" | "body" | "text", Text(_) | Json | Jsonb) => field(Field::Body),
        ("logger" | "logger_name" | "scope_name", Text(_)) => field(Field::ScopeName),
        ("event" | "event_name", Text(_)) => field(Field::EventName),
        ("trace_id" | "traceid", _) => field(Field::TraceId),
        ("span_id" | "spanid", _) => field(Field::SpanId),
        ("service" | "service_name" | "application", Text(_)) => field(Field::ServiceName),
        ("host" | "hostname" | "host_name", Text(_)) => resource("host.name"),
        ("pid" | "process_id", _) => resource("process.pid"),
        ("version" | "service_version" | "app_version", Text(_)) => resource("service.version"),
        ("env" | "environment", Text(_)) => resource("deployment.environment.name"),
        (
            "context" | "attributes" | "extra" | "extras" | "metadata" | "data" | "payload" | "properties"
            | "fields",
            Json | Jsonb,
        ) => ColumnConfig { attributes: Some(Group::Rest), ..ColumnConfig::default() },
        _ => ColumnConfig { attribute: Some(name.to_owned()), ..ColumnConfig::default() },
    }
}

/// What stands in a NOT NULL column where there is nothing for it.
fn nothing(sql_type: ColumnType) -> &'static str {
    match sql_type {
        ColumnType::Text(None | Some(7..)) => "unknown",
        ColumnType::Text(Some(_)) | ColumnType::Bytea => "",
        ColumnType::Boolean => "false",
        ColumnType::Json | ColumnType::Jsonb => "{}",
        ColumnType::Timestamptz | ColumnType::Timestamp | ColumnType::Date => "1970-01-01",
        ColumnType::Uuid => "00000000-0000-0000-0000-000000000000",
        ColumnType::Inet => "0.0.0.0",
        ColumnType::SmallInt
        | ColumnType::Integer
        | ColumnType::BigInt
        | ColumnType::Real
        | ColumnType::Double => "0",
    }
}

/// On one line of YAML.
fn flow(config: &ColumnConfig) -> String {
    let tree = serde_json::to_value(config).expect("a configuration has text as keys");
    let pairs = tree.as_object().into_iter().flatten().map(|(key, value)| match value {
        Value::String(text) => format!("{key}: {}", scalar(text)),
        other => format!("{key}: {other}"),
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// Text as a value, in which a single $ may begin a reference.
fn scalar(text: &str) -> String {
    quoted(&text.replace('$', "$$"))
}

/// Text, in quotes unless nothing in it could be taken for something else.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '(' | ')' | ' '))
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_lowercase());
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain || is_number { text.to_owned() } else { plain_json(&Value::from(text).to_string()) }
}
