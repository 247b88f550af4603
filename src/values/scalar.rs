//! One reader for values that have a syntax of their own, whether YAML takes them for text or for numbers.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Expected, Unexpected, Visitor};

/// Words for an error message.
pub type Words = Cow<'static, str>;

/// A type whose values are written as text.
pub trait Scalar: Sized {
    /// The values that are allowed.
    fn expected() -> Words;

    /// Reads `text`. The error says what is allowed in its place.
    fn parse(text: &str) -> Result<Self, Words>;
}

/// A unit as it is written behind a number, and its name.
pub type Unit = (&'static str, &'static str);

/// Reads text or a number. `unit` is the unit of a bare number, if one is allowed.
pub fn read<'de, T: Scalar, D: Deserializer<'de>>(
    deserializer: D,
    unit: Option<Unit>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Reader { unit, value: PhantomData })
}

/// Reads text, which may look like a number: 007 stays what it is.
pub fn read_text<'de, T: Scalar, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(Reader { unit: None, value: PhantomData })
}

/// Whether `text` is a decimal number and nothing else.
pub fn is_number(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit()) && text.trim().chars().all(|c| c.is_ascii_digit() || c == '.')
}

struct Reader<T> {
    unit: Option<Unit>,
    value: PhantomData<T>,
}

/// The allowed values, and the unit of a bare number.
struct Allowed<'a>(&'a str, Option<Unit>);

impl Expected for Allowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        self.1.map_or(Ok(()), |(_, name)| write!(f, ", or a number of {name}"))
    }
}

impl<T: Scalar> Reader<T> {
    fn take<E: Error>(&self, found: Unexpected<'_>, text: &str) -> Result<T, E> {
        let (unit, _) = self.unit.filter(|_| is_number(text)).unwrap_or_default();
        T::parse(&format!("{text}{unit}"))
            .map_err(|allowed| E::invalid_value(found, &Allowed(&allowed, self.unit)))
    }
}

impl<T: Scalar> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Expected::fmt(&Allowed(&T::expected(), self.unit), f)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.take(Unexpected::Str(text), text)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        self.take(Unexpected::Bool(value), &value.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.take(Unexpected::Unsigned(number), &number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.take(Unexpected::Signed(number), &number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.take(Unexpected::Float(number), &number.to_string())
    }
}
