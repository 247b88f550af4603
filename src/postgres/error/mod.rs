//! Every failure has a class, and the class says what to do.
//!
//! Source: PostgreSQL manual, appendix "PostgreSQL Error Codes", and the answers of PostgreSQL 15.
//! A code alone neither drops a record nor delays others: `verdict.rs` decides whether a row is at fault.

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use strum::{IntoStaticStr, VariantArray};
use tokio_postgres::error::{DbError, Severity};

use crate::postgres::context::copy_line;

/// The treatment of a failure; in snake case it is the label `class` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Class {
    /// The connection is lost or the server cannot be reached: keep the batch, take another connection.
    Connection,
    /// The server cannot do it now: keep the batch, wait.
    Busy,
    /// The disk is full: keep the batch, wait long, since each attempt leaves dead rows behind.
    DiskFull,
    /// One row is at fault: find it, take it out, write the others.
    Poison,
    /// The database refuses the work, mostly because an operator has to fix something.
    Refused,
    /// The code does not tell the cause.
    Unknown,
}

/// A failure to write. It holds no data of records: PostgreSQL's detail and context are left out, because they may
/// repeat a row.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}{}", sqlstate.as_ref().map_or(String::new(), |code| format!(" (SQLSTATE {code})")))]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// PostgreSQL's code, if it answered with one.
    pub sqlstate: Option<String>,
    /// The message of PostgreSQL or the network.
    pub message: String,
    /// The line of the COPY that PostgreSQL names, counted from 1.
    pub copy_line: Option<usize>,
    origin: Origin,
}

/// The origin of a failure, as far as its class does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The server or the network.
    Server,
    /// No connection of our own pool was free in time.
    OwnPool,
    /// Our own deadline.
    Deadline,
    /// The session ended.
    SessionEnd,
    /// Another process writes in place of this one.
    Fence,
    /// The check of the table in the catalogue.
    Catalogue,
    /// A PL/pgSQL function, which may raise any code.
    Raised,
}

impl Class {
    /// The class of an SQLSTATE. `routine` is the server's function that raised it.
    pub fn of_sqlstate(code: &str, routine: Option<&str>) -> Self {
        match Self::of_code(code, routine) {
            // A trigger raised it: the server works, and the session goes on.
            Self::Connection | Self::Busy | Self::DiskFull if is_raised(routine) => Self::Unknown,
            class => class,
        }
    }

    fn of_code(code: &str, routine: Option<&str>) -> Self {
        match code {
            // "No partition of relation found for row": the table's fault, not the row's.
            "23514" if routine == Some("ExecFindPartition") => Self::Refused,
            // The COPY stream itself is malformed, so no row is to blame.
            "22P04" => Self::Unknown,
            "53100" => Self::DiskFull,
            "55P03" | "55006" | "40001" | "40P01" | "57014" => Self::Busy,
            _ => match code.get(..2).unwrap_or_default() {
                // 25006 is a session that has become read-only, as after a failover. It is of no more use.
                "08" | "25" | "57" => Self::Connection,
                "40" | "53" => Self::Busy,
                "22" | "23" | "54" | "P0" => Self::Poison,
                "28" | "3D" | "3F" | "42" | "0A" | "26" | "0L" | "0P" => Self::Refused,
                _ => Self::Unknown,
            },
        }
    }
}

impl Failure {
    /// A failure without an SQLSTATE.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, sqlstate: None, message: message.into(), copy_line: None, origin: Origin::Server }
    }

    /// A row is at fault, for a reason to which PostgreSQL would give this code.
    pub fn of_a_row(code: &str, message: String) -> Self {
        Self { sqlstate: Some(code.to_owned()), ..Self::new(Class::Poison, message) }
    }

    /// The batch took longer than its deadline.
    pub fn deadline(seconds: f64) -> Self {
        let message = format!("PostgreSQL did not answer within {seconds} s");
        Self { origin: Origin::Deadline, ..Self::new(Class::Connection, message) }
    }

    /// The session had already ended.
    pub(super) fn session_end() -> Self {
        Self { origin: Origin::SessionEnd, ..Self::new(Class::Connection, "the session has ended") }
    }

    /// Whether a COMMIT that failed like this may still have taken effect: there was no answer, or the session ended
    /// with it.
    pub fn leaves_commit_unknown(&self) -> bool {
        let of_code = |code: &str| code == "40003" || code.starts_with("08") || code.starts_with("57P");
        self.ends_the_session() || self.sqlstate.as_deref().is_none_or(of_code)
    }

    /// Whether the session ended with it.
    pub fn ends_the_session(&self) -> bool {
        self.origin == Origin::SessionEnd
    }

    /// Whether PostgreSQL answered with it and the session can go on, perhaps after a rollback.
    pub(crate) fn leaves_session(&self) -> bool {
        self.sqlstate.is_some() && !self.ends_the_session()
    }

    /// The same, as the failure of `step` of a migration.
    pub(crate) fn of_migration(self, step: &str) -> Self {
        let lock = "; a long-running session blocks it (pg_stat_activity), and it is tried again";
        let message = format!("{step}: {}{}", self.message, if self.may_be_a_lock() { lock } else { "" });
        Self { message, ..self }
    }

    /// "No partition of relation found for row".
    pub fn is_a_missing_partition(&self) -> bool {
        self.class == Class::Refused && self.sqlstate.as_deref() == Some("23514")
    }

    /// The code for a dead letter: PostgreSQL's, or a word if there is none.
    pub fn code(&self) -> &str {
        match (&self.sqlstate, self.origin) {
            (Some(code), _) => code,
            (None, Origin::Deadline) => "timeout",
            (None, Origin::SessionEnd) => "session_end",
            (None, _) => "not_stored",
        }
    }

    /// Whether no connection of our own pool was free in time. Then the database is not at fault: nothing was tried.
    pub fn is_a_wait_for_our_own_pool(&self) -> bool {
        self.origin == Origin::OwnPool
    }

    /// Whether a smaller batch may succeed: this one took too long, or too much memory.
    pub fn asks_for_less(&self) -> bool {
        self.origin == Origin::Deadline || matches!(self.sqlstate.as_deref(), Some("57014" | "53200"))
    }

    /// Whether its code is of a condition that passes by itself. A failure that used up its time has waited for that already.
    pub fn may_pass(&self) -> bool {
        let has_had_its_time = self.class == Class::Busy && self.asks_for_less();
        let code = self.sqlstate.as_deref().and_then(|code| code.get(..2));
        !self.ends_the_session()
            && !has_had_its_time
            && matches!(code, Some("08" | "40" | "53" | "55" | "57"))
    }

    /// Whether another session may hold a lock that we need.
    pub fn may_be_a_lock(&self) -> bool {
        let by_its_code = matches!(self.sqlstate.as_deref(), Some("55P03" | "57014"));
        self.origin == Origin::Deadline || (by_its_code && self.origin != Origin::Raised)
    }

    /// Whether the table already has such a row.
    pub fn is_a_duplicate(&self) -> bool {
        self.origin != Origin::Raised && matches!(self.sqlstate.as_deref(), Some("23505" | "23P01"))
    }

    /// The same, as a failure to store dead letters: no row of the batch is at fault.
    pub fn of_dead_letters(self) -> Self {
        let message = format!("dead letters cannot be kept: {}", self.message);
        let class = if self.class == Class::Poison { Class::Refused } else { self.class };
        Self { class, message, ..self }
    }

    /// The same, as the table's fault, since it refuses a row that it accepted before.
    pub fn of_the_table(self) -> Self {
        let message = format!("the table refuses records that it accepted before: {}", self.message);
        Self { class: Class::Refused, message, ..self }
    }

    /// The table differs from the configuration in `problems`.
    pub fn mismatch(problems: &str) -> Self {
        Self { origin: Origin::Catalogue, ..Self::new(Class::Refused, problems) }
    }

    /// Another process writes in place of this one, as `message` says.
    pub fn fenced(message: &str) -> Self {
        Self { origin: Origin::Fence, ..Self::new(Class::Refused, message) }
    }

    /// Whether another process writes in place of this one.
    pub fn is_fenced(&self) -> bool {
        self.origin == Origin::Fence
    }

    /// Whether the table may have been changed. Too few bytes for a column's new type give 08P01.
    pub fn may_be_a_mismatch(&self) -> bool {
        matches!(self.class, Class::Poison | Class::Refused) || self.sqlstate.as_deref() == Some("08P01")
    }

    /// Whether a table or the schema may have been dropped.
    pub fn may_be_a_missing_table(&self) -> bool {
        matches!(self.sqlstate.as_deref(), Some("42P01" | "3F000"))
    }

    /// Whether the table differs from the configuration.
    pub fn is_a_mismatch(&self) -> bool {
        self.origin == Origin::Catalogue
    }

    /// The failure of a COPY into `table`, with the line that PostgreSQL names.
    pub fn of_copy(error: tokio_postgres::Error, table: &str) -> Self {
        let answer = error.as_db_error();
        if answer.is_some_and(|error| is_late(error, table)) {
            return Self { class: Class::Busy, ..error.into() };
        }
        let copy_line = answer.and_then(DbError::where_).and_then(|context| copy_line(context, table));
        Self { copy_line, ..error.into() }
    }

    /// The same, as the end of the session.
    pub(crate) fn at_the_end_of_a_session(self) -> Self {
        Self { origin: Origin::SessionEnd, ..self }
    }

    /// Whether the connection can be used again after a rollback: only if the server had begun to accept rows. If a COPY is
    /// refused before that, tokio-postgres sends one Sync more than it awaits answers for.
    pub fn leaves_connection_usable(&self) -> bool {
        self.class == Class::Poison || (self.copy_line.is_some() && !self.ends_the_session())
    }
}

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
            // "error connecting to server" needs its source, which has the cause.
            None => Self::new(Class::Connection, with_source(&error)).at_the_end_of_a_session(),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            PoolError::PostCreateHook(HookError::Message(message)) => Self::new(Class::Connection, message),
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

/// Whether PL/pgSQL's RAISE raised the error, which can have any code.
fn is_raised(routine: Option<&str>) -> bool {
    routine == Some("exec_stmt_raise")
}

/// Whether the row was being written into the default partition of `table` while its own partition was created. The next
/// attempt finds the new one.
fn is_late(error: &DbError, table: &str) -> bool {
    let is_of_a_partition =
        error.routine() == Some("ExecPartitionCheckEmitError") && error.table() != Some(table);
    error.code().code() == "23514" && is_of_a_partition
}

fn with_source(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    match error.source().map(ToString::to_string) {
        Some(source) if !text.contains(&source) => format!("{text}: {source}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
