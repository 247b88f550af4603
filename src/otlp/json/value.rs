//! Values: numbers, texts, ids, and OTLP's `AnyValue`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

use super::Unwritten;
use super::reader::{JsonReader, Kind};
use super::scalar::{
    BOOL, DOUBLE, INT, Integers, STRING, as_text, as_value, double, integer, number_as_value, plain,
    unescaped, unless_scalar, whole,
};
use super::writer::Writer;
use super::written::{Done, each, fault, message, nested, skip};
use crate::otlp::replaced::ReplacedKind;

/// The deepest nesting of arrays and maps that is written, deeper than any value that is stored. Deeper values are skipped.
pub(super) const DEEPEST: usize = 100;

const SEVERITIES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
/// Ignores spare bits at the end, as Go and Java do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));
/// Replaces an invalid id. It is too short for an id, so it is counted when it is stored.
const NO_ID: &[u8] = b"?";

/// `timeUnixNano`. A bigint holds less than a fixed64.
pub(super) const TIME: Integers =
    Integers { least: 0, most: u64::MAX as i128, kind: ReplacedKind::Time, stored: i64::MAX as i128 };
/// `flags`.
pub(super) const FLAGS: Integers =
    Integers { least: 0, most: u32::MAX as i128, kind: ReplacedKind::Number, stored: u32::MAX as i128 };
/// `droppedAttributesCount`.
const DROPPED: Integers = Integers { stored: i32::MAX as i128, ..FLAGS };
/// `severityNumber`.
const SEVERITY: Integers = Integers {
    least: i32::MIN as i128,
    most: i32::MAX as i128,
    kind: ReplacedKind::Number,
    stored: i16::MAX as i128,
};

/// A member of a `KeyValue` inside `depth` arrays and maps.
pub(super) fn key_value(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, name: &[u8], depth: usize) -> Done {
    match name {
        b"key" => text(json, wire, 1),
        b"value" => value(json, wire, 2, depth),
        _ => skip(json),
    }
}

/// An `AnyValue` in the field `number`, inside `depth` arrays and maps.
pub(super) fn value(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, number: u8, depth: usize) -> Done {
    let member =
        |json: &mut JsonReader<'_>, wire: &mut Writer<'_>, name: &[u8]| any_value(json, wire, name, depth);
    match json.kind()? {
        kind if kind.is_scalar() => {
            let open = wire.begin(number)?;
            as_value(json, wire)?;
            wire.end(open)
        }
        _ if depth > 0 => nested(json, wire, number, member),
        _ => message(json, wire, number, member),
    }
}

/// A member of an `AnyValue` inside `depth` arrays and maps.
fn any_value(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, name: &[u8], depth: usize) -> Done {
    let read = match name {
        b"stringValue" | b"string_value" => return text(json, wire, STRING),
        b"boolValue" | b"bool_value" => bool_value,
        b"intValue" | b"int_value" => int_value,
        b"doubleValue" | b"double_value" => double_value,
        b"bytesValue" | b"bytes_value" => bytes_value,
        b"arrayValue" | b"array_value" => {
            return values(json, wire, 5, depth, |json, wire| match json.kind()? {
                Kind::Null => {
                    json.null()?;
                    wire.bytes(1, b"")
                }
                _ => value(json, wire, 1, depth + 1),
            });
        }
        b"kvlistValue" | b"kvlist_value" => {
            return values(json, wire, 6, depth, |json, wire| {
                unless_scalar(json, wire, |json, wire| {
                    nested(json, wire, 1, |json, wire, name| key_value(json, wire, name, depth + 1))
                })
            });
        }
        _ => return skip(json),
    };
    match json.kind()? {
        Kind::Null => Ok(json.null()?),
        kind if kind.is_scalar() => read(json, wire),
        _ => fault(json, wire, "expected a scalar"),
    }
}

fn bool_value(json: &mut JsonReader<'_>, wire: &mut Writer<'_>) -> Done {
    match json.kind()? {
        Kind::Bool => wire.varint(BOOL, json.bool()?.into()),
        Kind::Text => {
            wire.replaced.count(ReplacedKind::Type);
            let text = json.text()?;
            match plain(text).and_then(|text| text.to_ascii_lowercase().parse::<bool>().ok()) {
                Some(value) => wire.varint(BOOL, value.into()),
                None => unescaped(text, wire, STRING),
            }
        }
        _ => as_value(json, wire),
    }
}

fn int_value(json: &mut JsonReader<'_>, wire: &mut Writer<'_>) -> Done {
    numeric(json, wire, |text| {
        let number = i64::try_from(whole(text)?).ok()?;
        Some((INT, number as u64))
    })
}

fn double_value(json: &mut JsonReader<'_>, wire: &mut Writer<'_>) -> Done {
    numeric(json, wire, |text| {
        let number = match text {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => double(text).filter(|number| number.is_finite())?,
        };
        Some((DOUBLE, number.to_bits()))
    })
}

/// A number or a text, which `parse` turns into a field and its bits. If it cannot, the nearest value or the text is written.
fn numeric(
    json: &mut JsonReader<'_>,
    wire: &mut Writer<'_>,
    parse: impl Fn(&str) -> Option<(u8, u64)>,
) -> Done {
    let text = match json.kind()? {
        Kind::Number => Ok(json.number()?),
        Kind::Text => {
            let text = json.text()?;
            plain(text).ok_or(text)
        }
        _ => return as_value(json, wire),
    };
    match text.map(|text| (text, parse(text))) {
        Ok((_, Some((DOUBLE, bits)))) => wire.fixed64(DOUBLE, bits),
        Ok((_, Some((field, bits)))) => wire.varint(field, bits),
        Ok((text, None)) if double(text).is_some() => {
            wire.replaced.count(ReplacedKind::Number);
            number_as_value(text, wire)
        }
        Ok((text, None)) => {
            wire.replaced.count(ReplacedKind::Type);
            wire.bytes(STRING, text.as_bytes())
        }
        Err(text) => {
            wire.replaced.count(ReplacedKind::Type);
            unescaped(text, wire, STRING)
        }
    }
}

fn bytes_value(json: &mut JsonReader<'_>, wire: &mut Writer<'_>) -> Done {
    if json.kind()? != Kind::Text {
        return as_value(json, wire);
    }
    let text = json.text()?;
    let open = wire.begin(7)?;
    text.unescape(|piece| wire.put(piece))?;
    if let Some(length) = base64(wire.content(&open)) {
        wire.keep(&open, length);
        return wire.end(open);
    }
    wire.undo(open);
    wire.replaced.count(ReplacedKind::Type);
    unescaped(text, wire, STRING)
}

/// An `ArrayValue` or a `KeyValueList`. A scalar in its place becomes the value.
fn values<'j, 'w>(
    json: &mut JsonReader<'j>,
    wire: &mut Writer<'w>,
    number: u8,
    depth: usize,
    item: impl Fn(&mut JsonReader<'j>, &mut Writer<'w>) -> Done,
) -> Done {
    if json.kind()?.is_scalar() {
        return as_value(json, wire);
    }
    nested(json, wire, number, |json, wire, name| match name {
        b"values" if depth < DEEPEST => unless_scalar(json, wire, |json, wire| each(json, wire, &item)),
        _ => skip(json),
    })
}

/// A string field.
pub(super) fn text(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    match json.kind()? {
        Kind::Text => {
            let text = json.text()?;
            unescaped(text, wire, number)
        }
        Kind::Null => Ok(json.null()?),
        _ => as_text(json, wire, number),
    }
}

/// A trace id or a span id, which are hex.
pub(super) fn id(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    match json.kind()? {
        Kind::Text => {
            let open = wire.begin(number)?;
            json.text()?.unescape(|piece| wire.put(piece))?;
            match hex(wire.content(&open)) {
                Some(length) => {
                    wire.keep(&open, length);
                    wire.end(open)
                }
                None => {
                    wire.undo(open);
                    wire.bytes(number, NO_ID)
                }
            }
        }
        Kind::Null => Ok(json.null()?),
        Kind::Bool | Kind::Number => {
            skip(json)?;
            wire.bytes(number, NO_ID)
        }
        Kind::Array | Kind::Object => fault(json, wire, "expected a string"),
    }
}

/// `droppedAttributesCount`.
pub(super) fn dropped(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    match integer(json, wire, &DROPPED)? {
        Some(count) => wire.varint(number, count as u64),
        None => Ok(()),
    }
}

/// `severityNumber`, by its number or its name.
pub(super) fn severity(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    match severity_number(json, wire)? {
        Some(severity) => wire.varint(number, severity as u64),
        None => Ok(()),
    }
}

fn severity_number(json: &mut JsonReader<'_>, wire: &mut Writer<'_>) -> Result<Option<i128>, Unwritten> {
    if json.kind()? != Kind::Text {
        return integer(json, wire, &SEVERITY);
    }
    let text = plain(json.text()?);
    let Some(name) = text.map(str::to_ascii_uppercase) else { return Ok(SEVERITY.nearest(None, wire)) };
    let full = name.strip_prefix("SEVERITY_NUMBER_");
    let Some(severity) = severity_of(full.unwrap_or(&name)) else {
        return Ok(SEVERITY.nearest(text, wire));
    };
    if full.is_none() {
        wire.replaced.count(ReplacedKind::Type);
    }
    Ok(Some(severity.into()))
}

fn severity_of(name: &str) -> Option<i32> {
    if name == "UNSPECIFIED" {
        return Some(0);
    }
    let (word, step) = match name.as_bytes().last()? {
        digit @ b'2'..=b'4' => (&name[..name.len() - 1], i32::from(digit - b'1')),
        _ => (name, 0),
    };
    let index = SEVERITIES.iter().position(|known| *known == word)?;
    Some(index as i32 * 4 + 1 + step)
}

/// Decodes hex in any case (RFC 4648, section 8) in place; returns the length.
fn hex(text: &mut [u8]) -> Option<usize> {
    let (mut decoded, mut length) = ([0; 32], 0);
    for start in (0..text.len()).step_by(2 * decoded.len()) {
        let piece = &text[start..text.len().min(start + 2 * decoded.len())];
        let bytes = piece.len() / 2;
        const_hex::decode_to_slice(piece, &mut decoded[..bytes]).ok()?;
        text[length..length + bytes].copy_from_slice(&decoded[..bytes]);
        length += bytes;
    }
    Some(length)
}

/// Decodes base64 in either alphabet, with or without padding (RFC 4648, sections 4 and 5), in place, piece by piece; returns the
/// length.
fn base64(text: &mut [u8]) -> Option<usize> {
    const PIECE: usize = 1024;
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let digits = text.len() - padding;
    let (mut decoded, mut length) = ([0; PIECE / 4 * 3], 0);
    for start in (0..digits).step_by(PIECE) {
        let piece = &mut text[start..digits.min(start + PIECE)];
        for digit in piece.iter_mut() {
            *digit = match *digit {
                b'-' => b'+',
                b'_' => b'/',
                digit => digit,
            };
        }
        let bytes = LENIENT.decode_slice(piece, &mut decoded).ok()?;
        text[length..length + bytes].copy_from_slice(&decoded[..bytes]);
        length += bytes;
    }
    Some(length)
}
