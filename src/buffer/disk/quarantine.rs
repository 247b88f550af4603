//! Keeps damaged bytes, so that nothing is deleted that could not be read.

use std::io::{self, IoSlice};
use std::ops::Range;

use super::files::Files;

/// The folder that has them.
pub(super) const FOLDER: &str = "quarantine";
/// The bytes that are copied at once.
const CHUNK: u64 = 1 << 20;

/// Copies these bytes of a segment, once.
pub(super) fn keep<F: Files>(files: &F, file: &F::File, segment: &str, bytes: Range<u64>) -> io::Result<()> {
    let name = format!("{FOLDER}/{segment}.{:x}", bytes.start);
    let copy = match files.create(&name) {
        Ok(copy) => copy,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut at = bytes.start;
    while at < bytes.end {
        let mut chunk = vec![0; CHUNK.min(bytes.end - at) as usize];
        let read = files.read_at(file, &mut chunk, at)?;
        if read == 0 {
            break;
        }
        files.append(&copy, &mut [IoSlice::new(&chunk[..read])])?;
        at += read as u64;
    }
    files.sync(&copy)?;
    tracing::warn!(
        segment,
        at = bytes.start,
        bytes = bytes.end - bytes.start,
        copy = name,
        "damaged bytes of the durable queue were put aside"
    );
    Ok(())
}
