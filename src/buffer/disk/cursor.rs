//! Reads a segment from one number on.

use std::io;
use std::ops::Range;

use super::entry::{HEADER, Header};
use super::files::{self, Files};
use super::quarantine;
use super::segment::Segment;
use crate::table::Rows;

/// Writes past the page cache begin and end at a multiple of this.
const ALIGNMENT: u64 = files::ALIGNMENT as u64;
/// The bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// A place in a segment.
#[derive(Debug)]
pub(super) struct Cursor<F: Files> {
    files: F,
    file: F::File,
    name: String,
    salt: u64,
    entries: u64,
    /// The offset of the next entry.
    at: u64,
    /// The number before which nothing is found from there on.
    number: u64,
    /// Blocks that cannot be read are passed over as damage.
    salvages: bool,
    window: Window,
}

/// Bytes of a file, from a multiple of the alignment on, in memory that is aligned as well: a read past the page cache needs both.
#[derive(Debug, Default)]
struct Window {
    memory: Vec<u8>,
    /// The place of its first byte in `memory`.
    start: usize,
    /// The offset of that byte in the file.
    at: u64,
    length: usize,
}

/// The result of a search for a number.
#[derive(Debug)]
pub(super) enum Found {
    /// The entry that has the number, or the first one after it.
    Entry {
        /// The number of its first record.
        first: u64,
        rows: Rows,
    },
    /// Nothing that can be read.
    Damaged {
        /// These numbers, up to the next entry; to `u64::MAX` if none follows.
        numbers: Range<u64>,
        /// All of the bytes are in quarantine.
        is_kept: bool,
    },
    /// Nothing: the segment ends before.
    End,
}

/// A step through a segment.
#[derive(Debug)]
pub(super) enum Step {
    Entry {
        /// The number of its first record.
        first: u64,
        /// When it was written, in nanoseconds since 1970.
        time: u64,
        rows: Rows,
    },
    /// These bytes of the file are no entry. Behind them there is one whose first number is `next`, or none.
    Damaged { bytes: Range<u64>, next: Option<u64> },
    /// Nothing follows.
    End,
}

impl<F: Files> Cursor<F> {
    pub(super) fn open(files: &F, segment: &Segment) -> io::Result<Self> {
        Ok(Self {
            files: files.clone(),
            file: files.open(&segment.name)?,
            name: segment.name.clone(),
            salt: segment.salt(),
            entries: segment.entries,
            at: segment.entries,
            number: segment.first,
            salvages: false,
            window: Window::default(),
        })
    }

    /// Passes over blocks that cannot be read from now on, where an attempt is an error else.
    pub(super) fn salvage(&mut self) {
        self.salvages = true;
    }

    /// Searches for `number`.
    pub(super) fn find(&mut self, number: u64) -> io::Result<Found> {
        if number < self.number {
            (self.at, self.number) = (self.entries, 0);
        }
        let mut is_fresh = false;
        loop {
            match self.header(self.at)? {
                Some(header) if header.is_seal() => return Ok(Found::End),
                Some(header) if header.end() <= number => {
                    self.at += header.len();
                    self.number = header.end();
                    continue;
                }
                // The place stays: more of the same entry may be asked for next.
                Some(header) if header.first <= number || self.is_in_order(self.at, &header)? => {
                    if let Some(rows) = self.rows(&header)? {
                        return Ok(Found::Entry { first: header.first, rows });
                    }
                }
                _ => {}
            }
            if self.header(self.at)?.is_none() && self.is_padded()? {
                self.at = self.at.next_multiple_of(ALIGNMENT);
                continue;
            }
            if !is_fresh {
                // The file may have grown since its bytes were read.
                self.window.length = 0;
                is_fresh = true;
                continue;
            }
            let next = self.next_whole(self.at + 1)?;
            // Damage before the number is not its own.
            if let Some((at, _)) = next.filter(|(_, header)| header.first <= number) {
                self.at = at;
                continue;
            }
            // The place stays here as well: the next entry may be on its way to the file.
            let (end, first) = match next {
                Some((at, header)) => (at, header.first),
                None => (self.files.length(&self.file)?, u64::MAX),
            };
            let is_blank = next.is_none() && !self.salvages && self.is_blank(self.at, end)?;
            if end <= self.at || is_blank {
                return Ok(Found::End);
            }
            let kept = quarantine::keep(&self.files, &self.file, &self.name, self.at..end);
            if let Err(error) = &kept {
                tracing::error!(segment = self.name, %error, "cannot put damaged bytes of the durable queue aside");
            }
            return Ok(Found::Damaged { numbers: number..first, is_kept: kept.is_ok() && !self.salvages });
        }
    }

    /// The next entry, in the order of the file. Nothing is put into quarantine.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        if self.header(self.at)?.is_none() && self.is_padded()? {
            self.at = self.at.next_multiple_of(ALIGNMENT);
        }
        let at = self.at;
        if let Some(header) = self.header(at)? {
            if header.is_seal() {
                return Ok(Step::End);
            }
            if let Some(rows) = self.rows(&header)? {
                self.pass(header);
                return Ok(Step::Entry { first: header.first, time: header.time, rows });
            }
        }
        let next = self.next_whole(at + 1)?;
        self.at = match next {
            Some((next, _)) => next,
            None => self.files.length(&self.file)?.max(at),
        };
        if next.is_none() && self.is_blank(at, self.at)? {
            return Ok(Step::End);
        }
        Ok(Step::Damaged { bytes: at..self.at, next: next.map(|(_, header)| header.first) })
    }

    /// The end of the last whole entry: the number after it, and where it is in the file. `true` if a seal follows.
    pub(super) fn end(&mut self) -> io::Result<(u64, u64, bool)> {
        let (mut number, mut end) = (self.number, self.entries);
        let mut at = self.entries;
        while let Some((found, header)) = self.next_whole(at)? {
            if header.is_seal() {
                return Ok((header.first, found + header.len(), true));
            }
            (number, end) = (number.max(header.end()), found + header.len());
            at = end;
        }
        Ok((number, end, false))
    }

    /// Whether no entry with a lower number follows: then the one at `at` was written to a wrong place by the disk.
    fn is_in_order(&mut self, at: u64, header: &Header) -> io::Result<bool> {
        let next = self.next_whole(at + header.len())?;
        Ok(next.is_none_or(|(_, next)| next.first >= header.first))
    }

    /// Whether only zeros follow up to the next multiple of the alignment.
    fn is_padded(&mut self) -> io::Result<bool> {
        let length = self.at.next_multiple_of(ALIGNMENT) - self.at;
        let bytes = self.read(self.at, length as usize)?;
        Ok(length > 0 && bytes.len() as u64 == length && bytes.iter().all(|byte| *byte == 0))
    }

    fn pass(&mut self, header: Header) {
        self.at += header.len();
        self.number = header.end();
    }

    /// The next whole entry at `from` or behind it, and where it is.
    fn next_whole(&mut self, from: u64) -> io::Result<Option<(u64, Header)>> {
        // The usual case: the next entry follows at once.
        if let Some(header) = self.header(from)?
            && self.rows_are_whole(from, &header)?
        {
            return Ok(Some((from, header)));
        }
        let mut from = from;
        let salt = self.salt.to_le_bytes();
        let finder = memchr::memmem::Finder::new(&salt);
        loop {
            let bytes = self.read(from, CHUNK)?;
            if bytes.len() < HEADER {
                return Ok(None);
            }
            let found = finder.find(bytes).map(|found| from + found as u64);
            match found {
                Some(at) => {
                    if let Some(header) = self.header(at)?
                        && self.rows_are_whole(at, &header)?
                    {
                        return Ok(Some((at, header)));
                    }
                    from = at + 1;
                }
                // A salt may begin in the last bytes.
                None => from += (bytes.len() - (salt.len() - 1)) as u64,
            }
        }
    }

    fn header(&mut self, at: u64) -> io::Result<Option<Header>> {
        let salt = self.salt;
        let Some(header) = Header::read(self.read(at, HEADER)?, salt) else { return Ok(None) };
        // A length that the file does not have is damaged, and no memory is taken for it.
        Ok((at + header.len() <= self.files.length(&self.file)?).then_some(header))
    }

    fn rows_are_whole(&mut self, at: u64, header: &Header) -> io::Result<bool> {
        Ok(self.payload(at, header)?.is_some_and(|payload| header.is_of(payload)))
    }

    fn rows(&mut self, header: &Header) -> io::Result<Option<Rows>> {
        let payload = self.payload(self.at, header)?;
        Ok(payload.filter(|payload| header.is_of(payload)).and_then(|payload| header.rows(payload)))
    }

    fn payload(&mut self, at: u64, header: &Header) -> io::Result<Option<&[u8]>> {
        let length = header.payload_len();
        let payload = self.read(at + HEADER as u64, length as usize)?;
        Ok((payload.len() as u64 == length).then_some(payload))
    }

    /// Up to `length` bytes from `at` on; fewer only at the end of the file.
    fn read(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        if !self.window.has(at, length) {
            let left = self.files.length(&self.file)?.saturating_sub(at);
            let (bytes, from) = self.window.begin(at, length, left);
            let read = match self.files.read_at(&self.file, bytes, from) {
                Err(_) if self.salvages => quarantine::read_around(&self.files, &self.file, bytes, from)?,
                read => read?,
            };
            self.window.length = read;
        }
        Ok(self.window.get(at, length))
    }

    /// Whether all bytes `from` to `end` are zeros.
    pub(super) fn is_blank(&mut self, from: u64, end: u64) -> io::Result<bool> {
        let mut at = from;
        while at < end {
            let bytes = self.read(at, CHUNK.min((end - at) as usize))?;
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }
}

impl Window {
    fn has(&self, at: u64, length: usize) -> bool {
        at >= self.at && at + length as u64 <= self.at + self.length as u64
    }

    /// The memory for `length` bytes from the offset `at` on, where `left` bytes of the file are left, and for those around them;
    /// with the offset of its first byte.
    fn begin(&mut self, at: u64, length: usize, left: u64) -> (&mut [u8], u64) {
        self.at = at / ALIGNMENT * ALIGNMENT;
        self.length = 0;
        let before = at - self.at;
        let wanted = (length as u64).max(left.min(CHUNK as u64)) + before;
        let wanted = wanted.next_multiple_of(ALIGNMENT) as usize;
        if self.memory.len() < wanted + files::ALIGNMENT {
            self.memory = vec![0; wanted + files::ALIGNMENT];
            self.start = self.memory.as_ptr().align_offset(files::ALIGNMENT);
        }
        (&mut self.memory[self.start..self.start + wanted], self.at)
    }

    /// Up to `length` bytes from the offset `at` on.
    fn get(&self, at: u64, length: usize) -> &[u8] {
        let from = ((at - self.at) as usize).min(self.length);
        &self.memory[self.start..][from..(from + length).min(self.length)]
    }
}
