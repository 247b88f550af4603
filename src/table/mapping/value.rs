//! Converts a value to the type of its column, if that is obvious. Otherwise nothing is written, and the column gets its default.

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::types::ColumnType;
use crate::otlp::Malformed;
use crate::otlp::value::AnyValue;
use crate::table::json;
use crate::table::row::{EPOCH_2000, JSONB_VERSION, RowWriter};
use crate::table::text::{Replaced, ReplacedKind, push_text};

/// A value to write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// A value of OTLP.
    Any(AnyValue<'a>),
    /// Nanoseconds since 1970.
    Time(u64),
    /// The id of a trace or a span, which is hexadecimal as text.
    Id(&'a [u8]),
    /// A generated UUID.
    Uuid(Uuid),
    /// Text that is JSON already.
    Json(&'a str),
}

/// PostgreSQL's first time, in microseconds since 2000. Its last one is later than jiff's.
const FIRST_TIME: i64 = -211_813_488_000_000_000;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Writes `value` as a field of type `into`. Returns `false`, and writes nothing, if it is no value of that type.
pub(super) fn write(row: &mut RowWriter<'_>, into: ColumnType, value: Value<'_>) -> Result<bool, Malformed> {
    let written = match into {
        ColumnType::Text(width) => {
            Some(cut_to(row, width, |out, replaced| push_plain(out, value, replaced))?)
        }
        ColumnType::Json => Some(row.sized_by(|out, replaced| push_json(out, value, replaced))?),
        ColumnType::Jsonb => Some(row.sized_by(|out, replaced| {
            out.push(JSONB_VERSION);
            push_json(out, value, replaced)
        })?),
        ColumnType::SmallInt => {
            integer(row, value, i16::MIN.into(), i16::MAX.into()).map(|n| row.int2(n as i16))
        }
        ColumnType::Integer => {
            integer(row, value, i32::MIN.into(), i32::MAX.into()).map(|n| row.int4(n as i32))
        }
        ColumnType::BigInt => integer(row, value, i64::MIN, i64::MAX).map(|n| row.int8(n)),
        ColumnType::Real => double(value).map(|number| {
            let nearest = real(row, number);
            row.float4(nearest);
        }),
        ColumnType::Double => double(value).map(|number| row.float8(number)),
        ColumnType::Boolean => boolean(value).map(|value| row.boolean(value)),
        ColumnType::Timestamptz | ColumnType::Timestamp => micros(value).map(|micros| row.int8(micros)),
        ColumnType::Date => days(value).map(|days| row.int4(days)),
        ColumnType::Uuid => uuid(value).map(|id| row.uuid(id.into_bytes())),
        ColumnType::Bytea => bytes(value).map(|bytes| row.bytea(bytes)),
        ColumnType::Inet => address(value).map(|(address, bits)| inet(row, address, bits)),
    };
    Ok(written.is_some())
}

/// Writes the bytes that `push` appends as a text of at most `width` characters.
pub(super) fn cut_to(
    row: &mut RowWriter<'_>,
    width: Option<u32>,
    push: impl FnOnce(&mut Vec<u8>, &mut Replaced) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    row.sized_by(|out, replaced| {
        let start = out.len();
        push(out, replaced)?;
        if let Some(end) = width.and_then(|width| end_of(&out[start..], width as usize)) {
            out.truncate(start + end);
            replaced.count(ReplacedKind::Width);
        }
        Ok(())
    })
}

/// The begin of the character after the first `width`, if there is one.
fn end_of(text: &[u8], width: usize) -> Option<usize> {
    if text.len() <= width {
        return None;
    }
    let begins = |byte: &u8| byte & 0xc0 != 0x80;
    text.iter().enumerate().filter(|(_, byte)| begins(byte)).nth(width).map(|(index, _)| index)
}

/// Appends `value` as text.
fn push_plain(out: &mut Vec<u8>, value: Value<'_>, replaced: &mut Replaced) -> Result<(), Malformed> {
    let mut show = |shown: &dyn std::fmt::Display| {
        write!(Text(out), "{shown}").expect("a vector takes everything");
    };
    match value {
        Value::Any(AnyValue::String(text)) => push_text(out, text, replaced),
        Value::Any(AnyValue::Bytes(bytes)) => json::push_base64(out, bytes),
        Value::Any(AnyValue::Double(number)) if !number.is_finite() => {
            show(&if number.is_nan() {
                "NaN"
            } else if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            });
        }
        Value::Any(other) => json::push_value(out, other, replaced)?,
        Value::Time(nanos) => show(&timestamp(nanos)),
        Value::Id(id) => {
            let start = out.len();
            out.resize(start + 2 * id.len(), 0);
            const_hex::encode_to_slice(id, &mut out[start..]).expect("the room is two digits a byte");
        }
        Value::Uuid(id) => show(&id),
        Value::Json(text) => out.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

/// Appends `value` as JSON.
fn push_json(out: &mut Vec<u8>, value: Value<'_>, replaced: &mut Replaced) -> Result<(), Malformed> {
    match value {
        Value::Any(value) => json::push_value(out, value, replaced),
        Value::Json(text) => {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        Value::Time(_) | Value::Id(_) | Value::Uuid(_) => {
            // They contain nothing to escape.
            out.push(b'"');
            push_plain(out, value, replaced)?;
            out.push(b'"');
            Ok(())
        }
    }
}

/// Lets `write!` append to bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The time of `nanos`. OTLP's last time is in the year 2554.
fn timestamp(nanos: u64) -> Timestamp {
    Timestamp::from_nanosecond(nanos.into()).expect("jiff's times end in the year 9999")
}

/// The text of a string, without blanks around it.
fn trimmed<'a>(value: Value<'a>) -> Option<&'a str> {
    match value {
        Value::Any(AnyValue::String(text)) => std::str::from_utf8(text).ok().map(str::trim),
        _ => None,
    }
}

/// An integer, clamped to `least` and `most`; a fraction is rounded.
fn integer(row: &mut RowWriter<'_>, value: Value<'_>, least: i64, most: i64) -> Option<i64> {
    let exact = match value {
        Value::Any(AnyValue::Int(number)) => Some(number),
        Value::Any(AnyValue::Bool(value)) => Some(value.into()),
        Value::Time(nanos) => {
            if i64::try_from(nanos).is_err() {
                row.replaced().count(ReplacedKind::Time);
                return Some(i64::MAX.clamp(least, most));
            }
            Some(nanos as i64)
        }
        _ => trimmed(value).and_then(|text| text.parse().ok()),
    };
    let (number, is_exact) = match exact {
        Some(number) => (number, true),
        None => {
            let number = double(value).filter(|number| !number.is_nan())?;
            let rounded = number.round();
            // The conversion saturates at the bounds of i64; no double is exactly the upper one.
            let fits = (i64::MIN as f64..i64::MAX as f64).contains(&rounded);
            (rounded as i64, fits && rounded == number)
        }
    };
    let nearest = number.clamp(least, most);
    if nearest != number || !is_exact {
        row.replaced().count(ReplacedKind::Number);
    }
    Some(nearest)
}

fn double(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Any(AnyValue::Double(number)) => Some(number),
        Value::Any(AnyValue::Int(number)) => Some(number as f64),
        Value::Any(AnyValue::Bool(value)) => Some(value.into()),
        Value::Time(nanos) => Some(nanos as f64),
        _ => trimmed(value)?.parse().ok(),
    }
}

/// The nearest real; the largest one for larger numbers.
fn real(row: &mut RowWriter<'_>, number: f64) -> f32 {
    let nearest = number as f32;
    if number.is_finite() && nearest.is_infinite() {
        row.replaced().count(ReplacedKind::Number);
        return f32::MAX.copysign(nearest);
    }
    nearest
}

fn boolean(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Any(AnyValue::Bool(value)) => Some(value),
        Value::Any(AnyValue::Int(number)) => Some(number != 0),
        _ => {
            let text = trimmed(value)?;
            let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
            match text {
                _ if is(&["true", "t", "yes", "y", "on", "1"]) => Some(true),
                _ if is(&["false", "f", "no", "n", "off", "0"]) => Some(false),
                _ => None,
            }
        }
    }
}

/// A time in microseconds since 2000, UTC.
fn micros(value: Value<'_>) -> Option<i64> {
    let time = match value {
        Value::Time(nanos) => timestamp(nanos),
        _ => {
            let text = trimmed(value)?;
            // A time without an offset is in UTC; a date means its midnight.
            text.parse().ok().or_else(|| text.parse().ok().and_then(in_utc))?
        }
    };
    // Truncated, as in log_records.
    let micros = time.as_nanosecond().div_euclid(1000) as i64 - EPOCH_2000;
    (micros >= FIRST_TIME).then_some(micros)
}

fn in_utc(time: DateTime) -> Option<Timestamp> {
    time.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}

/// The date in UTC, in days since 2000.
fn days(value: Value<'_>) -> Option<i32> {
    micros(value).map(|micros| micros.div_euclid(MICROS_PER_DAY) as i32)
}

fn uuid(value: Value<'_>) -> Option<Uuid> {
    match value {
        Value::Uuid(id) => Some(id),
        Value::Id(bytes) | Value::Any(AnyValue::Bytes(bytes)) => Uuid::from_slice(bytes).ok(),
        _ => Uuid::try_parse(trimmed(value)?).ok(),
    }
}

fn bytes<'a>(value: Value<'a>) -> Option<&'a [u8]> {
    match value {
        Value::Id(bytes) | Value::Any(AnyValue::Bytes(bytes) | AnyValue::String(bytes)) => Some(bytes),
        _ => None,
    }
}

/// An address and the number of its network's bits.
fn address(value: Value<'_>) -> Option<(IpAddr, u8)> {
    let text = trimmed(value)?;
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(all), |bits| bits.parse().ok())?;
    (bits <= all).then_some((address, bits))
}

/// Source: PostgreSQL, `network_recv`: family, bits, 0 for no cidr, the number of bytes, the bytes.
fn inet(row: &mut RowWriter<'_>, address: IpAddr, bits: u8) {
    row.sized_by(|out, _| match address {
        IpAddr::V4(address) => {
            out.extend_from_slice(&[2, bits, 0, 4]);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.extend_from_slice(&[3, bits, 0, 16]);
            out.extend_from_slice(&address.octets());
        }
    });
}
