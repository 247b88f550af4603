//! OTLP logs on the wire, and the messages of answers.
//!
//! [`wire`] reads protobuf fields from borrowed bytes, [`logs`] the nesting of a request and the fields of a record, [`value`] one
//! attribute or body; [`Limits`] bounds their structure. Nothing here allocates for a record, decodes a message into a tree or
//! copies a string; the code that stores a value checks it.
//!
//! [`messages`] has the generated messages of `proto/`; forebay encodes only answers with them, tests use the rest. [`mark`] adds an
//! attribute to a request's resources, [`alone`] puts one record into a request of its own. Only this module uses prost.

pub mod alone;
pub mod json;
mod limits;
pub mod logs;
pub mod mark;
pub mod messages;
pub mod replaced;
pub mod value;
pub mod wire;

pub use limits::{Invalid, Limit, Limits, Structure};
pub use logs::{InvalidId, LogRecord, ResourceLogs, ScopeLogs, count_records, resource_logs};
pub use wire::Malformed;
