//! Values: numbers, texts, ids, and OTLP's `AnyValue`.

use super::Unwritten;
use super::reader::{Kind, Reader, Text};
use super::request::{Done, each, fault, key_value, nested, skip};
use super::writer::Writer;

/// The arrays and maps in each other that are written. It is more than is ever stored; what is deeper is passed over.
pub(super) const DEEPEST: usize = 100;

const BEYOND: &str = "a number is not what its field holds";
const SEVERITIES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// A member of an `AnyValue` with `depth` arrays and maps around it.
pub(super) fn any_value(json: &mut Reader<'_>, wire: &mut Writer<'_>, name: &[u8], depth: usize) -> Done {
    match name {
        b"stringValue" | b"string_value" => text(json, wire, 1),
        b"boolValue" | b"bool_value" => match json.kind()? {
            Kind::Bool => wire.varint(2, json.bool()?.into()),
            Kind::Null => Ok(json.null()?),
            _ => fault(json, wire, "there is neither true nor false here"),
        },
        b"intValue" | b"int_value" => match integer::<i64>(json, wire)? {
            Some(number) => wire.varint(3, number as u64),
            None => Ok(()),
        },
        b"doubleValue" | b"double_value" => match double(json, wire)? {
            Some(number) => wire.fixed64(4, number.to_bits()),
            None => Ok(()),
        },
        b"arrayValue" | b"array_value" => values(json, wire, 5, depth, |json, wire| {
            if json.kind()? == Kind::Null {
                json.null()?;
                return wire.bytes(1, b"");
            }
            nested(json, wire, 1, |json, wire, name| any_value(json, wire, name, depth + 1))
        }),
        b"kvlistValue" | b"kvlist_value" => values(json, wire, 6, depth, |json, wire| {
            nested(json, wire, 1, |json, wire, name| key_value(json, wire, name, depth + 1))
        }),
        b"bytesValue" | b"bytes_value" => decoded(json, wire, 7, base64),
        _ => skip(json),
    }
}

/// An `ArrayValue` or a `KeyValueList`.
fn values<'j, 'w>(
    json: &mut Reader<'j>,
    wire: &mut Writer<'w>,
    number: u8,
    depth: usize,
    item: impl Fn(&mut Reader<'j>, &mut Writer<'w>) -> Done,
) -> Done {
    nested(json, wire, number, |json, wire, name| match name {
        b"values" if depth < DEEPEST => each(json, wire, &item),
        _ => skip(json),
    })
}

/// A string field.
pub(super) fn text(json: &mut Reader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    match json.kind()? {
        Kind::Text => {
            let text = json.text()?;
            if !text.escaped {
                return wire.bytes(number, text.raw);
            }
            let open = wire.begin(number)?;
            text.unescape(|piece| wire.put(piece))?;
            wire.end(open)
        }
        Kind::Null => Ok(json.null()?),
        _ => fault(json, wire, "there is no string here"),
    }
}

/// A trace id or a span id, which are hex.
pub(super) fn id(json: &mut Reader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    decoded(json, wire, number, hex)
}

/// Bytes that `decode` makes of a text, in its place.
fn decoded(
    json: &mut Reader<'_>,
    wire: &mut Writer<'_>,
    number: u8,
    decode: impl Fn(&mut [u8]) -> Option<usize>,
) -> Done {
    match json.kind()? {
        Kind::Text => {
            let open = wire.begin(number)?;
            let fault = json.malformed("a text does not say the bytes that it should");
            json.text()?.unescape(|piece| wire.put(piece))?;
            let length = decode(wire.content(&open));
            if length.is_none() {
                wire.fault.get_or_insert(fault);
            }
            wire.keep(&open, length.unwrap_or_default());
            wire.end(open)
        }
        Kind::Null => Ok(json.null()?),
        _ => fault(json, wire, "there is no string here"),
    }
}

/// `droppedAttributesCount`.
pub(super) fn dropped(json: &mut Reader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    match integer::<u32>(json, wire)? {
        Some(count) => wire.varint(number, count.into()),
        None => Ok(()),
    }
}

/// `severityNumber`, by its number or its name.
pub(super) fn severity(json: &mut Reader<'_>, wire: &mut Writer<'_>, number: u8) -> Done {
    let found = numeric(json, wire, |text| severity_of(text).or_else(|| in_range::<i32>(text)))?;
    match found {
        Some(severity) => wire.varint(number, i64::from(severity) as u64),
        None => Ok(()),
    }
}

fn severity_of(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SEVERITY_NUMBER_")?;
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

/// An integer; `None` for null, and for what is not one.
pub(super) fn integer<T: TryFrom<i128>>(
    json: &mut Reader<'_>,
    wire: &mut Writer<'_>,
) -> Result<Option<T>, Unwritten> {
    numeric(json, wire, in_range)
}

fn double(json: &mut Reader<'_>, wire: &mut Writer<'_>) -> Result<Option<f64>, Unwritten> {
    numeric(json, wire, |text| match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Not the further words that the parser knows.
        _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
    })
}

/// What `parse` makes of a number, or of a text.
fn numeric<T>(
    json: &mut Reader<'_>,
    wire: &mut Writer<'_>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Unwritten> {
    let at = json.malformed(BEYOND);
    let found = match json.kind()? {
        Kind::Number => parse(json.number()?),
        Kind::Text => {
            let Text { raw, escaped } = json.text()?;
            str::from_utf8(raw).ok().filter(|_| !escaped).and_then(parse)
        }
        Kind::Null => {
            json.null()?;
            return Ok(None);
        }
        _ => {
            fault(json, wire, BEYOND)?;
            return Ok(None);
        }
    };
    if found.is_none() {
        wire.fault.get_or_insert(at);
    }
    Ok(found)
}

fn in_range<T: TryFrom<i128>>(text: &str) -> Option<T> {
    let number = text.parse::<u64>().map(i128::from).or_else(|_| text.parse::<i64>().map(i128::from));
    let number = number.ok().or_else(|| {
        // proto3 takes 1.0 and 1e3 for integers, too.
        let number = text.parse::<f64>().ok()?;
        (number.fract() == 0.0 && number.abs() < 2e19).then_some(number as i128)
    });
    T::try_from(number?).ok()
}

/// Hex in any case (RFC 4648, section 8).
fn hex(text: &mut [u8]) -> Option<usize> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for at in 0..text.len() / 2 {
        text[at] = (digit(text[2 * at])? << 4 | digit(text[2 * at + 1])?) as u8;
    }
    Some(text.len() / 2)
}

/// Base64 in either alphabet, with or without padding (RFC 4648, sections 4 and 5).
fn base64(text: &mut [u8]) -> Option<usize> {
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let digits = text.len() - padding;
    if digits % 4 == 1 {
        return None;
    }
    let (mut bits, mut held, mut length) = (0_u32, 0, 0);
    for at in 0..digits {
        let digit = match text[at] {
            upper @ b'A'..=b'Z' => upper - b'A',
            lower @ b'a'..=b'z' => lower - b'a' + 26,
            number @ b'0'..=b'9' => number - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            text[length] = (bits >> held) as u8;
            length += 1;
        }
    }
    Some(length)
}
