//! JSON (RFC 8259) from borrowed bytes, value by value: requested values are read, the rest is checked and skipped.
//!
//! Nothing is copied or allocated, and nothing here recurses: the caller limits the depth of values. Strings need not be UTF-8,
//! and surrogates need not be pairs; the code that stores them checks both.

use std::borrow::Cow;
use std::convert::Infallible;

/// Bytes that are not JSON, or not the JSON that OTLP has in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON at byte {at}: {what}")]
pub struct Malformed {
    /// The reason.
    pub what: &'static str,
    /// The byte, counted from 0.
    pub at: usize,
}

/// The kind of a value, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    Array,
    Object,
}

/// The bytes of a string between its quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a [u8],
    /// Whether it contains escapes.
    pub(super) escaped: bool,
}

/// Reads values one after the other.
pub(super) struct JsonReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The deepest nesting that [`JsonReader::skip`] accepts.
const DEEPEST: usize = 1024;
/// The longest name of a field with each of its characters escaped.
const LONGEST_NAME: usize = 6 * 24;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

impl<'a> JsonReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// An error at this byte.
    pub(super) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    /// Checks that only white space is left.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        self.pass_space();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.malformed("unexpected bytes after the value"))
        }
    }

    /// The kind of the next value.
    pub(super) fn kind(&mut self) -> Result<Kind, Malformed> {
        self.pass_space();
        match self.peek() {
            Some(b'"') => Ok(Kind::Text),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.malformed("expected a value")),
            None => Err(self.malformed("unexpected end")),
        }
    }

    /// Reads an object; `member` gets each key and reads its value.
    #[inline]
    pub(super) fn object<E: From<Malformed>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Text<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'{', "expected an object")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.pass_space();
            let key = self.text()?;
            self.expect(b':', "expected a colon after a key")?;
            member(self, key)?;
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// Reads an array; `item` reads each element.
    #[inline]
    pub(super) fn array<E: From<Malformed>>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'[', "expected a list")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// Reads a string.
    #[inline]
    pub(super) fn text(&mut self) -> Result<Text<'a>, Malformed> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.pass_plain();
            match self.peek() {
                Some(b'"') => {
                    let raw = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.pass_escape()?;
                }
                Some(_) => return Err(self.malformed("a string contains a control character")),
                None => return Err(self.malformed("a string is not closed")),
            }
        }
    }

    /// Reads a number, unparsed.
    pub(super) fn number(&mut self) -> Result<&'a str, Malformed> {
        self.pass_space();
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.pass_digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.pass_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.pass_digits()?;
        }
        str::from_utf8(&self.bytes[start..self.at]).map_err(|_| self.malformed("expected a number"))
    }

    /// Reads `true` or `false`.
    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        self.pass_space();
        let value = self.peek() == Some(b't');
        self.literal(if value { b"true" } else { b"false" })?;
        Ok(value)
    }

    /// Reads `null`.
    pub(super) fn null(&mut self) -> Result<(), Malformed> {
        self.pass_space();
        self.literal(b"null")
    }

    /// Skips the next value.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        // A bit for each open level: whether it is an object.
        let mut levels = [0_u64; DEEPEST / 64];
        let mut depth = 0;
        loop {
            let kind = self.kind()?;
            if let Kind::Object | Kind::Array = kind {
                let is_object = kind == Kind::Object;
                self.at += 1;
                if !self.take(close(is_object)) {
                    if depth == DEEPEST {
                        return Err(self.malformed("values are nested too deeply"));
                    }
                    set(&mut levels, depth, is_object);
                    depth += 1;
                    self.key(is_object)?;
                    continue;
                }
            } else {
                self.scalar(kind)?;
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let is_object = levels[(depth - 1) / 64] >> ((depth - 1) % 64) & 1 == 1;
                if self.goes_on(close(is_object))? {
                    self.key(is_object)?;
                    break;
                }
                depth -= 1;
            }
        }
    }

    /// Skips a key and its colon, in an object.
    fn key(&mut self, is_object: bool) -> Result<(), Malformed> {
        if is_object {
            self.pass_space();
            self.text()?;
            self.expect(b':', "expected a colon after a key")?;
        }
        Ok(())
    }

    fn scalar(&mut self, kind: Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Text => self.text().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Bool => self.bool().map(drop),
            Kind::Null | Kind::Array | Kind::Object => self.null(),
        }
    }

    /// Skips the comma or the end after a member or an element; returns whether another one follows.
    #[inline]
    fn goes_on(&mut self, end: u8) -> Result<bool, Malformed> {
        if self.take(b',') {
            return Ok(true);
        }
        if self.take(end) { Ok(false) } else { Err(self.malformed("expected a comma or the end")) }
    }

    fn literal(&mut self, literal: &'static [u8]) -> Result<(), Malformed> {
        if !self.bytes[self.at..].starts_with(literal) {
            return Err(self.malformed("expected a value"));
        }
        self.at += literal.len();
        Ok(())
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn expect(&mut self, byte: u8, or: &'static str) -> Result<(), Malformed> {
        if self.take(byte) { Ok(()) } else { Err(self.malformed(or)) }
    }

    /// Skips white space, and `byte` if it is next.
    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        self.pass_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    #[inline]
    fn pass_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn pass_digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.malformed("expected a digit")) }
    }

    /// Skips the bytes of a string that need no look, eight at a time.
    #[inline]
    fn pass_plain(&mut self) {
        while let Some(word) = self.bytes[self.at..].first_chunk() {
            let word = u64::from_le_bytes(*word);
            let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            let found = below_space | zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c));
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn pass_escape(&mut self) -> Result<(), Malformed> {
        let length = match self.bytes[self.at + 1..] {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return Err(self.malformed("a string contains an unknown escape")),
        };
        self.at += length;
        Ok(())
    }
}

/// Not 0 exactly where one of the bytes is 0; the lowest bit that is set is that of the lowest such byte.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

fn close(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

fn set(bits: &mut [u64], at: usize, value: bool) {
    bits[at / 64] = bits[at / 64] & !(1 << (at % 64)) | u64::from(value) << (at % 64);
}

impl Text<'_> {
    /// The text as the name of a field; empty if it is longer than any field's name.
    pub(super) fn name(&self) -> Cow<'_, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut name = Vec::new();
        if self.raw.len() <= LONGEST_NAME {
            let written: Result<(), Infallible> = self.unescape(|piece| {
                name.extend_from_slice(piece);
                Ok(())
            });
            written.unwrap_or_else(|never| match never {});
        }
        Cow::Owned(name)
    }

    /// Writes the text, piece by piece. Half of a surrogate pair becomes a byte that is not UTF-8, which is replaced and counted
    /// when the text is stored.
    pub(super) fn unescape<E>(self, mut put: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut rest = self.raw;
        while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
            put(&rest[..at])?;
            let (piece, length) = escape(&rest[at + 1..]);
            match piece {
                Some(character) => put(character.encode_utf8(&mut [0; 4]).as_bytes())?,
                None => put(&[0xff])?,
            }
            rest = &rest[at + 1 + length..];
        }
        put(rest)
    }
}

/// The character of an escape, after its backslash, and the length of the escape.
fn escape(bytes: &[u8]) -> (Option<char>, usize) {
    let character = match bytes[0] {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = hex(&bytes[1..5]);
            if let [b'\\', b'u', second @ ..] = &bytes[5..]
                && (0xd800..0xdc00).contains(&first)
                && let second @ 0xdc00..0xe000 = hex(&second[..4])
            {
                let both = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return (char::from_u32(both), 11);
            }
            return (char::from_u32(first), 5);
        }
        itself => char::from(itself),
    };
    (Some(character), 1)
}

fn hex(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, &digit| value << 4 | char::from(digit).to_digit(16).unwrap_or(0))
}
