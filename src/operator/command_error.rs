//! Why a command of an operator fails at the store.

use std::path::PathBuf;

use crate::buffer::disk::DirectoryError;
use crate::postgres::dsn::DsnError;
use crate::postgres::error::Failure;
use crate::postgres::session::Cause;

/// Why a command of an operator fails at the store.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Dsn(#[from] DsnError),
    /// PostgreSQL cannot be reached, or denies access.
    #[error("{0}{hint}", hint = hint(.0))]
    Store(#[from] Failure),
    /// A search takes too long.
    #[error("{0}; narrow it with --since and --until, --service or --trace, or give it a longer --timeout")]
    TooLong(Failure),
    /// The role may not read the view.
    #[error("{failure}: GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.logs TO {role}")]
    Denied {
        /// PostgreSQL's message.
        failure: Failure,
        /// The schema, as SQL.
        schema: String,
        /// The role, as SQL.
        role: String,
    },
    /// A standby does not know which transactions are in progress.
    #[error(
        "this server is a standby, which cannot say what is new: have the connection string lead to the primary"
    )]
    Standby,
    /// There is no such table.
    #[error("there is no table {0}: write it as schema.table, with the letters that PostgreSQL shows")]
    NoTable(String),
    /// The directory of the durable queue cannot be read or changed.
    #[error(transparent)]
    Queue(#[from] DirectoryError),
    /// Records cannot be dropped while a forebay writes them.
    #[error("a forebay uses {}: stop it first, then drop records", .0.display())]
    InUse(PathBuf),
    /// Rows of an existing table are not what was sent.
    #[error(
        "records for the table {0} have the columns of that table, which OTLP does not know: write --format ndjson"
    )]
    NoOtlp(String),
    /// The answer cannot be written out.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

impl Cause for CommandError {
    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Store(failure) | Self::TooLong(failure) | Self::Denied { failure, .. } => Some(failure),
            Self::Dsn(_) | Self::Standby | Self::NoTable(_) | Self::Output(_) => None,
            Self::Queue(_) | Self::InUse(_) | Self::NoOtlp(_) => None,
        }
    }
}

/// The next step if the store does not fit this forebay.
fn hint(failure: &Failure) -> &'static str {
    match failure.sqlstate.as_deref() {
        Some("42P01" | "3F000" | "42703") => {
            "; the store is not there or of another version, which `forebay doctor` looks into"
        }
        _ => "",
    }
}
