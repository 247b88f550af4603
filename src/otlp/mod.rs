//! OTLP logs as they stand on the wire, and the messages of the answer.
//!
//! [`wire`] reads protobuf fields from borrowed bytes, [`logs`] gives the nesting of a request and the
//! fields of a record, [`value`] one attribute or body, [`Limits`] how much structure they may have. Nothing here allocates for a record, decodes a
//! message into a tree or copies a string; what a field may hold is checked by whoever stores it.
//!
//! [`messages`] holds the generated messages of `proto/`; forebay itself encodes only the answer with
//! them, senders in tests use the rest. [`mark`] gives a request's resources an attribute. This is the only module that names prost.

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
