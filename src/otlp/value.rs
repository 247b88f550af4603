//! OTLP's `AnyValue` and `KeyValue`, borrowed from the wire.

use super::wire::{Fields, Malformed};

/// One attribute or body value. Strings are bytes that may not be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AnyValue<'a> {
    /// No value is set, which OTLP calls the empty value.
    Empty,
    /// A string.
    String(&'a [u8]),
    /// A bool.
    Bool(bool),
    /// A signed 64-bit integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// An `ArrayValue`, whose elements [`Items`] reads.
    Array(&'a [u8]),
    /// A `KeyValueList`, whose entries [`Items`] reads.
    Map(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// One `KeyValue`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyValue<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; empty if absent.
    pub value: AnyValue<'a>,
}

/// The elements of an array or a map, each the bytes of one message.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    fields: Fields<'a>,
}

impl<'a> AnyValue<'a> {
    /// Reads an `AnyValue` message. The last of several values counts (protobuf, oneof).
    ///
    /// Always inlined: returning the value through memory would cost more than reading it.
    #[inline(always)]
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut value = AnyValue::Empty;
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next_field()? {
            value = match number {
                1 => AnyValue::String(field.bytes()?),
                2 => AnyValue::Bool(field.varint()? != 0),
                3 => AnyValue::Int(field.varint()? as i64),
                4 => AnyValue::Double(f64::from_bits(field.fixed64()?)),
                5 => AnyValue::Array(field.bytes()?),
                6 => AnyValue::Map(field.bytes()?),
                7 => AnyValue::Bytes(field.bytes()?),
                _ => value,
            };
        }
        Ok(value)
    }
}

impl<'a> KeyValue<'a> {
    /// Reads a `KeyValue` message.
    #[inline(always)]
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut pair = KeyValue { key: &[], value: AnyValue::Empty };
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next_field()? {
            match number {
                1 => pair.key = field.bytes()?,
                2 => pair.value = AnyValue::read(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(pair)
    }
}

impl<'a> Items<'a> {
    /// The elements of `message`: field 1 of both `ArrayValue` and `KeyValueList`.
    pub fn of(message: &'a [u8]) -> Self {
        Self { fields: Fields::new(message) }
    }

    /// The next element's bytes; `None` at the end.
    #[inline(always)]
    pub fn next_item(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        while let Some((number, field)) = self.fields.next_field()? {
            if number == 1 {
                return field.bytes().map(Some);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_empty_and_the_last_of_several_wins() {
        assert_eq!(AnyValue::read(&[]).unwrap(), AnyValue::Empty);
        assert_eq!(AnyValue::read(&[0x10, 1, 0x18, 5]).unwrap(), AnyValue::Int(5));
        assert_eq!(AnyValue::read(&[0x0a, 0]).unwrap(), AnyValue::String(b""));
    }

    #[test]
    fn a_value_before_its_key_is_read_as_well() {
        let pair = KeyValue::read(&[0x12, 2, 0x10, 1, 0x0a, 1, b'k']).unwrap();
        assert_eq!(pair, KeyValue { key: b"k", value: AnyValue::Bool(true) });
    }

    #[test]
    fn another_wire_type_is_malformed() {
        assert!(AnyValue::read(&[0x08, 1]).is_err(), "a string as a varint");
        assert!(KeyValue::read(&[0x10, 1]).is_err(), "a value as a varint");
    }
}
