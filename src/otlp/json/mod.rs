//! OTLP/JSON: an `ExportLogsServiceRequest` in JSON, turned into its protobuf wire bytes in one pass.
//!
//! The mapping is proto3's, with OTLP's deviations: ids are hex, and unknown keys are skipped. Like the Collector, forebay is
//! less strict than OTLP: it accepts the original names of fields (`trace_id`) and the names of severities. Otherwise a sender
//! that writes them would lose its records without notice.
//!
//! A request that is not JSON, or does not nest its records as OTLP does, is an error. A scalar that its field cannot hold is
//! replaced by the nearest value or its text, and counted. An object or an array in the wrong place costs only its record, or the
//! records of its resource or scope: that message is written as an unreadable one, which its reader counts as malformed.

mod reader;
mod request;
mod scalar;
#[cfg(test)]
mod tests;
mod value;
mod writer;
mod written;

use reader::JsonReader;
pub use reader::Malformed;
use writer::Writer;

use super::replaced::Replaced;

/// Why there are no wire bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// It is not OTLP/JSON.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Their memory was not granted.
    #[error("there is no room for the request")]
    NoRoom,
}

/// The memory that the protobuf may take.
pub trait Memory {
    /// Takes `bytes` before they are allocated; returns whether they are granted.
    fn take(&mut self, bytes: usize) -> bool;
    /// Returns `bytes` that are free again.
    fn give_back(&mut self, bytes: usize);
}

/// Writes `json` as protobuf, in `memory`; returns the counts of replaced values as well.
///
/// # Errors
///
/// `json` is not OTLP/JSON, or the memory is not granted.
pub fn to_wire(json: &[u8], memory: &mut dyn Memory) -> Result<(Vec<u8>, Replaced), Unwritten> {
    let mut wire = Writer::new(json.len(), memory)?;
    if !json.is_empty() {
        let mut reader = JsonReader::new(json);
        request::request(&mut reader, &mut wire)?;
        reader.end()?;
    }
    match wire.fault.take() {
        Some(fault) => Err(fault.into()),
        None => Ok(wire.finish()),
    }
}
