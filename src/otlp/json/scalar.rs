//! Scalars of another type than their field. None costs its record: the nearest value or the text replaces it, and is counted.

use super::Unwritten;
use super::reader::{JsonReader, Kind, Text};
use super::writer::Writer;
use super::written::{Done, fault, skip};
use crate::otlp::replaced::ReplacedKind;

/// Fields of `AnyValue`.
pub(super) const STRING: u8 = 1;
pub(super) const BOOL: u8 = 2;
pub(super) const INT: u8 = 3;
pub(super) const DOUBLE: u8 = 4;

/// The integers that a field holds, and the kind under which the nearest one counts when it replaces another number.
pub(super) struct Integers {
    pub(super) least: i128,
    pub(super) most: i128,
    pub(super) kind: ReplacedKind,
    /// Larger numbers are counted when they are stored.
    pub(super) stored: i128,
}

/// A scalar in the place of an `AnyValue`, or of a member of another type.
pub(super) fn as_value(json: &mut JsonReader<'_>, wire: &mut Writer<'_>) -> Done {
    wire.replaced.count(ReplacedKind::Type);
    match json.kind()? {
        Kind::Bool => wire.varint(BOOL, json.bool()?.into()),
        Kind::Number => number_as_value(json.number()?, wire),
        Kind::Text => {
            let text = json.text()?;
            unescaped(text, wire, STRING)
        }
        Kind::Null | Kind::Array | Kind::Object => skip(json),
    }
}

/// A number in the place of an `AnyValue`: an integer, else a double that is the same, else its text.
pub(super) fn number_as_value(text: &str, wire: &mut Writer<'_>) -> Done {
    if let Some(number) = whole(text).and_then(|number| i64::try_from(number).ok()) {
        return wire.varint(INT, number as u64);
    }
    match text.parse::<f64>() {
        Ok(number) if is_same(text, number) => wire.fixed64(DOUBLE, number.to_bits()),
        _ => wire.bytes(STRING, text.as_bytes()),
    }
}

/// The text of a scalar, in a string field.
pub(super) fn as_text(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    let text = match json.kind()? {
        Kind::Bool if json.bool()? => "true",
        Kind::Bool => "false",
        Kind::Number => json.number()?,
        _ => return fault(json, wire, "expected a string"),
    };
    wire.replaced.count(ReplacedKind::Type);
    wire.bytes(number, text.as_bytes())
}

/// A string, in a string field.
pub(super) fn unescaped(text: Text<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    if !text.escaped {
        return wire.bytes(number, text.raw);
    }
    let open = wire.begin(number)?;
    text.unescape(|piece| wire.put(piece))?;
    wire.end(open)
}

/// Skips a scalar in the place of a list or a message, and counts it; `read` reads anything else.
pub(super) fn unless_scalar<'j, 'w>(
    json: &mut JsonReader<'j>,
    wire: &mut Writer<'w>,
    read: impl FnOnce(&mut JsonReader<'j>, &mut Writer<'w>) -> Done,
) -> Done {
    if json.kind()?.is_scalar() {
        wire.replaced.count(ReplacedKind::Type);
        return skip(json);
    }
    read(json, wire)
}

/// An integer; `None` for null, and for anything that is no number.
pub(super) fn integer(
    json: &mut JsonReader<'_>,
    wire: &mut Writer<'_>,
    field: &Integers,
) -> Result<Option<i128>, Unwritten> {
    let text = match json.kind()? {
        Kind::Number => Some(json.number()?),
        Kind::Text => plain(json.text()?),
        Kind::Bool => {
            json.bool()?;
            None
        }
        Kind::Null => {
            json.null()?;
            return Ok(None);
        }
        Kind::Array | Kind::Object => {
            fault(json, wire, "expected a number")?;
            return Ok(None);
        }
    };
    Ok(field.nearest(text, wire))
}

impl Kind {
    pub(super) fn is_scalar(self) -> bool {
        matches!(self, Self::Bool | Self::Number | Self::Text)
    }
}

impl Integers {
    /// The integer nearest to the number in `text`; `None` if it is no number.
    pub(super) fn nearest(&self, text: Option<&str>, wire: &mut Writer<'_>) -> Option<i128> {
        let exact = text.and_then(whole);
        let rounded = || Some(double(text?).filter(|number| !number.is_nan())?.round() as i128);
        let nearest = exact.or_else(rounded).map(|number| number.clamp(self.least, self.most));
        let is_counted_later =
            nearest.is_some_and(|number| number.unsigned_abs() > self.stored.unsigned_abs());
        if (exact.is_none() || exact != nearest) && !is_counted_later {
            wire.replaced.count(self.kind);
        }
        nearest
    }
}

/// A string without escapes, which may be a number.
pub(super) fn plain(text: Text<'_>) -> Option<&str> {
    str::from_utf8(text.raw).ok().filter(|_| !text.escaped)
}

/// The integer in `text`. For proto3, 1.0 and 1e3 are integers too.
pub(super) fn whole(text: &str) -> Option<i128> {
    let written = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-').then(|| text.parse().ok());
    written.flatten().or_else(|| {
        let number = double(text).filter(|number| number.fract() == 0.0 && number.abs() < 1e38)?;
        Some(number as i128)
    })
}

/// The double nearest to the number in `text`, without the words that Rust's parser accepts.
pub(super) fn double(text: &str) -> Option<f64> {
    let is_number = text.bytes().any(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Whether `number` is exactly the number in `text`. A text with a point or an exponent was a double when it was written.
fn is_same(text: &str, number: f64) -> bool {
    let is_whole = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    number.is_finite() && (!is_whole || number.to_string() == text)
}
