//! JSON (RFC 8259) from borrowed bytes, value by value: what is asked for is read, the rest is checked and passed over.
//!
//! Nothing is copied or allocated, and nothing here nests: how deep a value may be is up to whoever reads it. Strings
//! need not be UTF-8, and surrogates need not come in pairs; both are left to whoever stores them.

use std::borrow::Cow;
use std::convert::Infallible;

/// Bytes that are not JSON, or not the JSON that OTLP has in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON at byte {at}: {what}")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Where, counted from 0.
    pub at: usize,
}

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    Array,
    Object,
}

/// A string as it stands between its quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a [u8],
    /// Whether there are escapes in it.
    pub(super) escaped: bool,
}

/// Reads one value after the other.
pub(super) struct JsonReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The deepest nesting that is passed over.
const DEEPEST: usize = 1024;
/// The longest name of a field with each of its characters escaped.
const LONGEST_NAME: usize = 6 * 24;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

impl<'a> JsonReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// For something that is wrong here.
    pub(super) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        self.pass_space();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.malformed("there is more behind the value"))
        }
    }

    /// What the next value is.
    pub(super) fn kind(&mut self) -> Result<Kind, Malformed> {
        self.pass_space();
        match self.peek() {
            Some(b'"') => Ok(Kind::Text),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.malformed("there is no value here")),
            None => Err(self.malformed("it ends too early")),
        }
    }

    /// Reads an object: each member by `member`, which is given the key and reads the value.
    #[inline]
    pub(super) fn object<E: From<Malformed>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Text<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'{', "there is no object here")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.pass_space();
            let key = self.text()?;
            self.expect(b':', "there is no colon behind a key")?;
            member(self, key)?;
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// Reads an array: each element by `item`.
    #[inline]
    pub(super) fn array<E: From<Malformed>>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'[', "there is no array here")?;
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
        self.expect(b'"', "there is no string here")?;
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
                Some(_) => return Err(self.malformed("a control character stands in a string")),
                None => return Err(self.malformed("a string has no end")),
            }
        }
    }

    /// Reads a number, as it is written.
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
        str::from_utf8(&self.bytes[start..self.at]).map_err(|_| self.malformed("there is no number here"))
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

    /// Passes over the next value, whatever it is.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        // For each level that is open, a bit: whether it is an object.
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

    /// Passes over a key and its colon, where there is one.
    fn key(&mut self, is_object: bool) -> Result<(), Malformed> {
        if is_object {
            self.pass_space();
            self.text()?;
            self.expect(b':', "there is no colon behind a key")?;
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

    /// Passes the comma or the end behind a member or an element; tells whether another one follows.
    #[inline]
    fn goes_on(&mut self, end: u8) -> Result<bool, Malformed> {
        if self.take(b',') {
            return Ok(true);
        }
        if self.take(end) { Ok(false) } else { Err(self.malformed("there is neither a comma nor an end")) }
    }

    fn literal(&mut self, literal: &'static [u8]) -> Result<(), Malformed> {
        if !self.bytes[self.at..].starts_with(literal) {
            return Err(self.malformed("there is no value here"));
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

    /// Passes `byte`, if it is the next one but for white space.
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
        if self.at > start { Ok(()) } else { Err(self.malformed("a digit is missing")) }
    }

    /// Passes what stands in a string as it is, eight bytes at a time.
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
            _ => return Err(self.malformed("a string has an escape that JSON has not")),
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
    /// What it says, as the name of a field; nothing, where no field has so long a name.
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

    /// Writes what it says, piece by piece. Half of a surrogate pair is a byte that is not UTF-8, so that whoever stores
    /// the text replaces it, and counts that.
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

/// The character of an escape, behind its backslash, and the length of that.
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
