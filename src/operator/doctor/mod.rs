//! Checks for an operator when something is wrong, or before the first start: whether the store can be reached, takes records, and
//! will go on doing so.
//!
//! Each check returns findings, with the cure for anything wrong. It changes nothing. `queue` looks at the disk. `hosts` connects,
//! and each of the other files checks one aspect of the store.

mod hosts;
mod partitions;
mod pooler;
mod privileges;
mod public;
mod queue;
mod server;
mod slots;
mod store;
mod table;
mod transactions;
mod view;

use std::time::Duration;

pub use queue::examine_queue;
use serde::Serialize;

use crate::postgres::Row;
use crate::postgres::dsn::Target;
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::store::Config;
use crate::table::Destination;
use crate::table::identifier::{Schema, quoted};

/// The verdict of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// Records are written, but something needs attention.
    Warning,
    /// Records are not written, or will not be for long.
    Problem,
}

/// A result of a check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// Its verdict.
    pub verdict: Verdict,
    /// The result, with the cure.
    pub text: String,
}

/// The store to check, and the connection to it.
struct Patient<'a> {
    connection: &'a Connection,
    /// The host that the connection leads to.
    host: Target,
    config: &'a Config,
    schema: Schema,
    destination: Destination,
}

/// The findings of a check, or why it failed.
type Checked = Result<Vec<(Verdict, String)>, Failure>;

/// The longest that all checks together may take, without connecting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks the store at `target`, and reports each finding.
pub async fn examine(target: &Target, config: &Config, tell: &mut impl FnMut(Finding)) {
    let (reached, connection) = hosts::reach(target, config).await;
    reached.into_iter().for_each(&mut *tell);
    let Some((mut session, host)) = connection else { return };
    let asked = session.within(PATIENCE, async |connection: &Connection| {
        let schema = Schema::new(config.schema.clone());
        let destination = config.destination().expect("the configuration was checked");
        examine_by(&Patient { connection, host, config, schema, destination }, tell).await;
        Ok::<_, Failure>(())
    });
    if let Err(failure) = asked.await {
        let text = format!("not all questions could be asked: {failure}");
        tell(Finding { check: "connection", verdict: Verdict::Problem, text });
    }
}

async fn examine_by(p: &Patient<'_>, tell: &mut impl FnMut(Finding)) {
    let mut report = |check, checked: Checked| {
        let unknown = |failure| vec![(Verdict::Warning, format!("cannot be looked at: {failure}"))];
        for (verdict, text) in checked.unwrap_or_else(unknown) {
            tell(Finding { check, verdict, text });
        }
    };
    // First, because a pooler may make the other checks fail.
    report("pooler", pooler::check(p).await);
    report("version", server::version(p).await);
    report("encoding", server::encoding(p).await);
    report("clock", server::clock(p).await);
    report("durability", server::durability(p).await);
    report("timeouts", server::timeouts(p).await);
    report("transactions", transactions::check(p).await);
    report("connections", slots::check(p).await);
    report("schema", store::schema(p).await);
    report("view", view::check(p).await);
    report("privileges", privileges::check(p).await);
    report("row security", privileges::row_security(p).await);
    report("public", public::check(p).await);
    report("triggers", table::triggers(p).await);
    match p.destination.mapping() {
        Some(mapping) => report("table", table::check(p, mapping).await),
        None => {
            report("partitions", partitions::check(p).await);
            report("retention", partitions::retention(p).await);
            report("indexes", partitions::indexes(p).await);
        }
    }
    report("dead letters", store::dead_letters(p).await);
    report("disk", store::disk(p).await);
    report("checkpoints", server::checkpoints(p).await);
}

fn ok(text: impl Into<String>) -> (Verdict, String) {
    (Verdict::Ok, text.into())
}

fn warning(text: impl Into<String>) -> (Verdict, String) {
    (Verdict::Warning, text.into())
}

fn problem(text: impl Into<String>) -> (Verdict, String) {
    (Verdict::Problem, text.into())
}

impl Patient<'_> {
    /// The value of a setting of the role, the database or the server, without the session's own; `None` if this server does not
    /// know it.
    async fn setting(&self, name: &str) -> Result<Option<String>, Failure> {
        let select = "SELECT reset_val FROM pg_settings WHERE name = $1";
        Ok(self.connection.query_opt(select, &[&name]).await?.and_then(|row| row.get(0)))
    }

    /// The current role, as SQL, and whether it is a superuser.
    async fn role(&self) -> Result<(String, bool), Failure> {
        let select = "SELECT rolname::text, rolsuper FROM pg_roles WHERE rolname = current_user";
        let row = self.connection.query_one(select, &[]).await?;
        Ok((quoted(row.get(0)), row.get(1)))
    }

    /// The row of `select`; `None` if the role may not read it.
    async fn readable(&self, select: &str) -> Result<Option<Row>, Failure> {
        match self.connection.query_one(select, &[]).await.map_err(Failure::from) {
            Err(failure) if failure.sqlstate.as_deref() == Some("42501") => Ok(None),
            row => row.map(Some),
        }
    }

    /// Whether the schema has this table.
    async fn has(&self, table: &str) -> Result<bool, Failure> {
        // Not to_regclass, which needs USAGE on the schema.
        let select = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                      WHERE nspname = $1 AND relname = $2)";
        Ok(self.connection.query_one(select, &[&self.schema.name(), &table]).await?.get(0))
    }
}
