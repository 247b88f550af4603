//! Keeps damaged bytes, so that nothing is deleted that could not be read.

use std::io::{self, IoSlice};
use std::ops::Range;

use super::files::{FOLDER, Files};

/// The bytes that are copied at once.
const CHUNK: u64 = 1 << 20;
/// The bytes that a disk reads or does not.
const BLOCK: usize = 4096;

/// Copies these bytes of a segment, once. Those that cannot be read are zeros in the copy.
pub(super) fn keep<F: Files>(files: &F, file: &F::File, segment: &str, bytes: Range<u64>) -> io::Result<()> {
    // The same damage may have grown since an earlier copy.
    let name = format!("{FOLDER}/{segment}.{:x}-{:x}", bytes.start, bytes.end);
    if files.open(&name).is_ok() {
        return Ok(());
    }
    let new = format!("{name}.new");
    // A copy that was not completed.
    let _ = files.remove(&new);
    let copy = files.create(&new)?;
    let mut at = bytes.start;
    while at < bytes.end {
        let mut chunk = vec![0; CHUNK.min(bytes.end - at) as usize];
        let read = read_around(files, file, &mut chunk, at)?;
        if read == 0 {
            break;
        }
        files.append(&copy, &mut [IoSlice::new(&chunk[..read])])?;
        at += read as u64;
    }
    files.sync(&copy)?;
    files.rename(&new, &name)?;
    files.sync_names()?;
    tracing::warn!(
        segment,
        at = bytes.start,
        bytes = bytes.end - bytes.start,
        copy = name,
        "damaged bytes of the durable queue were put aside"
    );
    Ok(())
}

/// Reads as [`Files::read_at`] does. Blocks that cannot be read are zeros.
pub(super) fn read_around<F: Files>(
    files: &F,
    file: &F::File,
    buffer: &mut [u8],
    at: u64,
) -> io::Result<usize> {
    let left = files.length(file)?.saturating_sub(at).min(buffer.len() as u64) as usize;
    for (block, at) in buffer[..left].chunks_mut(BLOCK).zip((at..).step_by(BLOCK)) {
        if files.read_at(file, block, at).is_err() {
            block.fill(0);
        }
    }
    Ok(left)
}
