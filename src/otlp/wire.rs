//! Protobuf's wire format, read field by field from borrowed bytes.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>. Groups (wire types 3 and 4) were never part of OTLP. They are
//! refused, so that nothing here recurses.

/// Bytes that are not protobuf, or not the protobuf that OTLP has in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf: {0}")]
pub struct Malformed(&'static str);

impl Malformed {
    /// For a message that is larger than any of OTLP.
    pub const TOO_LARGE: Malformed = Malformed("it is too large");
}

/// The value of one field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a string, bytes, or a message.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// The fields of one message, in the order of the wire.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads `message`.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value; `None` at the end of the message.
    ///
    /// Always inlined: returning the field through memory would cost more than reading it.
    #[inline(always)]
    pub fn next_field(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed("a field number is too large"))?;
        if number == 0 {
            return Err(Malformed("a field has the number 0"));
        }
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| TRUNCATED)?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            3 | 4 => return Err(Malformed("a field is a group")),
            _ => return Err(Malformed("a field has an unknown wire type")),
        };
        Ok(Some((number, field)))
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Malformed> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            // The tenth byte has room for one bit only.
            if index == 9 && byte > 1 {
                return Err(Malformed("a varint is longer than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { TRUNCATED } else { Malformed("a varint is longer than 64 bits") })
    }

    #[inline(always)]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*taken)
    }
}

impl<'a> Field<'a> {
    /// The value of a string, bytes or message field.
    #[inline]
    pub fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Field::Bytes(bytes) = self { Ok(bytes) } else { Err(WRONG_TYPE) }
    }

    /// The value of an integer, enum or bool field.
    #[inline]
    pub fn varint(self) -> Result<u64, Malformed> {
        if let Field::Varint(value) = self { Ok(value) } else { Err(WRONG_TYPE) }
    }

    /// The value of a fixed64 or double field.
    #[inline]
    pub fn fixed64(self) -> Result<u64, Malformed> {
        if let Field::Fixed64(value) = self { Ok(value) } else { Err(WRONG_TYPE) }
    }

    /// The value of a fixed32 field.
    #[inline]
    pub fn fixed32(self) -> Result<u32, Malformed> {
        if let Field::Fixed32(value) = self { Ok(value) } else { Err(WRONG_TYPE) }
    }
}

const TRUNCATED: Malformed = Malformed("it ends in the middle of a field");
const WRONG_TYPE: Malformed = Malformed("a field has another wire type than OTLP's");

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(message: &[u8]) -> Result<Vec<(u32, Field<'_>)>, Malformed> {
        let mut fields = Fields::new(message);
        let mut all = Vec::new();
        while let Some(field) = fields.next_field()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn reads_each_wire_type() {
        let message = [
            [0x08, 0x96, 0x01].as_slice(), // 1: varint 150
            &[0x12, 2, b'h', b'i'],        // 2: "hi"
            &[0x1d, 1, 0, 0, 0],           // 3: fixed32
            &[0x21, 2, 0, 0, 0, 0, 0, 0, 0],
            &[0x80, 0x01, 7], // 16: varint
        ]
        .concat();
        assert_eq!(
            read_all(&message).unwrap(),
            [
                (1, Field::Varint(150)),
                (2, Field::Bytes(b"hi")),
                (3, Field::Fixed32(1)),
                (4, Field::Fixed64(2)),
                (16, Field::Varint(7)),
            ]
        );
    }

    #[test]
    fn varints_end_at_64_bits() {
        let max = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
        assert_eq!(read_all(&max).unwrap(), [(1, Field::Varint(u64::MAX))]);
        let longer = [&[0x08][..], &[0xff; 9], &[0x02]].concat();
        assert!(read_all(&longer).is_err());
        let endless = [&[0x08][..], &[0xff; 20]].concat();
        assert!(read_all(&endless).is_err());
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_message() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 0, 0, 0];
        let boundaries = [0, 3, 7, 12];
        for length in 0..=message.len() {
            assert_eq!(read_all(&message[..length]).is_ok(), boundaries.contains(&length), "cut at {length}");
        }
    }

    #[test]
    fn refuses_groups_number_zero_and_lengths_beyond_the_end() {
        for message in [&[0x0b][..], &[0x0c], &[0x0e], &[0x00, 0x01], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert!(read_all(message).is_err(), "{message:?}");
        }
    }
}
