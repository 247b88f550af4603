//! One row of PostgreSQL's binary COPY format, written field by field.
//!
//! Source: PostgreSQL manual, COPY, "Binary Format". A row is a 16-bit number of fields, then for each field
//! its length in bytes (-1 for NULL) and its value in the type's binary form, all in network order.

use super::json;
use super::scan::is_plain_text;
use super::text::{Replaced, push_text};
use crate::otlp::Malformed;
use crate::otlp::value::AnyValue;

/// The bytes before the first row: signature, flags, length of the header's extension.
pub const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The bytes after the last row.
pub const TRAILER: &[u8; 2] = &(-1i16).to_be_bytes();

/// The epoch of PostgreSQL's times, in microseconds since 1970.
pub(super) const EPOCH_2000: i64 = 946_684_800_000_000;
/// The first byte of jsonb's binary form; the JSON text follows.
pub(super) const JSONB_VERSION: u8 = 1;

const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// The current row, and the counts of values replaced in it.
#[derive(Debug)]
pub struct RowWriter<'a> {
    out: &'a mut Vec<u8>,
    replaced: &'a mut Replaced,
}

impl<'a> RowWriter<'a> {
    /// Begins a row of `fields` fields at the end of `out`.
    #[inline]
    pub fn begin(out: &'a mut Vec<u8>, fields: usize, replaced: &'a mut Replaced) -> Self {
        out.extend_from_slice(&(fields as i16).to_be_bytes());
        Self { out, replaced }
    }

    /// Writes fields at the end of `out`.
    pub(super) fn at(out: &'a mut Vec<u8>, replaced: &'a mut Replaced) -> Self {
        Self { out, replaced }
    }

    /// The counts of replacements, for those that the caller makes.
    pub fn replaced(&mut self) -> &mut Replaced {
        self.replaced
    }

    /// NULL.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(&NULL);
    }

    /// A smallint.
    #[inline]
    pub fn int2(&mut self, value: i16) {
        self.fixed(value.to_be_bytes());
    }

    /// An integer.
    #[inline]
    pub fn int4(&mut self, value: i32) {
        self.fixed(value.to_be_bytes());
    }

    /// A bigint.
    #[inline]
    pub fn int8(&mut self, value: i64) {
        self.fixed(value.to_be_bytes());
    }

    /// A timestamptz, given in nanoseconds since 1970. PostgreSQL counts microseconds since 2000.
    #[inline]
    pub fn timestamptz(&mut self, unix_nano: u64) {
        self.int8((unix_nano / 1000) as i64 - EPOCH_2000);
    }

    /// A uuid.
    #[inline]
    pub fn uuid(&mut self, value: [u8; 16]) {
        self.fixed(value);
    }

    /// A bytea.
    #[inline]
    pub fn bytea(&mut self, value: &[u8]) {
        if let Ok(trace_id) = <[u8; 16]>::try_from(value) {
            self.fixed(trace_id);
        } else if let Ok(span_id) = <[u8; 8]>::try_from(value) {
            self.fixed(span_id);
        } else {
            self.sized(value);
        }
    }

    /// A text; bytes that PostgreSQL cannot hold are replaced.
    #[inline]
    pub fn text(&mut self, value: &[u8]) {
        if is_plain_text(value) {
            return self.sized(value);
        }
        let start = self.begin_sized();
        push_text(self.out, value, self.replaced);
        self.end_sized(start);
    }

    /// A real.
    pub fn float4(&mut self, value: f32) {
        self.fixed(value.to_be_bytes());
    }

    /// A double precision.
    pub fn float8(&mut self, value: f64) {
        self.fixed(value.to_be_bytes());
    }

    /// A boolean.
    pub fn boolean(&mut self, value: bool) {
        self.fixed([value.into()]);
    }

    /// A field that is written already, with its length.
    pub(super) fn field(&mut self, written: &[u8]) {
        self.out.extend_from_slice(written);
    }

    /// A field of the bytes that `write` appends.
    pub(super) fn sized_by<T>(&mut self, write: impl FnOnce(&mut Vec<u8>, &mut Replaced) -> T) -> T {
        let start = self.begin_sized();
        let result = write(self.out, self.replaced);
        self.end_sized(start);
        result
    }

    /// A jsonb of one value.
    #[inline]
    pub fn jsonb_value(&mut self, value: AnyValue<'_>) -> Result<(), Malformed> {
        let start = self.begin_sized();
        self.out.push(JSONB_VERSION);
        json::push_value(self.out, value, self.replaced)?;
        self.end_sized(start);
        Ok(())
    }

    /// A jsonb object of attributes, each the bytes of a `KeyValue` message.
    #[inline]
    pub fn jsonb_object<'b>(
        &mut self,
        attributes: impl IntoIterator<Item = &'b [u8]>,
    ) -> Result<(), Malformed> {
        let start = self.begin_sized();
        self.out.push(JSONB_VERSION);
        json::push_object(self.out, attributes, self.replaced)?;
        self.end_sized(start);
        Ok(())
    }

    /// Appends length and value in one piece, which the compiler turns into two stores.
    #[inline(always)]
    fn fixed<const N: usize>(&mut self, value: [u8; N]) {
        const { assert!(N <= 16) };
        let mut field = [0; 20];
        field[..4].copy_from_slice(&(N as i32).to_be_bytes());
        field[4..4 + N].copy_from_slice(&value);
        self.out.extend_from_slice(&field[..4 + N]);
    }

    #[inline]
    fn sized(&mut self, value: &[u8]) {
        self.out.extend_from_slice(&(value.len() as i32).to_be_bytes());
        self.out.extend_from_slice(value);
    }

    /// Leaves room for the length, which is known only after the value.
    #[inline]
    fn begin_sized(&mut self) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        start
    }

    #[inline]
    fn end_sized(&mut self, start: usize) {
        let length = (self.out.len() - start - 4) as i32;
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: usize, write: impl FnOnce(&mut RowWriter<'_>)) -> Vec<u8> {
        let (mut out, mut replaced) = (Vec::new(), Replaced::default());
        write(&mut RowWriter::begin(&mut out, fields, &mut replaced));
        out
    }

    #[test]
    fn fields_are_length_and_value_in_network_order() {
        let bytes = row(4, |row| {
            row.null();
            row.int2(-2);
            row.text(b"hi");
            row.jsonb_value(AnyValue::Bool(true)).unwrap();
        });
        let expected = [
            &[0, 4][..],
            &[0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0, 2, 0xff, 0xfe],
            &[0, 0, 0, 2, b'h', b'i'],
            &[0, 0, 0, 5, 1, b't', b'r', b'u', b'e'],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn times_count_from_the_year_2000() {
        let micros =
            |nanos| i64::from_be_bytes(row(1, |row| row.timestamptz(nanos))[6..].try_into().unwrap());
        assert_eq!(micros(946_684_800_000_000_000), 0);
        assert_eq!(micros(946_684_800_000_001_999), 1);
        assert_eq!(micros(0), -946_684_800_000_000);
        // The last nanosecond of OTLP is in July 2554, far inside timestamptz.
        assert_eq!(micros(u64::MAX), 17_500_059_273_709_551);
    }
}
