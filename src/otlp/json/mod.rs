//! OTLP/JSON: an `ExportLogsServiceRequest` in JSON, turned into its protobuf wire bytes in one pass.
//!
//! The mapping is proto3's, with OTLP's deviations: ids are hex, and keys that are not known are passed over. As the
//! Collector does, and as the strictest reading would not, the original names of fields (`trace_id`) and the names of
//! severities are understood: a sender that writes them would otherwise lose its records, and nobody would tell it.
//!
//! What is not JSON, or nests its records in another way than OTLP, is an error. A scalar that its field cannot hold costs
//! nothing: the nearest value stands there, or its text, and is counted as replaced. An object or an array in a place of
//! something else costs only the record, or the records of the resource or the scope, that it stands in: the message is
//! written as one that cannot be read, which whoever reads it counts as malformed.

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
    /// What they take was not granted.
    #[error("there is no room for the request")]
    NoRoom,
}

/// The memory that the protobuf may take.
pub trait Memory {
    /// Takes `bytes`, before they are allocated; gives whether they are to be had.
    fn take(&mut self, bytes: usize) -> bool;
    /// Gives back `bytes` that are free again.
    fn give_back(&mut self, bytes: usize);
}

/// Writes `json` as protobuf, in `memory`; gives what was replaced in it as well.
///
/// # Errors
///
/// What is not OTLP/JSON, or is not granted the memory.
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
