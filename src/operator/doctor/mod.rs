//! What an operator would look at when something is wrong, or before the first start: whether the store can be
//! reached, takes records, and will go on doing so.
//!
//! Each check ends in findings: how it stands, and where it does not stand well, the cure. Nothing is changed.
//! `hosts` gets a connection, the other files look at one side each of what is behind it.

mod hosts;
mod partitions;
mod pooler;
mod privileges;
mod public;
mod server;
mod slots;
mod store;
mod table;
mod transactions;
mod view;

use std::time::Duration;

use serde::Serialize;

use crate::postgres::dsn::Target;
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::store::Config;
use crate::table::Destination;
use crate::table::identifier::{Schema, quoted};

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Well.
    Ok,
    /// Records are written, but something should be looked after.
    Warning,
    /// Records are not written, or will not be for long.
    Problem,
}

/// What one check has found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, and the cure.
    pub text: String,
}

/// What is looked into, and by which connection.
struct Patient<'a> {
    connection: &'a Connection,
    /// The host that the connection leads to.
    host: Target,
    config: &'a Config,
    schema: Schema,
    destination: Destination,
}

/// What a check gives: findings, or why it could not be made.
type Checked = Result<Vec<(Verdict, String)>, Failure>;

/// The longest that all checks together may take, beside connecting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks into the store at `target`, telling each finding.
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
    // First, because the others' statements may fail for what it finds.
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
    /// The value of a setting as the role, the database or the server has it, before this session's own; `None`
    /// where this server does not have it.
    async fn setting(&self, name: &str) -> Result<Option<String>, Failure> {
        let select = "SELECT reset_val FROM pg_settings WHERE name = $1";
        Ok(self.connection.query_opt(select, &[&name]).await?.and_then(|row| row.get(0)))
    }

    /// The role that forebay works as, as SQL, and whether that is a superuser.
    async fn role(&self) -> Result<(String, bool), Failure> {
        let select = "SELECT rolname::text, rolsuper FROM pg_roles WHERE rolname = current_user";
        let row = self.connection.query_one(select, &[]).await?;
        Ok((quoted(row.get(0)), row.get(1)))
    }

    /// Whether the schema has this table.
    async fn has(&self, table: &str) -> Result<bool, Failure> {
        // Not to_regclass, which wants the schema's USAGE.
        let select = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                      WHERE nspname = $1 AND relname = $2)";
        Ok(self.connection.query_one(select, &[&self.schema.name(), &table]).await?.get(0))
    }
}
