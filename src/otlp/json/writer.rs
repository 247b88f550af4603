//! Writes protobuf's wire format before the lengths of messages are known.

use super::reader::Malformed;
use super::{Memory, Unwritten};
use crate::otlp::replaced::Replaced;

/// Writes messages and their fields one after the other.
pub(super) struct Writer<'a> {
    out: Vec<u8>,
    memory: &'a mut dyn Memory,
    /// The largest expected length.
    expected: usize,
    /// The first error in the current message.
    pub(super) fault: Option<Malformed>,
    /// The values replaced in readable messages.
    pub(super) replaced: Replaced,
}

/// A message that is being written.
#[must_use]
pub(super) struct Open {
    /// The begin of its content, after `width` bytes for its length.
    start: usize,
    width: usize,
}

/// The longest length: that of any message up to 32 GiB.
const WIDEST: usize = 5;
/// A field whose number is 0, which no message has.
const UNREADABLE: u8 = 7;

impl<'a> Writer<'a> {
    /// Begins an output of perhaps `expected` bytes.
    pub(super) fn new(expected: usize, memory: &'a mut dyn Memory) -> Result<Self, Unwritten> {
        let mut writer =
            Self { out: Vec::new(), memory, expected, fault: None, replaced: Replaced::default() };
        // Usually protobuf takes less than half of the JSON.
        writer.reserve(expected / 2)?;
        Ok(writer)
    }

    pub(super) fn finish(self) -> (Vec<u8>, Replaced) {
        (self.out, self.replaced)
    }

    pub(super) fn varint(&mut self, number: u8, mut value: u64) -> Result<(), Unwritten> {
        self.reserve(11)?;
        self.out.push(number << 3);
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
        Ok(())
    }

    pub(super) fn fixed64(&mut self, number: u8, value: u64) -> Result<(), Unwritten> {
        self.reserve(9)?;
        self.out.push(number << 3 | 1);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    pub(super) fn fixed32(&mut self, number: u8, value: u32) -> Result<(), Unwritten> {
        self.reserve(5)?;
        self.out.push(number << 3 | 5);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// A string, or bytes, of known length.
    pub(super) fn bytes(&mut self, number: u8, bytes: &[u8]) -> Result<(), Unwritten> {
        let width = width(bytes.len());
        self.reserve(1 + width + bytes.len())?;
        self.out.push(number << 3 | 2);
        let start = self.out.len();
        self.out.resize(start + width, 0);
        write_length(&mut self.out[start..], bytes.len());
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Begins a message, or bytes. If the content gets long, it is moved to make room for its length.
    pub(super) fn begin(&mut self, number: u8) -> Result<Open, Unwritten> {
        self.open(number, 1)
    }

    /// Begins a message that may be deeply nested: moving content at each level would be slow. So its length gets the widest
    /// form, unless the content stays short.
    pub(super) fn begin_nested(&mut self, number: u8) -> Result<Open, Unwritten> {
        self.open(number, WIDEST)
    }

    fn open(&mut self, number: u8, width: usize) -> Result<Open, Unwritten> {
        self.reserve(1 + width)?;
        self.out.push(number << 3 | 2);
        self.out.resize(self.out.len() + width, 0);
        Ok(Open { start: self.out.len(), width })
    }

    /// Ends a message.
    pub(super) fn end(&mut self, open: Open) -> Result<(), Unwritten> {
        let Open { start, width: reserved } = open;
        let length = self.out.len() - start;
        // A padded length is valid as well.
        let width = if length < 0x80 { 1 } else { reserved.max(width(length)) };
        let begin = start - reserved;
        if width != reserved {
            self.reserve(width)?;
            self.out.resize(self.out.len().max(begin + width + length), 0);
            self.out.copy_within(start..start + length, begin + width);
            self.out.truncate(begin + width + length);
        }
        write_length(&mut self.out[begin..begin + width], length);
        Ok(())
    }

    /// Makes a message unreadable.
    pub(super) fn spoil(&mut self, open: &Open) -> Result<(), Unwritten> {
        self.out.truncate(open.start);
        self.put(&[UNREADABLE])
    }

    /// Removes a message.
    pub(super) fn undo(&mut self, Open { start, width }: Open) {
        self.out.truncate(start - width - 1);
    }

    /// Appends content of a message.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        self.reserve(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// The content of a message so far.
    pub(super) fn content(&mut self, open: &Open) -> &mut [u8] {
        &mut self.out[open.start..]
    }

    /// Keeps the first `length` bytes of a message.
    pub(super) fn keep(&mut self, open: &Open, length: usize) {
        self.out.truncate(open.start + length);
    }

    #[inline]
    fn reserve(&mut self, more: usize) -> Result<(), Unwritten> {
        if self.out.capacity() - self.out.len() >= more { Ok(()) } else { self.enlarge(more) }
    }

    #[cold]
    fn enlarge(&mut self, more: usize) -> Result<(), Unwritten> {
        let (needed, old) = (self.out.len() + more, self.out.capacity());
        let doubled = if needed > self.expected { 2 * old } else { (2 * old).min(self.expected) };
        // The old memory stays until its bytes are copied.
        let mut take = |capacity: usize| self.memory.take(capacity).then_some(capacity);
        let capacity = take(doubled.max(needed)).or_else(|| take(needed)).ok_or(Unwritten::NoRoom)?;
        self.out.reserve_exact(capacity - self.out.len());
        self.memory.give_back(old);
        Ok(())
    }
}

/// The bytes that the length `value` takes.
fn width(value: usize) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}

/// Writes a length that fills all bytes of `into`.
fn write_length(into: &mut [u8], mut length: usize) {
    if let Some((last, others)) = into.split_last_mut() {
        for byte in others {
            *byte = length as u8 | 0x80;
            length >>= 7;
        }
        *last = length as u8;
    }
}
