//! Compares an existing table in a live database with the configuration.

mod engine;

use super::schema::SchemaError;
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::table::ddl::LOG_RECORDS;
use crate::table::identifier::quoted;
use crate::table::mapping::{Column, ColumnType};
use crate::table::{Destination, Mapping, RowFormat};

/// The table as the catalogue has it.
#[derive(Debug)]
pub(crate) struct LiveTable {
    /// `r`, `p`, `v` and so on.
    kind: String,
    /// Whether it has an INSTEAD OF INSERT trigger.
    has_trigger_instead: bool,
    /// The engine that stores its rows, if it is not PostgreSQL itself.
    engine: Option<&'static str>,
    /// Whether row-level security applies to the role.
    has_policies: bool,
    may_use_schema: bool,
    role: String,
    pub(crate) columns: Vec<LiveColumn>,
}

/// A column as the catalogue has it.
#[derive(Debug)]
pub(crate) struct LiveColumn {
    pub(crate) name: String,
    /// As PostgreSQL spells it; for a domain, its base type.
    pub(crate) sql_type: String,
    pub(crate) not_null: bool,
    /// Whether the table fills it by default.
    pub(crate) has_default: bool,
    pub(crate) is_generated: bool,
    pub(crate) is_identity: bool,
    may_insert: bool,
}

/// Checks that the table takes the rows of `mapping`.
pub(crate) async fn check(connection: &Connection, mapping: &Mapping) -> Result<(), SchemaError> {
    let problems = differences(connection, mapping).await?;
    let table = mapping.identifier();
    if problems.is_empty() { Ok(()) } else { Err(SchemaError::Table { table, problems }) }
}

/// The differences between the live table and `mapping`, each with the cure.
pub(crate) async fn differences(connection: &Connection, mapping: &Mapping) -> Result<Vec<String>, Failure> {
    let (schema, table) = mapping.names();
    let identifier = mapping.identifier();
    let Some(live) = LiveTable::read(connection, schema, table).await? else {
        return Ok(vec![format!(
            "{identifier} is not there: write exporters.postgres.table.name as schema.table, with the letters that \
             PostgreSQL shows"
        )]);
    };
    let mut problems = live.problems(&quoted(schema), &identifier);
    problems.extend(mapping.columns().iter().filter_map(|column| live.problem_of(column)));
    problems.extend(live.unfilled(mapping));
    problems.extend(live.missing_privilege(mapping, &identifier));
    Ok(problems)
}

/// The reason why `destination` cannot take rows of `format`: they were made for another table, or it lacks one of their columns, or
/// has it with another type, so that their bytes would be read as something else. Then it is a failure of these rows.
pub(crate) async fn refusal(
    connection: &Connection,
    destination: &Destination,
    format: &RowFormat,
) -> Result<Option<Failure>, Failure> {
    let told = |mark: &Option<String>| mark.clone().unwrap_or_else(|| LOG_RECORDS.to_owned());
    let (made_for, now) = (told(&format.destination), told(&destination.mark()));
    if format.destination != destination.mark() {
        let message = format!("it was made for {made_for}, and records go to {now} now");
        return Ok(Some(Failure::of_a_row("22000", message)));
    }
    let (schema, table) = destination.names();
    // If the table is not there, the COPY says so.
    let Some(live) = LiveTable::read(connection, schema, table).await? else { return Ok(None) };
    Ok(format.columns.iter().find_map(|(name, stated)| {
        let Some(live) = live.find(name).filter(|live| !live.is_generated) else {
            let message = format!("{now} has no column {name} any more, which the row has");
            return Some(Failure::of_a_row("42703", message));
        };
        let found = &live.sql_type;
        let holds = match (found.parse::<ColumnType>(), stated.parse::<ColumnType>()) {
            (Ok(live), Ok(stated)) => live.holds(stated),
            _ => found == stated,
        };
        let message = format!("column {name} of {now} is {found}, and the row has it as {stated}");
        (!holds).then(|| Failure::of_a_row("42804", message))
    }))
}

impl LiveTable {
    /// Reads the table from the catalogue; `None` if there is none.
    pub(crate) async fn read(
        connection: &Connection,
        schema: &str,
        table: &str,
    ) -> Result<Option<Self>, Failure> {
        let select = "SELECT c.relkind::text, c.relrowsecurity AND row_security_active(c.oid), \
                      has_schema_privilege(n.oid, 'USAGE'), current_user::text, c.oid, \
                      EXISTS (SELECT FROM pg_trigger g \
                              WHERE g.tgrelid = c.oid AND g.tgtype & 69 = 69 AND g.tgenabled <> 'D') \
                      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                      WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
        let Some(row) = connection.query_opt(select, &[&schema, &table]).await? else { return Ok(None) };
        let oid: u32 = row.get(4);
        // format_type qualifies citext with its schema, which the DBA has chosen, unless that is in the search_path.
        let select = "SELECT a.attname::text, CASE b.typname WHEN 'citext' THEN 'citext' ELSE \
                      format_type(b.oid, CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END) END, \
                      a.attnotnull OR t.typnotnull, \
                      a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attgenerated <> '', a.attidentity <> '', \
                      has_column_privilege(a.attrelid, a.attnum, 'INSERT') \
                      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
                      JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
                      WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
        let columns = connection.query(select, &[&oid]).await?;
        let engine = engine::of(connection, oid).await?;
        let columns = columns.iter().map(|row| LiveColumn {
            name: row.get(0),
            sql_type: row.get(1),
            not_null: row.get(2),
            has_default: row.get(3),
            is_generated: row.get(4),
            is_identity: row.get(5),
            may_insert: row.get(6),
        });
        Ok(Some(Self {
            kind: row.get(0),
            has_trigger_instead: row.get(5),
            engine,
            has_policies: row.get(1),
            may_use_schema: row.get(2),
            role: row.get(3),
            columns: columns.collect(),
        }))
    }

    /// The problems of the table as a whole.
    fn problems(&self, schema: &str, identifier: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let what = match self.kind.as_str() {
            "v" if !self.has_trigger_instead => Some("a view without an INSTEAD OF INSERT trigger"),
            "m" => Some("a materialized view"),
            _ => None,
        };
        if let Some(what) = what {
            problems.push(format!(
                "{identifier} is {what}, into which COPY cannot write: name the table behind it"
            ));
        }
        if let Some(engine) = self.engine {
            problems.push(format!(
                "{identifier} {engine}, so that one refused record cannot be told from the others: name a plain table, or leave \
                 exporters.postgres.table out"
            ));
        }
        let role = quoted(&self.role);
        if !self.may_use_schema {
            problems.push(format!(
                "role {role} may not use its schema: GRANT USAGE ON SCHEMA {schema} TO {role}"
            ));
        }
        if self.has_policies {
            problems.push(format!(
                "policies apply to the role in {identifier}, into which COPY is then refused: ALTER TABLE {identifier} \
                 DISABLE ROW LEVEL SECURITY, or give the role BYPASSRLS"
            ));
        }
        problems
    }

    /// The reason why `column` cannot be filled.
    fn problem_of(&self, column: &Column) -> Option<String> {
        let Column { name, sql_type, nullable, .. } = column;
        let Some(live) = self.find(name) else {
            return Some(format!("column {name} is not there: add it, or take it out of table.columns"));
        };
        if live.is_generated {
            return Some(format!("column {name} is generated by the table: take it out of table.columns"));
        }
        let found = &live.sql_type;
        match found.parse::<ColumnType>() {
            Err(_) => {
                let cure = "take it out of table.columns, or change its type";
                return Some(format!("column {name} is {found}, which forebay cannot write: {cure}"));
            }
            Ok(live) if !live.holds(*sql_type) => {
                return Some(format!(
                    "column {name} is {found}, and table.columns fills it as {sql_type}: write `type: {live}`"
                ));
            }
            Ok(_) => {}
        }
        (live.not_null && *nullable).then(|| {
            format!("column {name} is NOT NULL, and a record may have nothing for it: write a `default`")
        })
    }

    /// The privilege that the role lacks to fill the columns.
    fn missing_privilege(&self, mapping: &Mapping, identifier: &str) -> Option<String> {
        let lacks = |column: &&Column| self.find(&column.name).is_some_and(|live| !live.may_insert);
        let lacking: Vec<_> =
            mapping.columns().iter().filter(lacks).map(|column| quoted(&column.name)).collect();
        let which = match lacking.len() {
            0 => return None,
            count if count == mapping.columns().len() => String::new(),
            _ => format!(" ({})", lacking.join(", ")),
        };
        Some(format!("GRANT INSERT{which} ON {identifier} TO {}", quoted(&self.role)))
    }

    fn find(&self, name: &str) -> Option<&LiveColumn> {
        self.columns.iter().find(|live| live.name == name)
    }

    /// The columns that must be filled and are not.
    fn unfilled<'a>(&'a self, mapping: &'a Mapping) -> impl Iterator<Item = String> + 'a {
        let is_filled = |live: &LiveColumn| mapping.columns().iter().any(|column| column.name == live.name);
        let must_be = |live: &&LiveColumn| live.not_null && !live.has_default && !live.is_generated;
        self.columns.iter().filter(must_be).filter(move |live| !is_filled(live)).map(|live| {
            format!("column {} is NOT NULL and has no default: say in table.columns what fills it", live.name)
        })
    }
}
