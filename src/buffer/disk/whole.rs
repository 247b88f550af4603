//! The whole of a queue, for fuzzing.

use std::io;
use std::sync::Arc;

use super::cursor::{Cursor, Found};
use super::files::Files;
use super::log::{Log, Settings};
use crate::table::{RowFormat, Rows};

/// The readable part of a queue.
#[doc(hidden)]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// The number of requests.
    pub requests: u64,
    /// The bytes of their rows.
    pub bytes: u64,
    /// The number of records that are damaged or missing.
    pub lost: u64,
    pub unreadable: u64,
}

/// Begins a queue on `files`, and appends `requests` to its only segment, which is not sealed.
#[doc(hidden)]
pub fn write_whole<F: Files>(files: F, requests: &[&Rows]) -> io::Result<()> {
    let settings = Settings { segment_bytes: u64::MAX, format: Arc::new(RowFormat::default()) };
    Log::open(files, settings)?.0.append(requests).map_err(io::Error::other)?;
    Ok(())
}

/// Opens the queue on `files` as a start does, and reads all of it.
#[doc(hidden)]
pub fn read_whole<F: Files>(files: &F) -> io::Result<Whole> {
    let settings = Settings { segment_bytes: u64::MAX, format: Arc::new(RowFormat::default()) };
    let (_, segments) = Log::open(files.clone(), settings)?;
    let mut whole = Whole::default();
    for segment in segments {
        if segment.about.is_err() {
            whole.unreadable += 1;
            continue;
        }
        let mut cursor = Cursor::open(files, &segment)?;
        let mut number = segment.first;
        while number < segment.end {
            let (from, until) = match cursor.find(number)? {
                Found::Entry { first, rows } => {
                    whole.requests += 1;
                    whole.bytes += rows.bytes().len() as u64;
                    (first, first.saturating_add(rows.len() as u64))
                }
                Found::Damaged { numbers, .. } => (numbers.end, numbers.end),
                Found::End => (segment.end, segment.end),
            };
            whole.lost += from.min(segment.end).saturating_sub(number);
            number = until.max(number);
        }
    }
    Ok(whole)
}
