//! Every failure has a class, and the class says what to do.
//!
//! Source: PostgreSQL manual, appendix "PostgreSQL Error Codes", and what PostgreSQL 15 really answers.
//! A code alone neither drops a record nor holds up others: whose fault it is, `verdict.rs` decides.

use std::fmt;

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use strum::{IntoStaticStr, VariantArray};
use tokio_postgres::error::{DbError, Severity};

use crate::postgres::context::copy_line;

/// What to do about a failure; in snake case it is the label `class` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Class {
    /// The connection is gone or the server is not there: keep the batch, take another connection.
    Connection,
    /// The server cannot do it now: keep the batch, wait.
    Busy,
    /// The disk is full: keep the batch, wait long, since each try leaves dead rows behind.
    DiskFull,
    /// One row is at fault: find it, take it out, write the others.
    Poison,
    /// The database does not let us, mostly because somebody has to repair something.
    Refused,
    /// A code that says nothing of whose fault it is.
    Unknown,
}

/// A failure to write, with what is needed to decide and to tell. It holds no data of records: PostgreSQL's
/// detail and context stay out, because they may repeat a row.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// PostgreSQL's code, where it answered with one.
    pub sqlstate: Option<String>,
    /// What PostgreSQL or the network said.
    pub message: String,
    /// The line of the COPY that PostgreSQL names, counted from 1.
    pub copy_line: Option<usize>,
    origin: Origin,
}

/// Where a failure comes from, as far as its class does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The server or the way to it.
    Server,
    /// No connection of our own was free in time.
    OwnPool,
    /// Our own deadline.
    Deadline,
    /// The session ended.
    SessionEnd,
    /// A look into the catalogue.
    Catalogue,
    /// A function in PL/pgSQL, which may raise any code.
    Raised,
}

impl Class {
    /// The class of an SQLSTATE. `routine` is the server's function that raised it.
    pub fn of_sqlstate(code: &str, routine: Option<&str>) -> Self {
        let class = Self::of_code(code, routine);
        // The server is well, and the session goes on.
        match class {
            Self::Connection | Self::Busy | Self::DiskFull if is_raised(routine) => Self::Unknown,
            class => class,
        }
    }

    fn of_code(code: &str, routine: Option<&str>) -> Self {
        match code {
            // "No partition of relation found for row": the table's fault, not the row's.
            "23514" if routine == Some("ExecFindPartition") => Self::Refused,
            // Our own bytes do not make a COPY, so no row is to blame.
            "22P04" => Self::Unknown,
            "53100" => Self::DiskFull,
            // A session that has become read-only, as after a failover, is of no use any more.
            "25006" => Self::Connection,
            "55P03" | "55006" | "40001" | "40P01" | "57014" => Self::Busy,
            _ => match code.get(..2).unwrap_or_default() {
                "08" | "25" => Self::Connection,
                "57" => Self::Connection,
                "40" | "53" => Self::Busy,
                "22" | "23" | "54" | "P0" => Self::Poison,
                "28" | "3D" | "3F" | "42" | "0A" | "26" | "0L" | "0P" => Self::Refused,
                _ => Self::Unknown,
            },
        }
    }
}

impl Failure {
    /// A failure that has no SQLSTATE.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, sqlstate: None, message: message.into(), copy_line: None, origin: Origin::Server }
    }

    /// A row is at fault, for a reason that PostgreSQL would give this code.
    pub fn of_a_row(code: &str, message: String) -> Self {
        Self { sqlstate: Some(code.to_owned()), ..Self::new(Class::Poison, message) }
    }

    /// The batch took longer than its deadline.
    pub fn deadline(seconds: f64) -> Self {
        let message = format!("PostgreSQL did not answer within {seconds} s");
        Self { origin: Origin::Deadline, ..Self::new(Class::Connection, message) }
    }

    /// The session has ended before.
    pub(super) fn session_end() -> Self {
        Self { origin: Origin::SessionEnd, ..Self::new(Class::Connection, "the session has ended") }
    }

    /// Whether a COMMIT that ended like this may have been carried out all the same: there was no answer, or the
    /// server's last word before the session's end.
    pub fn leaves_commit_unknown(&self) -> bool {
        let of_code = |code: &str| code == "40003" || code.starts_with("08") || code.starts_with("57P");
        self.ends_the_session() || self.sqlstate.as_deref().is_none_or(of_code)
    }

    /// Whether the session ended with it, for whatever reason.
    pub fn ends_the_session(&self) -> bool {
        self.origin == Origin::SessionEnd
    }

    /// Whether PostgreSQL answered with it, and the session goes on, if only with a rollback.
    pub(crate) fn leaves_session(&self) -> bool {
        self.sqlstate.is_some() && !self.ends_the_session()
    }

    /// The same, as what keeps `step` of a migration from being done.
    pub(crate) fn of_migration(self, step: &str) -> Self {
        let lock = "; a session that has used its tables for long is in the way (pg_stat_activity), and it is tried again";
        let message = format!("{step}: {}{}", self.message, if self.may_be_a_lock() { lock } else { "" });
        Self { message, ..self }
    }

    /// "No partition of relation found for row".
    pub fn is_a_missing_partition(&self) -> bool {
        self.class == Class::Refused && self.sqlstate.as_deref() == Some("23514")
    }

    /// What a dead letter gives as the code: PostgreSQL's own, or a word where it gave none.
    pub fn code(&self) -> &str {
        match (&self.sqlstate, self.origin) {
            (Some(code), _) => code,
            (None, Origin::Deadline) => "timeout",
            (None, Origin::SessionEnd) => "session_end",
            (None, _) => "not_stored",
        }
    }

    /// No connection was free in time, which is no fault of the database: nothing was tried.
    pub fn is_a_wait_for_our_own_pool(&self) -> bool {
        self.origin == Origin::OwnPool
    }

    /// Whether less at a time may go well: it took too long, was cancelled for that, or took too much memory.
    pub fn asks_for_less(&self) -> bool {
        self.origin == Origin::Deadline || matches!(self.sqlstate.as_deref(), Some("57014" | "53200"))
    }

    /// Whether its code is of what passes by itself, whoever raised it. What has taken all of its time has had that already.
    pub fn may_pass(&self) -> bool {
        let has_had_its_time = self.class == Class::Busy && self.asks_for_less();
        let code = self.sqlstate.as_deref().and_then(|code| code.get(..2));
        !self.ends_the_session()
            && !has_had_its_time
            && matches!(code, Some("08" | "40" | "53" | "55" | "57"))
    }

    /// Whether it may be that somebody else holds on to what we need.
    pub fn may_be_a_lock(&self) -> bool {
        let by_its_code = matches!(self.sqlstate.as_deref(), Some("55P03" | "57014"));
        self.origin == Origin::Deadline || (by_its_code && self.origin != Origin::Raised)
    }

    /// Whether a row like it is there already.
    pub fn is_a_duplicate(&self) -> bool {
        self.origin != Origin::Raised && matches!(self.sqlstate.as_deref(), Some("23505" | "23P01"))
    }

    /// The same, as what keeps dead letters from being kept: whatever it is, no row that is sent is at fault.
    pub fn of_dead_letters(self) -> Self {
        let message = format!("dead letters cannot be kept: {}", self.message);
        let class = if self.class == Class::Poison { Class::Refused } else { self.class };
        Self { class, message, ..self }
    }

    /// The same, as what is wrong with the table, since it refuses a row that it took before.
    pub fn of_the_table(self) -> Self {
        let message = format!("the table refuses records that it took before: {}", self.message);
        Self { class: Class::Refused, message, ..self }
    }

    /// The table is not what the configuration says: `problems` tells what is different.
    pub fn mismatch(problems: &str) -> Self {
        Self { origin: Origin::Catalogue, ..Self::new(Class::Refused, problems) }
    }

    /// Whether it may be that the table has been changed. Too few bytes for a column's new type are 08P01.
    pub fn may_be_a_mismatch(&self) -> bool {
        matches!(self.class, Class::Poison | Class::Refused) || self.sqlstate.as_deref() == Some("08P01")
    }

    /// Whether it may be that somebody has dropped a table, or the schema.
    pub fn may_be_a_missing_table(&self) -> bool {
        matches!(self.sqlstate.as_deref(), Some("42P01" | "3F000"))
    }

    /// Whether the table is not what the configuration says.
    pub fn is_a_mismatch(&self) -> bool {
        self.origin == Origin::Catalogue
    }

    /// What a COPY into `table` ended with, and the line that PostgreSQL names.
    pub fn of_copy(error: tokio_postgres::Error, table: &str) -> Self {
        let context = error.as_db_error().and_then(DbError::where_);
        let copy_line = context.and_then(|context| copy_line(context, table));
        if error.as_db_error().is_some_and(|error| is_late(error, table)) {
            return Self { class: Class::Busy, ..error.into() };
        }
        Self { copy_line, ..error.into() }
    }

    /// The same, as what a session ended with.
    pub(crate) fn at_the_end_of_a_session(self) -> Self {
        Self { origin: Origin::SessionEnd, ..self }
    }

    /// Whether the connection can be used again after a rollback: where the server had begun to take rows. Of a COPY that is
    /// refused before that, tokio-postgres sends one Sync more than it awaits answers for.
    pub fn leaves_connection_usable(&self) -> bool {
        self.class == Class::Poison || (self.copy_line.is_some() && !self.ends_the_session())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.sqlstate {
            Some(code) => write!(f, " (SQLSTATE {code})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<&DbError> for Failure {
    fn from(error: &DbError) -> Self {
        let code = error.code().code();
        let class = Class::of_sqlstate(code, error.routine());
        let (sqlstate, message) = (Some(code.to_owned()), error.message().to_owned());
        let ends = matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        let origin = match ends {
            true => Origin::SessionEnd,
            false if is_raised(error.routine()) => Origin::Raised,
            false => Origin::Server,
        };
        Self { class, sqlstate, message, copy_line: None, origin }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => db.into(),
            // The cause is in the source: "error connecting to server" alone helps nobody.
            None => Self::new(Class::Connection, with_source(&error)).at_the_end_of_a_session(),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            PoolError::PostCreateHook(HookError::Message(message)) => Self::new(Class::Connection, message),
            // All connections are at work, which is no fault of the database.
            PoolError::Timeout(TimeoutType::Wait) => {
                Self { origin: Origin::OwnPool, ..Self::new(Class::Busy, "all connections are in use") }
            }
            PoolError::Timeout(_) => Self::new(Class::Connection, "no connection in time"),
            PoolError::Closed | PoolError::NoRuntimeSpecified => {
                Self::new(Class::Connection, error.to_string())
            }
        }
    }
}

/// Whether the server's function that raised an error is PL/pgSQL's RAISE, which has any code.
fn is_raised(routine: Option<&str>) -> bool {
    routine == Some("exec_stmt_raise")
}

/// Whether the row was on its way into a partition of `table`, the default one, while its own was made. The next try finds that.
fn is_late(error: &DbError, table: &str) -> bool {
    let is_of_a_partition =
        error.routine() == Some("ExecPartitionCheckEmitError") && error.table() != Some(table);
    error.code().code() == "23514" && is_of_a_partition
}

fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        let source = source.to_string();
        if !text.contains(&source) {
            text = format!("{text}: {source}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
