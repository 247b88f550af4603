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
