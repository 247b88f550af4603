//! The view that people read, and the functions over it, in a live database.
//!
//! No write depends on them, and users change them: they add columns to the view or replace it, and other objects depend on it. So
//! they are made apart from the tables, one by one. If one cannot be renewed, it stays as it is, forebay reports the statement that
//! helps, goes on writing, and retries. The catalogue shows that something is deferred: the view lacks a column, or a function is
//! missing.

use super::schema::DDL_LOCK;
use crate::postgres::error::Failure;
use crate::postgres::session::{Connection, attempt};
use crate::table::identifier::{Schema, quoted};
use crate::table::reading::{self, Function, NAME};

/// The relation that has the view's name.
#[derive(Debug)]
pub(crate) struct Live {
    oid: u32,
    /// Its kind, as `pg_class` has it.
    kind: String,
    columns: Vec<String>,
    /// The clause that follows its name, to keep its options.
    options: String,
}

impl Live {
    /// Reads the catalogue; `None` if there is no such relation.
    pub(crate) async fn look(connection: &Connection, schema: &Schema) -> Result<Option<Self>, Failure> {
        let select = "SELECT c.oid, c.relkind::text, ARRAY(SELECT attname::text FROM pg_attribute \
                      WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum), \
                      coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '') \
                      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                      WHERE n.nspname = $1 AND c.relname = $2";
        let found = connection.query_opt(select, &[&schema.name(), &NAME]).await?;
        Ok(found.map(|row| Self {
            oid: row.get(0),
            kind: row.get(1),
            columns: row.get(2),
            options: row.get(3),
        }))
    }

    /// The columns that it lacks.
    pub(crate) fn lacks(&self) -> Vec<&'static str> {
        reading::columns().filter(|name| !self.columns.iter().any(|column| column == name)).collect()
    }

    /// Whether it has exactly the columns of an older version.
    pub(crate) fn may_be_older(&self) -> bool {
        self.kind == "v"
            && self.columns.iter().map(String::as_str).eq(reading::columns().take(self.columns.len()))
    }

    /// The message, with the cure, that somebody has changed the view and it lacks columns.
    pub(crate) fn is_somebodys(&self, schema: &Schema) -> String {
        let kind = match self.kind.as_str() {
            "v" => "VIEW",
            "m" => "MATERIALIZED VIEW",
            // ALTER TABLE renames any other relation as well.
            _ => "TABLE",
        };
        format!(
            "{schema}.{NAME} is not as forebay made it and lacks {}, which forebay query and tail, the functions or the dashboards \
             read: ALTER {kind} {schema}.{NAME} RENAME TO logs_of_yours, and forebay makes its own within half a minute (what depends on yours \
             stay with it; grant SELECT on the new one to those who read it), or add these columns to yours as `forebay schema` \
             has them",
            self.lacks().join(", ")
        )
    }
}

/// The signatures of the functions that are missing, and of those whose source is not this version's.
pub(crate) async fn changed(
    connection: &Connection,
    schema: &Schema,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let functions = reading::functions(schema);
    let signatures: Vec<_> = functions.iter().map(|function| function.signature.as_str()).collect();
    let select = "SELECT (SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure(signature)) \
                  FROM unnest($1::text[]) WITH ORDINALITY wanted (signature, number) ORDER BY number";
    let sources = connection.query(select, &[&signatures]).await?;
    let (mut missing, mut others) = (Vec::new(), Vec::new());
    for (function, row) in functions.into_iter().zip(sources) {
        match row.get::<_, Option<String>>(0) {
            None => missing.push(function.signature),
            Some(source) if source != function.body => others.push(function.signature),
            Some(_) => {}
        }
    }
    Ok((missing, others))
}

/// Makes what is missing; with `all`, replaces older versions as well. Returns the deferred steps, each with its cure.
///
/// # Errors
///
/// If the connection is lost.
pub(crate) async fn renew(
    connection: &Connection,
    schema: &Schema,
    all: bool,
) -> Result<Vec<String>, Failure> {
    let is_complete = Live::look(connection, schema).await?.is_some_and(|live| live.lacks().is_empty());
    if is_complete && !all && changed(connection, schema).await?.0.is_empty() {
        return Ok(Vec::new());
    }
    let renewed = attempt(connection, renew_each(connection, schema)).await?;
    Ok(renewed.unwrap_or_else(|failure| {
        vec![format!("the view {schema}.{NAME} and the functions over it: {}", cure(&failure, None))]
    }))
}

async fn renew_each(connection: &Connection, schema: &Schema) -> Result<Vec<String>, Failure> {
    connection.batch_execute("BEGIN").await?;
    connection.batch_execute(DDL_LOCK).await?;
    let role: String = connection.query_one("SELECT quote_ident(current_user)", &[]).await?.get(0);
    let mut waits = Vec::new();
    match step(connection, async || renew_view(connection, schema).await).await? {
        Ok(None) => {}
        Ok(Some(somebodys)) => waits.push(somebodys),
        Err(failure) => {
            let owner = format!("ALTER VIEW {schema}.{NAME} OWNER TO {role}");
            waits.push(format!("the view {schema}.{NAME}: {}", cure(&failure, Some(&owner))));
        }
    }
    for function in reading::functions(schema) {
        if let Err(failure) = step(connection, async || renew_function(connection, &function).await).await? {
            let signature = &function.signature;
            let statement = match failure.sqlstate.as_deref() {
                Some("42501") => format!("ALTER FUNCTION {signature} OWNER TO {role}"),
                _ => format!("ALTER FUNCTION {signature} RENAME TO function_of_yours"),
            };
            waits.push(format!("the function {signature}: {}", cure(&failure, Some(&statement))));
        }
    }
    connection.batch_execute("COMMIT").await?;
    Ok(waits)
}

/// Does `work` behind a savepoint, so that it can fail alone. The outer failure ends the session.
async fn step<T>(
    connection: &Connection,
    work: impl AsyncFnOnce() -> Result<T, Failure>,
) -> Result<Result<T, Failure>, Failure> {
    connection.batch_execute("SAVEPOINT step").await?;
    let done = work().await;
    match &done {
        Ok(_) => connection.batch_execute("RELEASE SAVEPOINT step").await?,
        Err(failure) if failure.leaves_session() => {
            connection.batch_execute("ROLLBACK TO SAVEPOINT step; RELEASE SAVEPOINT step").await?;
        }
        Err(_) => return done.map(Ok),
    }
    Ok(done)
}

/// Makes the view, or replaces an older version. Returns the message if somebody has changed the view.
async fn renew_view(connection: &Connection, schema: &Schema) -> Result<Option<String>, Failure> {
    let options = match Live::look(connection, schema).await? {
        None => String::new(),
        Some(live) if live.lacks().is_empty() => return Ok(None),
        Some(live) if live.may_be_older() && is_older(connection, schema, &live).await? => live.options,
        Some(live) => return Ok(Some(live.is_somebodys(schema))),
    };
    connection.batch_execute(&reading::view(schema, &options)).await?;
    let has_comment = "SELECT obj_description(to_regclass($1), 'pg_class') IS NOT NULL";
    let name = format!("{schema}.{NAME}");
    if !connection.query_one(has_comment, &[&name]).await?.get::<_, bool>(0) {
        connection.batch_execute(&reading::comments(schema)).await?;
    }
    Ok(None)
}

/// Whether an older version has made the view: a temporary view of that version has the same definition on this server.
async fn is_older(connection: &Connection, schema: &Schema, live: &Live) -> Result<bool, Failure> {
    let name = quoted(&format!("forebay_{:08x}", fastrand::u32(..)));
    let make = reading::view_as(schema, &name, "", live.columns.len());
    connection.batch_execute(&make).await?;
    let same = "SELECT pg_get_viewdef($1::oid) = pg_get_viewdef(to_regclass($2)::oid)";
    let is_same = connection.query_one(same, &[&live.oid, &format!("{schema}.{name}")]).await?.get(0);
    connection.batch_execute(&format!("DROP VIEW {schema}.{name}")).await?;
    Ok(is_same)
}

/// Makes the function, or replaces an older version. One that returns the rows of a view that was renamed is dropped first, unless
/// somebody has changed its source.
async fn renew_function(connection: &Connection, function: &Function) -> Result<(), Failure> {
    let Function { signature, body, sql } = function;
    let select = "SELECT c.relname <> $3 FROM pg_proc f JOIN pg_type t ON t.oid = f.prorettype \
                  JOIN pg_class c ON c.oid = t.typrelid \
                  WHERE f.oid = to_regprocedure($1) AND f.prosrc = $2";
    let returns_others = connection.query_opt(select, &[signature, body, &NAME]).await?;
    if returns_others.is_some_and(|row| row.get(0)) {
        connection.batch_execute(&format!("DROP FUNCTION {signature}")).await?;
    }
    Ok(connection.batch_execute(sql).await?)
}

/// PostgreSQL's message, with the cure.
fn cure(failure: &Failure, statement: Option<&str>) -> String {
    match (failure.sqlstate.as_deref(), statement) {
        _ if failure.may_be_a_lock() => {
            format!("{failure}; somebody uses it for long, and it is tried again")
        }
        (Some("42501" | "42P13" | "2BP01"), Some(statement)) => format!("{failure}: {statement}"),
        _ => failure.to_string(),
    }
}
