//! OTLP/JSON: an `ExportLogsServiceRequest` in JSON, turned into its protobuf wire bytes in one pass.
//!
//! The mapping is proto3's, with OTLP's deviations: ids are hex, and keys that are not known are passed over. As the
//! Collector does, and as the strictest reading would not, the original names of fields (`trace_id`) and the names of
//! severities are understood: a sender that writes them would otherwise lose its records, and nobody would tell it.
//!
//! What is not JSON, or nests its records in another way than OTLP, is an error. A value that its field cannot hold costs
//! only the record, or the records of the resource or the scope, that it stands in: the message is written as one that
//! cannot be read, which whoever reads it counts as malformed.

mod reader;
mod request;
#[cfg(test)]
mod tests;
mod value;
mod writer;

pub use reader::Malformed;
use reader::Reader;
use writer::Writer;

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

/// Writes `json` as protobuf. `grow` is asked before so many more bytes are allocated.
///
/// # Errors
///
/// What is not OTLP/JSON, or is not granted the memory.
pub fn to_wire(json: &[u8], grow: &mut dyn FnMut(usize) -> bool) -> Result<Vec<u8>, Unwritten> {
    let mut wire = Writer::new(json.len(), grow)?;
    if !json.is_empty() {
        let mut reader = Reader::new(json);
        request::request(&mut reader, &mut wire)?;
        reader.end()?;
    }
    match wire.fault.take() {
        Some(fault) => Err(fault.into()),
        None => Ok(wire.finish()),
    }
}
