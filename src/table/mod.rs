//! Log records in PostgreSQL: the list of columns, and the way from wire bytes to rows.
//!
//! [`columns`] states each column once: its name, its type, how a record fills it. The COPY statement, the DDL, the check of a live
//! table and every row come from that list. [`transcode`] writes the records of a request as rows of binary COPY, in one pass,
//! straight from the protobuf bytes. For an existing table, [`mapping`] has the columns instead.
//!
//! A value that PostgreSQL cannot hold is replaced and counted ([`Replaced`]); it never costs the record. Only a record that is not
//! protobuf counts as malformed. [`decode`] reads rows again, for people.

pub mod columns;
pub mod counts;
pub mod ddl;
pub mod decode;
pub mod destination;
pub mod identifier;
pub mod index;
pub mod interned;
mod json;
mod layout;
pub mod mapping;
pub mod partition;
pub mod reading;
pub mod row;
mod row_end;
mod row_format;
mod scan;
mod severity;
mod space;
mod tally;
mod text;
pub mod transcode;

pub use destination::Destination;
pub use interned::{Interner, Resource, Scope};
pub use json::MAX_DEPTH;
pub use layout::ROW_OVERHEAD;
pub use mapping::Mapping;
pub use row_format::RowFormat;
pub use severity::{Severity, SeverityCounts, SeverityError};
pub use space::{NoSpace, Space};
pub use tally::{OTHERS, Tally};
pub use text::{Replaced, ReplacedKind};
pub use transcode::gate::{Candidate, Gate, Open, Verdict};
pub use transcode::{Rows, Transcoded, Transcoder, Untranscoded};
