//! Reads records from the view, for the command line.
//!
//! A [`Query`] reads once, a [`Tail`] follows new records. Both read only the view, in read-only transactions on a connection of
//! their own: a running forebay keeps its connections, and a role needs only SELECT on the view.

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
