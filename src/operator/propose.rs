//! Drafts a mapping: fills each column of a live table from the source that its name suggests.

use std::collections::BTreeMap;

use crate::operator::command_error::CommandError;
use crate::postgres::dsn::Target;
use crate::postgres::pool::Pool;
use crate::postgres::session::Connection;
use crate::store::Config;
use crate::store::existing::{LiveColumn, LiveTable};
use crate::table::Mapping;
use crate::table::mapping::ColumnType;
use crate::table::mapping::config::{ColumnConfig, Field, Generated, Group, Literal, TableConfig};
use crate::values::plain::{is_obeyed, plain};

/// A source for each column of `table`, which is written as `schema.table`, at `target`, or the reason why it has none.
///
/// # Errors
///
/// If the table cannot be read.
pub async fn propose(
    target: Target,
    config: &Config,
    table: &str,
) -> Result<Vec<(String, Result<ColumnConfig, String>)>, CommandError> {
    let pool = Pool::new(target, 1, config.timeout)?;
    let not_there = || CommandError::NoTable(table.to_owned());
    let (schema, name) = table.split_once('.').ok_or_else(not_there)?;
    let read = async |c: &Connection| LiveTable::read(c, schema, name).await;
    let live = pool.session(config.timeout, read).await?.ok_or_else(not_there)?;
    Ok(live.columns.iter().map(|column| (column.name.clone(), proposal(column))).collect())
}

/// A source for `column`, or the reason why it has none.
fn proposal(column: &LiveColumn) -> Result<ColumnConfig, String> {
    let Ok(sql_type) = column.sql_type.parse::<ColumnType>() else {
        return Err(format!("forebay cannot write {}", plain(&column.sql_type)));
    };
    if column.name.contains(is_obeyed) {
        return Err("forebay takes no control characters in a name".to_owned());
    }
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

/// The source that a column's name suggests, by default the attribute of that name.
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

/// The default of a NOT NULL column.
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
