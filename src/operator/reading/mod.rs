//! The way back: records read from the view, for the command line.
//!
//! A search reads once ([`Query`]), a tail goes on with what is stored meanwhile ([`Tail`]). Both read the view and nothing
//! else, in transactions that can only read, over a connection of their own, so that a running forebay keeps its own and a
//! role that may SELECT in the view is enough.

mod filter;
mod line;
mod query;
mod session;
mod snapshot;
mod style;
mod tail;

pub use filter::{Attribute, AttributeError, Filter, TraceError, TraceId};
pub use line::Look;
pub use query::{Query, query};
pub use style::Style;
pub use tail::{Tail, tail};

use crate::postgres::dsn::DsnError;
use crate::postgres::error::Failure;
use crate::postgres::session::Cause;

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS cannot be set up.
    #[error(transparent)]
    Dsn(#[from] DsnError),
    /// PostgreSQL cannot be reached, or does not let us.
    #[error("{0}{hint}", hint = hint(.0))]
    Store(#[from] Failure),
    /// The role may not read the view.
    #[error("{failure}: GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.logs TO {role}")]
    Denied {
        /// What PostgreSQL said.
        failure: Failure,
        /// The schema, as SQL.
        schema: String,
        /// The role, as SQL.
        role: String,
    },
    /// A standby does not know which transactions are under way.
    #[error(
        "this server is a standby, which cannot say what is new: have the connection string lead to the primary"
    )]
    Standby,
    /// What was found cannot be written out.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

impl Cause for Error {
    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Store(failure) | Self::Denied { failure, .. } => Some(failure),
            Self::Dsn(_) | Self::Standby | Self::Output(_) => None,
        }
    }
}

/// What to do where the store is not what this forebay knows, or where it takes too long.
fn hint(failure: &Failure) -> &'static str {
    match failure.sqlstate.as_deref() {
        Some("42P01" | "3F000" | "42703") => {
            "; the store is not there or of another version, which `forebay doctor` looks into"
        }
        Some("57014") => {
            "; narrow it with --since and --until, --service or --trace, or give it a longer --timeout"
        }
        _ => "",
    }
}
