//! The store's DDL: tables and migrations. The view is in `reading.rs`.
//!
//! This module states each table once, `log_records` from [`COLUMNS`]. The statements that create them and the check of a live schema
//! ([`TABLES`]) come from the same lists. The migrations are numbered; a released one never changes.

mod migrations;
mod parts;

use std::fmt::Write as _;
use std::sync::LazyLock;

use super::columns::COLUMNS;
use super::identifier::{Schema, literal, quoted};
use super::reading;

pub use migrations::{MIGRATIONS, Migration};
pub use parts::Parts;

/// A table of the store.
#[derive(Debug)]
pub struct Table {
    /// Its name in the schema.
    pub name: &'static str,
    /// Its purpose.
    pub comment: &'static str,
    /// Its columns.
    pub columns: Vec<TableColumn>,
    /// The privileges that forebay needs on it to write records, if another role owns it.
    pub privileges: &'static [&'static str],
    /// The SQL after the list of columns.
    options: &'static str,
}

/// A column of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub struct TableColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type, as PostgreSQL's `format_type` spells it.
    pub sql_type: &'static str,
    constraint: &'static str,
    comment: &'static str,
}

/// The tables of the newest version of the store.
pub static TABLES: LazyLock<Vec<Table>> = LazyLock::new(tables);

/// The search_path of forebay's own SQL. It has no schema where another role could put a function or an operator that matches
/// better.
pub const SEARCH_PATH: &str = "pg_catalog, pg_temp";

/// The table of the records.
pub const LOG_RECORDS: &str = "log_records";

/// The table of the numbers of records by minute, service and severity.
pub(super) const LOG_COUNTS: &str = "log_counts";

/// The statement that streams rows into `log_records`.
pub fn copy_statement(schema: &Schema) -> String {
    let columns: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
    format!("COPY {schema}.{LOG_RECORDS} ({}) FROM STDIN WITH (FORMAT binary)", columns.join(", "))
}

/// The statement that streams rows with fields of these `names` into `table`, which is quoted already.
pub fn copy_statement_into(table: &str, names: &[impl AsRef<str>]) -> String {
    let columns: Vec<_> = names.iter().map(|name| quoted(name.as_ref())).collect();
    format!("COPY {table} ({}) FROM STDIN WITH (FORMAT binary)", columns.join(", "))
}

/// All statements for a database whose store has `version` (0 for no store), as a DBA would run them.
pub fn ddl_since(version: i32, schema: &Schema) -> String {
    let begin = format!("BEGIN;\nSET LOCAL search_path = {SEARCH_PATH};\n");
    let tables = migrations_table(schema);
    // Only for a new store: even for an existing schema, this needs the right to create one, which an owner may not have.
    let create =
        if version == 0 { format!("CREATE SCHEMA IF NOT EXISTS {schema};\n") } else { String::new() };
    let mut ddl = format!("{begin}{create}{tables};\n");
    let missing = || MIGRATIONS.iter().filter(|migration| migration.version > version);
    for migration in missing() {
        ddl.push_str(&(migration.sql)(schema));
        let _ =
            writeln!(ddl, "INSERT INTO {schema}.schema_migrations (version) VALUES ({});", migration.version);
    }
    ddl.push_str("COMMIT;\n");
    if missing().any(|migration| migration.reading) {
        let (view, comments) = (reading::view(schema, ""), reading::comments(schema));
        let functions: String = reading::functions(schema).into_iter().map(|function| function.sql).collect();
        let _ = write!(
            ddl,
            "\n-- For reading only: records are stored whether this succeeds or not. A view that somebody has changed is left as it is by\n\
             -- leaving these statements out; under another name (ALTER VIEW ... RENAME TO ...) it is in nobody's way.\n\
             {begin}{view}{comments}COMMIT;\n\n{begin}{functions}COMMIT;\n"
        );
    }
    ddl
}

/// The statement that creates the table of applied migrations.
pub fn migrations_table(schema: &Schema) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {schema}.schema_migrations (\n    \
         version integer PRIMARY KEY,\n    applied_at timestamp with time zone NOT NULL DEFAULT now()\n)"
    )
}

const DEAD_LETTERS: &str = "Rows that log_records or an existing table refused, with the reason";
const SERVICE: TableColumn = column("service", "text", "", "The service name of the row's resource");
const LANE: TableColumn = column(
    "lane",
    "smallint",
    "NOT NULL",
    "A connection of that run; -1 writes losses, -2 is of a queue itself",
);
/// The durable queue that a lane writes, and its records that are stored.
const QUEUE: [TableColumn; 2] = [
    column("queue", "uuid", "", "The queue on disk that it writes; NULL if there is none"),
    column(
        "stored",
        "bigint[]",
        "",
        "A stamp, then the records of that queue that are stored: a run, the first number and the one behind the last, for each range",
    ),
];
const ATTEMPTS: TableColumn =
    column("attempts", "integer", "NOT NULL DEFAULT 1", "How often PostgreSQL has refused the row");

const DESTINATION: TableColumn =
    column("destination", "text", "", "The existing table that refused the row; NULL is log_records");

const ORIGINS: [TableColumn; 2] = [
    column("resource_id", "uuid", "", "The resource that the row names, in dead_letter_origins"),
    column("scope_id", "uuid", "", "The scope that the row names, in dead_letter_origins"),
];

const LAST_USED: TableColumn = column(
    "last_used",
    "timestamp with time zone",
    "NOT NULL DEFAULT now()",
    "When a record named it, or up to a day before the last one that did",
);

const fn column(
    name: &'static str,
    sql_type: &'static str,
    constraint: &'static str,
    comment: &'static str,
) -> TableColumn {
    TableColumn { name, sql_type, constraint, comment }
}

fn tables() -> Vec<Table> {
    let json = |comment| column("attributes", "jsonb", "NOT NULL", comment);
    let text = |name, comment| column(name, "text", "", comment);
    let id = |comment| column("id", "uuid", "PRIMARY KEY", comment);
    let dropped = column("dropped_attributes_count", "integer", "NOT NULL", "Attributes the sender dropped");
    let first_seen =
        column("first_seen", "timestamp with time zone", "NOT NULL DEFAULT now()", "When it was stored");
    let records = COLUMNS
        .iter()
        .map(|c| column(c.name, c.sql_type, if c.nullable { "" } else { "NOT NULL" }, c.comment));
    vec![
        Table {
            name: "resources",
            comment: "The senders of log records, each stored once",
            columns: vec![
                id("A hash of the rest"),
                text("service_name", "The attribute service.name"),
                json("All attributes"),
                text("schema_url", "The schema of the attributes"),
                dropped,
                first_seen,
                LAST_USED,
            ],
            privileges: &["INSERT", "SELECT", "UPDATE"],
            options: "",
        },
        Table {
            name: "scopes",
            comment: "The instrumentation scopes of log records, each stored once",
            columns: vec![
                id("A hash of the rest"),
                text("name", "The library or logger"),
                text("version", "Its version"),
                json("All attributes"),
                text("schema_url", "The schema of the scope's records"),
                dropped,
                first_seen,
                LAST_USED,
            ],
            privileges: &["INSERT", "SELECT", "UPDATE"],
            options: "",
        },
        Table {
            name: LOG_RECORDS,
            comment: "Storage of log records; read the view logs instead, storage may change",
            columns: records.collect(),
            privileges: &["INSERT"],
            options: " PARTITION BY RANGE (time)",
        },
        Table {
            name: "dead_letters",
            comment: DEAD_LETTERS,
            columns: vec![
                column("id", "bigint", "PRIMARY KEY GENERATED ALWAYS AS IDENTITY", ""),
                column("at", "timestamp with time zone", "NOT NULL DEFAULT now()", "When it was refused"),
                column("sqlstate", "text", "NOT NULL", "PostgreSQL's error code"),
                column("message", "text", "NOT NULL", "PostgreSQL's error message"),
                column("columns", "text[]", "NOT NULL", "The names of the row's fields"),
                column("row", "bytea", "NOT NULL", "The row in PostgreSQL's binary COPY format"),
                SERVICE,
                ATTEMPTS,
                DESTINATION,
                ORIGINS[0],
                ORIGINS[1],
            ],
            privileges: &["INSERT"],
            options: "",
        },
        dead_letter_origins(),
        losses(),
        log_counts(),
        Table {
            name: "lanes",
            comment: "The last batch of each writer lane, by which an unanswered COMMIT is looked up",
            columns: vec![
                column("gateway", "uuid", "NOT NULL", "One run of forebay"),
                LANE,
                column("sequence", "bigint", "NOT NULL", "The number of its last batch"),
                column("updated_at", "timestamp with time zone", "NOT NULL DEFAULT now()", ""),
                QUEUE[0],
                QUEUE[1],
            ],
            privileges: &["INSERT", "SELECT", "UPDATE"],
            options: "",
        },
    ]
}

fn dead_letter_origins() -> Table {
    Table {
        name: "dead_letter_origins",
        comment: "The resources and scopes that dead letters name, each once, to be stored with them when they are sent again",
        columns: vec![
            column("id", "uuid", "PRIMARY KEY", "As in resources or scopes"),
            column("content", "bytea", "NOT NULL", "The resource or scope as JSON"),
        ],
        privileges: &["INSERT"],
        options: "",
    }
}

fn losses() -> Table {
    Table {
        name: "losses",
        comment: "Records that are not in log_records, by service, severity and reason",
        columns: vec![
            column("since", "timestamp with time zone", "NOT NULL", "They were lost after this"),
            column("until", "timestamp with time zone", "NOT NULL", "They were lost before this"),
            column("service", "text", "", "The service name of their resource"),
            column("severity", "text", "", "TRACE, DEBUG, INFO, WARN, ERROR, FATAL or NULL"),
            column(
                "reason",
                "text",
                "NOT NULL",
                "drop_newest, drop_oldest, share, too_large, retry_exhausted, undelivered, damaged, malformed, too_complex; or \
                 dead_letter, which is kept in dead_letters",
            ),
            column("records", "bigint", "NOT NULL", "Their number"),
            column("gateway", "uuid", "NOT NULL", "The run of forebay that lost them"),
        ],
        privileges: &["INSERT"],
        options: "",
    }
}

fn log_counts() -> Table {
    Table {
        name: LOG_COUNTS,
        comment: "How many records closed partitions have by minute, service and severity; read the function histogram instead",
        columns: vec![
            column(
                "partition_key",
                "text",
                "NOT NULL",
                "The partition, as the comment on its trigger names it",
            ),
            column("start", "timestamp with time zone", "NOT NULL", "The first minute"),
            column("service_name", "text", "", "The service name of their resource"),
            column("severity_number", "smallint", "", "As in log_records"),
            column(
                "counts",
                "integer[]",
                "NOT NULL",
                "The records of each minute from then on, an hour at most",
            ),
            column("is_late", "boolean", "NOT NULL", "For a record that came or went after counting"),
        ],
        privileges: &[],
        options: "",
    }
}

impl Table {
    /// The statements that create the table, beginning with `create`.
    fn definition(&self, schema: &Schema, create: &str) -> String {
        let Self { name, options, .. } = self;
        let columns: Vec<_> = self.columns.iter().map(TableColumn::definition).collect();
        let mut sql = format!("{create} {schema}.{name} (\n    {}\n){options};\n", columns.join(",\n    "));
        let _ = writeln!(sql, "COMMENT ON TABLE {schema}.{name} IS {};", literal(self.comment));
        for column in self.columns.iter().filter(|column| !column.comment.is_empty()) {
            let comment = literal(column.comment);
            let _ = writeln!(sql, "COMMENT ON COLUMN {schema}.{name}.{} IS {comment};", column.name);
        }
        sql
    }
}

impl TableColumn {
    fn definition(&self) -> String {
        format!("{} {} {}", self.name, self.sql_type, self.constraint).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests;
