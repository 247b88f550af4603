//! A segment: a file of entries behind a header that says what they are.
//!
//! The header is there twice, each copy in a block of its own of 4 KiB or a multiple: magic, version, length of the block, length of
//! the JSON, a checksum of these and the JSON (each 4 bytes, little-endian, after 8 bytes of magic), then the JSON.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::HEADER;
use super::files::Files;
use crate::table::RowFormat;
use crate::values::positions::{Positions, Run};

const MAGIC: &[u8; 8] = b"FORBYSEG";
/// The version that this program writes, and the newest that it reads.
const VERSION: u32 = 1;
/// Headers are as long as a multiple of this.
const BLOCK: usize = 4096;
/// The largest header: no row format comes near it.
const MOST_BLOCKS: usize = 256;
/// The bytes of a block before the JSON.
const PREFIX: usize = 24;

/// The content of a segment's header.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct About {
    /// The queue that it is of.
    pub queue: Uuid,
    /// The run that made it.
    pub run: Run,
    /// The number of its first record in that run.
    pub first: u64,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// Begins each entry.
    pub(super) salt: u64,
    /// The format of its rows.
    pub format: RowFormat,
    /// The number after the last record that was acknowledged before. What earlier files of the run have from there on is of writes
    /// and syncs that failed.
    pub(super) acknowledged: u64,
}

/// A segment as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The name of its file.
    pub name: String,
    /// The run and the number of the first record: by the header, or by the name where that cannot be read.
    pub run: Run,
    /// See `run`.
    pub first: u64,
    /// The number after its last record.
    pub end: u64,
    /// Its size.
    pub bytes: u64,
    /// Its header; the error is why it cannot be read.
    pub about: Result<Arc<About>, Unreadable>,
    /// The format of its rows; `None` if it cannot be read.
    pub format: Option<Arc<RowFormat>>,
    /// The offset of the first entry.
    pub(super) entries: u64,
    /// Not all of its bytes could be read, so that it is put aside where it would be removed.
    pub(super) is_kept: bool,
}

/// Why a segment cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A later version of forebay has written it.
    #[error("a later version of forebay has written it, in version {0} of the format")]
    Later(u32),
    /// Both copies of its header are damaged, or it is no segment.
    #[error("its header is damaged")]
    Damaged,
    /// The operating system does not read it.
    #[error("reading it failed: {0}")]
    Refused(io::ErrorKind),
}

impl About {
    /// The name of the file.
    pub(super) fn name(&self) -> String {
        format!("{:016x}-{:016x}.segment", self.run, self.first)
    }

    /// Both copies of the header.
    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let length = (PREFIX + json.len()).next_multiple_of(BLOCK);
        let mut block = Vec::with_capacity(length);
        block.extend_from_slice(MAGIC);
        for word in [VERSION, length as u32, json.len() as u32] {
            block.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = checksum(&block, &json);
        block.extend_from_slice(&checksum.to_le_bytes());
        block.extend_from_slice(&json);
        block.resize(length, 0);
        Ok(block.repeat(2))
    }
}

impl Segment {
    /// Looks at the file `name`. Its end is not known yet.
    pub(super) fn look<F: Files>(files: &F, name: &str) -> Self {
        let mut bytes = 0;
        let mut read = || {
            let file = files.open(name)?;
            bytes = files.length(&file)?;
            read_header(files, &file)
        };
        let (about, entries) = match read().unwrap_or_else(|error| Err(Unreadable::Refused(error.kind()))) {
            Ok((about, entries)) => (Ok(Arc::new(about)), entries),
            Err(unreadable) => (Err(unreadable), 0),
        };
        let (run, first) = match &about {
            Ok(about) => (about.run, about.first),
            Err(_) => numbers_in(name).unwrap_or_default(),
        };
        let format = about.as_ref().ok().map(|about| Arc::new(about.format.clone()));
        let name = name.to_owned();
        Self { name, run, first, end: first, bytes, about, format, entries, is_kept: false }
    }

    /// Leaves it as it is, because the operating system does not read it.
    pub(super) fn set_aside(&mut self, error: &io::Error) {
        (self.about, self.format) = (Err(Unreadable::Refused(error.kind())), None);
    }

    /// When it was made, in nanoseconds since 1970.
    pub fn created(&self) -> i64 {
        self.about.as_ref().map_or(self.run, |about| about.created)
    }

    /// Whether its header says that what earlier files of the run have at their end is not to be read.
    pub(super) fn cuts(&self) -> bool {
        self.about.as_ref().is_ok_and(|about| about.acknowledged < about.first)
    }

    pub(super) fn salt(&self) -> u64 {
        self.about.as_ref().map_or(0, |about| about.salt)
    }
}

/// The header of a file, and where its entries begin.
fn read_header<F: Files>(files: &F, file: &F::File) -> io::Result<Result<(About, u64), Unreadable>> {
    let (mut unreadable, mut failed) = (Unreadable::Damaged, None);
    // One copy is enough.
    let mut read = |buffer: &mut [u8], at: usize| {
        let read = files.read_at(file, buffer, at as u64);
        read.unwrap_or_else(|error| {
            failed = Some(error);
            0
        })
    };
    // The second copy may be at each place where a first one of that length ends.
    for block in 0..=MOST_BLOCKS {
        let at = block * BLOCK;
        let mut prefix = [0; PREFIX];
        if read(&mut prefix, at) < PREFIX || &prefix[..8] != MAGIC {
            continue;
        }
        let word = |at: usize| prefix[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        let (version, length, json_length) = (word(8), word(12) as usize, word(16) as usize);
        if version > VERSION {
            unreadable = Unreadable::Later(version);
            continue;
        }
        let is_plausible = length.is_multiple_of(BLOCK)
            && (1..=MOST_BLOCKS).contains(&(length / BLOCK))
            && json_length <= length - PREFIX
            && (at == 0 || at == length);
        if !is_plausible {
            continue;
        }
        let mut json = vec![0; json_length];
        if read(&mut json, at + PREFIX) == json_length
            && checksum(&prefix[..20], &json) == word(20)
            && let Ok(about) = serde_json::from_slice(&json)
        {
            return Ok(Ok((about, 2 * length as u64)));
        }
    }
    failed.map_or(Ok(Err(unreadable)), Err)
}

/// Covers all of a header: by a wrong length, the entries would be looked for in the wrong place.
fn checksum(prefix: &[u8], json: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(prefix);
    hasher.update(json);
    hasher.finalize()
}

/// The records of `segments`.
pub(super) fn positions(segments: &[Segment]) -> Positions {
    let mut positions = Positions::default();
    segments.iter().for_each(|segment| positions.insert(segment.run, segment.first..segment.end));
    positions
}

/// Whether a file with this name is a segment.
pub(super) fn is_segment(name: &str) -> bool {
    numbers_in(name).is_some()
}

fn numbers_in(name: &str) -> Option<(Run, u64)> {
    let (run, first) = name.strip_suffix(".segment")?.split_once('-')?;
    Some((i64::from_str_radix(run, 16).ok()?, u64::from_str_radix(first, 16).ok()?))
}

/// The offset at which a seal would begin.
pub(super) fn seal_at(segment: &Segment) -> Option<u64> {
    segment.bytes.checked_sub(HEADER as u64).filter(|at| *at >= segment.entries)
}
