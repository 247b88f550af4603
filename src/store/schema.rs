//! The schema in a live database: created, migrated, checked.

use std::collections::HashMap;

use super::view;
use crate::postgres::error::Failure;
use crate::postgres::session::{Cause, Connection, attempt};
use crate::table::ddl::{LOG_RECORDS, MIGRATIONS, Parts, TABLES, migrations_table};
use crate::table::identifier::Schema;
use crate::table::reading::NAME;

/// Why the schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// PostgreSQL failed or refused to look or create.
    #[error("{0}")]
    Store(#[from] Failure),
    /// A step to a newer version could not be done.
    #[error("{0}")]
    Migration(Failure),
    /// The schema does not fit this version of forebay.
    #[error("schema {schema} does not fit: {}; run `forebay schema` for the DDL, or set create_schema: true", .problems.join("; "))]
    Mismatch {
        /// The schema.
        schema: Schema,
        /// The differences, one each.
        problems: Vec<String>,
    },
    /// The existing table is not what the configuration says.
    #[error("table {table} does not fit: {}", .problems.join("; "))]
    Table {
        /// The table.
        table: String,
        /// The differences, one each with the cure.
        problems: Vec<String>,
    },
    /// A newer forebay has migrated it.
    #[error(
        "schema {schema} has version {found}, this forebay knows versions up to {known}: use the newer forebay"
    )]
    TooNew {
        /// The schema.
        schema: Schema,
        /// The version in the database.
        found: i32,
        /// The newest version known here.
        known: i32,
    },
}

impl Cause for SchemaError {
    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Store(failure) | Self::Migration(failure) => Some(failure),
            Self::Mismatch { .. } | Self::Table { .. } | Self::TooNew { .. } => None,
        }
    }
}

impl From<crate::postgres::Error> for SchemaError {
    fn from(error: crate::postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The result of preparing the schema.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Tables were made or changed, so that an attempt which missed one is worth repeating.
    pub(crate) made: bool,
    /// The deferred steps, on which no write depends, each with its cure.
    pub waits: Vec<String>,
}

/// The result of a migration.
struct Migrated {
    made: bool,
    /// The view or the functions have changed.
    reading: bool,
}

/// Serialises all DDL of forebays in one database. The number is arbitrary.
pub(crate) const DDL_LOCK: &str = "SELECT pg_advisory_xact_lock(7310310021550413)";

/// Bounds waits for locks, because other sessions queue behind them: on the table, the partition, the default partition.
pub(crate) const IN_A_MOMENT: &str =
    "BEGIN; SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = '2s'";

/// Makes sure that the schema is the one this forebay writes to: by creating and migrating it, or, without `create`, by checking
/// it. With `again` deferred steps are retried.
pub async fn prepare(
    connection: &Connection,
    schema: &Schema,
    create: bool,
    again: bool,
) -> Result<Prepared, SchemaError> {
    let mut prepared = Prepared::default();
    if !create {
        check(connection, schema).await?;
        return Ok(prepared);
    }
    let mut all = again;
    match attempt(connection, migrate(connection, schema)).await? {
        Ok(migrated) => {
            prepared.made = migrated.made;
            all |= migrated.reading;
        }
        // Tables that somebody has made by hand are as good.
        Err(SchemaError::Migration(failure)) => {
            if !differences(connection, schema).await?.is_empty() {
                return Err(failure.into());
            }
            prepared.waits.push(failure.to_string());
        }
        Err(error) => return Err(error),
    }
    check(connection, schema).await?;
    prepared.waits.extend(view::renew(connection, schema, all).await?);
    Ok(prepared)
}

/// Checks that everything that forebay writes to is there.
async fn check(connection: &Connection, schema: &Schema) -> Result<(), SchemaError> {
    let mut problems = differences(connection, schema).await?;
    let encoding: String = connection.query_one("SHOW server_encoding", &[]).await?.get(0);
    if encoding != "UTF8" {
        problems.insert(0, format!("the database's encoding is {encoding} and should be UTF8"));
    }
    if problems.is_empty() { Ok(()) } else { Err(SchemaError::Mismatch { schema: schema.clone(), problems }) }
}

/// Restores tables that somebody has dropped, and then applies the missing migrations in one transaction, one forebay at a time.
async fn migrate(connection: &Connection, schema: &Schema) -> Result<Migrated, SchemaError> {
    connection.batch_execute("BEGIN").await?;
    connection.batch_execute(DDL_LOCK).await?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let mut found = version(connection, schema).await?;
    if found > known {
        return Err(SchemaError::TooNew { schema: schema.clone(), found, known });
    }
    let there = parts(connection, schema).await?;
    let mut again = String::new();
    if there.has_tables() || found > 0 {
        again = there.tables_again(schema);
        if !again.is_empty() {
            // In a transaction of its own, because a migration may have to wait.
            connection.batch_execute(&format!("{again}; COMMIT; BEGIN; {DDL_LOCK}")).await?;
        }
    }
    if found == 0 && there.has_tables() && differences(connection, schema).await?.is_empty() {
        // Somebody has dropped the table of versions.
        note_versions(connection, schema, found, known).await?;
        found = known;
    }
    let missing = || MIGRATIONS.iter().filter(|migration| migration.version > found);
    for migration in missing() {
        let step = |failure: crate::postgres::Error| {
            let to = migration.version;
            let step =
                format!("schema {schema} has version {found} and cannot be migrated to {known}, at {to}");
            SchemaError::Migration(Failure::from(failure).of_migration(&step))
        };
        connection.batch_execute(&(migration.sql)(schema)).await.map_err(step)?;
        note_versions(connection, schema, migration.version - 1, migration.version).await.map_err(step)?;
    }
    connection.batch_execute("COMMIT").await?;
    if found < known {
        tracing::info!(%schema, from = found, to = known, "migrated the schema");
    } else if !again.is_empty() {
        tracing::warn!(%schema, "made again what was missing of the store; somebody has dropped it");
    }
    Ok(Migrated {
        made: found < known || !again.is_empty(),
        reading: missing().any(|migration| migration.reading),
    })
}

/// Records that the migrations after version `from` up to `to` are applied.
async fn note_versions(
    connection: &Connection,
    schema: &Schema,
    from: i32,
    to: i32,
) -> Result<(), crate::postgres::Error> {
    let note = format!(
        "INSERT INTO {schema}.schema_migrations (version) SELECT generate_series($1::int4 + 1, $2::int4)"
    );
    connection.execute(&note, &[&from, &to]).await?;
    Ok(())
}

/// The parts of the store that exist. It does not use to_regclass, which needs USAGE on the schema.
pub(crate) async fn parts(connection: &Connection, schema: &Schema) -> Result<Parts, Failure> {
    let select = "SELECT ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = n.oid AND relkind IN ('r', 'p', 'v', 'm', 'f') \
                  AND relname NOT LIKE 'log\\_records\\_%'), \
                  ARRAY(SELECT proname::text FROM pg_proc WHERE pronamespace = n.oid), \
                  NOT EXISTS (SELECT FROM pg_class c JOIN pg_partitioned_table ON partrelid = c.oid \
                  WHERE relnamespace = n.oid AND relname = $2 AND partdefid = 0) \
                  OR EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid AND relname = $2 || '_default'), \
                  EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid AND relname = $3 AND relkind IN ('v', 'm')) \
                  FROM pg_namespace n WHERE nspname = $1";
    let row = connection.query_opt(select, &[&schema.name(), &LOG_RECORDS, &NAME]).await?;
    Ok(row.map_or_else(Parts::default, |row| Parts {
        relations: row.get(0),
        functions: row.get(1),
        has_default: row.get(2),
        has_view: row.get(3),
    }))
}

/// The version of the schema. The schema and its table of migrations are created if they are missing.
async fn version(connection: &Connection, schema: &Schema) -> Result<i32, SchemaError> {
    // Asked first, because CREATE SCHEMA IF NOT EXISTS needs the privilege to create even if the schema exists.
    let exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    if !connection.query_one(exists, &[&schema.name()]).await?.get::<_, bool>(0) {
        connection.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    let exists = "SELECT to_regclass($1) IS NOT NULL";
    if !connection.query_one(exists, &[&format!("{schema}.schema_migrations")]).await?.get::<_, bool>(0) {
        connection.batch_execute(&migrations_table(schema)).await?;
    }
    let newest = format!("SELECT coalesce(max(version), 0) FROM {schema}.schema_migrations");
    Ok(connection.query_one(&newest, &[]).await?.get(0))
}

/// The differences between the live schema and [`TABLES`]. Additional columns are allowed, unless they must be filled.
pub(crate) async fn differences(connection: &Connection, schema: &Schema) -> Result<Vec<String>, Failure> {
    let rows = connection
        .query(
            "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), \
             a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')",
            &[&schema.name()],
        )
        .await?;
    let mut live: HashMap<String, HashMap<String, (String, bool)>> = HashMap::new();
    for row in rows {
        live.entry(row.get(0)).or_default().insert(row.get(1), (row.get(2), row.get(3)));
    }
    let mut problems = Vec::new();
    for table in TABLES.iter() {
        let Some(columns) = live.get(table.name) else {
            problems.push(format!("table {} is missing", table.name));
            continue;
        };
        for column in &table.columns {
            match columns.get(column.name) {
                None => problems.push(format!("column {}.{} is missing", table.name, column.name)),
                Some((found, _)) if found != column.sql_type => problems.push(format!(
                    "column {}.{} is {found} and should be {}",
                    table.name, column.name, column.sql_type
                )),
                Some(_) => {}
            }
        }
        for (name, (_, required)) in columns {
            if *required && !table.columns.iter().any(|column| column.name == name) {
                problems.push(format!("column {}.{name} must be filled and is not known", table.name));
            }
        }
    }
    problems.sort();
    Ok(problems)
}
