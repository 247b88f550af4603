//! An entry of a segment: the rows of one request, with all that is needed to write them.
//!
//! Each header has the segment's salt, which content cannot fake because it is drawn at random: behind a damaged entry, the next
//! one is found by it.

use std::io::IoSlice;

use crate::table::Rows;

/// The bytes of an entry's header.
pub(super) const HEADER: usize = 48;

/// The header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The number of its first record.
    pub(super) first: u64,
    pub(super) records: u32,
    /// The bytes of what describes the rows, which follows the header.
    described: u32,
    /// The bytes of the rows, which follow that.
    rows: u32,
    kind: Kind,
    /// When it was written, in nanoseconds since 1970.
    pub(super) time: u64,
    /// The checksum of what follows the header.
    payload: u32,
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    /// The rows of a request.
    Rows = 0,
    /// The end of the segment: nothing follows, and its `first` is the number after the last one.
    Seal = 1,
}

/// An entry to be written.
pub(super) struct Encoded<'a> {
    header: [u8; HEADER],
    described: Vec<u8>,
    rows: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// The entry for `rows`, whose first record is number `first` of the segment's run.
    pub(super) fn of(rows: &'a Rows, salt: u64, first: u64, time: u64) -> Self {
        let mut described = Vec::new();
        rows.describe(&mut described);
        let bytes = rows.bytes();
        let mut payload = crc32fast::Hasher::new();
        payload.update(&described);
        payload.update(bytes);
        let header = Header {
            first,
            records: rows.len() as u32,
            described: described.len() as u32,
            rows: bytes.len() as u32,
            kind: Kind::Rows,
            time,
            payload: payload.finalize(),
        };
        Self { header: header.to_bytes(salt), described, rows: bytes }
    }

    /// Its bytes, in order.
    pub(super) fn parts(&self) -> [IoSlice<'_>; 3] {
        [&self.header[..], &self.described, self.rows].map(IoSlice::new)
    }
}

/// The bytes of a seal after the records below `end`.
pub(super) fn seal(salt: u64, end: u64, time: u64) -> [u8; HEADER] {
    let header = Header { first: end, records: 0, described: 0, rows: 0, kind: Kind::Seal, time, payload: 0 };
    header.to_bytes(salt)
}

impl Header {
    fn to_bytes(self, salt: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&salt.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time.to_le_bytes());
        let words = [self.records, self.described, self.rows, self.kind as u32, self.payload];
        for (place, word) in bytes[24..44].as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        let checksum = crc32fast::hash(&bytes[..44]);
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header in the first bytes, if it is one of the segment with this salt.
    pub(super) fn read(bytes: &[u8], salt: u64) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        let long = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        let kind = match word(36) {
            0 => Kind::Rows,
            1 => Kind::Seal,
            _ => return None,
        };
        let is_whole = long(0) == salt && word(44) == crc32fast::hash(&bytes[..44]);
        is_whole.then(|| Self {
            first: long(8),
            time: long(16),
            records: word(24),
            described: word(28),
            rows: word(32),
            kind,
            payload: word(40),
        })
    }

    pub(super) fn is_seal(&self) -> bool {
        self.kind == Kind::Seal
    }

    /// The number after its last record.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.records))
    }

    /// The bytes of the entry, with this header.
    pub(super) fn len(&self) -> u64 {
        HEADER as u64 + self.payload_len()
    }

    /// The bytes after the header.
    pub(super) fn payload_len(&self) -> u64 {
        u64::from(self.described) + u64::from(self.rows)
    }

    /// Whether `payload` is what was written.
    pub(super) fn is_of(&self, payload: &[u8]) -> bool {
        payload.len() as u64 == self.payload_len() && crc32fast::hash(payload) == self.payload
    }

    /// The rows in `payload`; `None` if it has none that this version reads.
    pub(super) fn rows(&self, payload: &[u8]) -> Option<Rows> {
        let (described, rows) = payload.split_at_checked(self.described as usize)?;
        Rows::restore(described, rows.to_vec()).filter(|rows| rows.len() == self.records as usize)
    }
}
