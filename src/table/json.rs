//! OTLP values as the JSON text from which PostgreSQL makes jsonb.
//!
//! Strings, bools, integers, arrays and maps become JSON's; an empty value is `null`. A double has a point where it would look like
//! an integer, so that 1.0 does not become 1. NaN and the infinities, which JSON lacks, are the texts `NaN`, `Infinity` and
//! `-Infinity`; PostgreSQL turns -0.0 into 0.0; bytes are base64 text (OpenTelemetry, "Mapping Arbitrary Data to OTLP AnyValue").
//! For duplicate keys, jsonb keeps the last.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scan;
use super::text::{REPLACEMENT, Replaced, ReplacedKind};
use crate::otlp::value::{AnyValue, Items, KeyValue};
use crate::otlp::{Malformed, Structure};

/// The deepest nesting of arrays and maps in one value; deeper ones are replaced.
pub const MAX_DEPTH: usize = 64;

/// A byte of a value on the wire becomes at most so many bytes of JSON. The worst case is an array that is nested too deeply: its
/// four bytes become a replacement of 32 and a comma.
pub(super) const LARGEST_OF_A_BYTE: usize = 9;

/// The most bytes of JSON, or of text, that the values of a message become, each once. This bound is closer than
/// [`LARGEST_OF_A_BYTE`], but reads every byte.
pub(super) fn most_bytes(message: &[u8], found: Structure) -> usize {
    // Base64 takes four bytes for three, an escape six; this is for the bytes around a value, or in the place of a short one:
    const AROUND: usize = 40;
    message.len().div_ceil(3) * 4
        + scan::most_added(message)
        + AROUND * (1 + found.attributes + found.elements)
}

const TOO_DEEP: &[u8] = br#""[nested deeper than 64 levels]""#;

/// Appends the JSON object of `attributes`, each the bytes of a `KeyValue` message.
#[inline]
pub(super) fn push_object<'a>(
    out: &mut Vec<u8>,
    attributes: impl IntoIterator<Item = &'a [u8]>,
    replaced: &mut Replaced,
) -> Result<(), Malformed> {
    out.push(b'{');
    for (index, attribute) in attributes.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_pair(out, attribute, 0, replaced)?;
    }
    out.push(b'}');
    Ok(())
}

/// Appends `value` as JSON.
pub(super) fn push_value(
    out: &mut Vec<u8>,
    value: AnyValue<'_>,
    replaced: &mut Replaced,
) -> Result<(), Malformed> {
    push_nested(out, value, 0, replaced)
}

fn push_pair(
    out: &mut Vec<u8>,
    message: &[u8],
    depth: usize,
    replaced: &mut Replaced,
) -> Result<(), Malformed> {
    let pair = KeyValue::read(message)?;
    push_string(out, pair.key, replaced);
    out.push(b':');
    push_nested(out, pair.value, depth, replaced)
}

/// `depth` is the number of arrays and maps around `value`; it bounds the recursion.
#[inline(always)]
fn push_nested(
    out: &mut Vec<u8>,
    value: AnyValue<'_>,
    depth: usize,
    replaced: &mut Replaced,
) -> Result<(), Malformed> {
    match value {
        AnyValue::Empty => out.extend_from_slice(b"null"),
        AnyValue::String(text) => push_string(out, text, replaced),
        AnyValue::Bool(true) => out.extend_from_slice(b"true"),
        AnyValue::Bool(false) => out.extend_from_slice(b"false"),
        AnyValue::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        AnyValue::Double(number) => push_double(out, number),
        AnyValue::Bytes(bytes) => {
            out.push(b'"');
            push_base64(out, bytes);
            out.push(b'"');
        }
        AnyValue::Array(_) | AnyValue::Map(_) if depth == MAX_DEPTH => {
            out.extend_from_slice(TOO_DEEP);
            replaced.count(ReplacedKind::Depth);
        }
        AnyValue::Array(message) => push_array(out, message, depth + 1, replaced)?,
        AnyValue::Map(message) => push_map(out, message, depth + 1, replaced)?,
    }
    Ok(())
}

fn push_array(
    out: &mut Vec<u8>,
    message: &[u8],
    depth: usize,
    replaced: &mut Replaced,
) -> Result<(), Malformed> {
    out.push(b'[');
    let mut items = Items::of(message);
    let mut first = true;
    while let Some(item) = items.next_item()? {
        separate(out, &mut first);
        push_nested(out, AnyValue::read(item)?, depth, replaced)?;
    }
    out.push(b']');
    Ok(())
}

fn push_map(
    out: &mut Vec<u8>,
    message: &[u8],
    depth: usize,
    replaced: &mut Replaced,
) -> Result<(), Malformed> {
    out.push(b'{');
    let mut items = Items::of(message);
    let mut first = true;
    while let Some(item) = items.next_item()? {
        separate(out, &mut first);
        push_pair(out, item, depth, replaced)?;
    }
    out.push(b'}');
    Ok(())
}

fn separate(out: &mut Vec<u8>, first: &mut bool) {
    if !std::mem::replace(first, false) {
        out.push(b',');
    }
}

/// From here on, zmij writes whole numbers with an exponent, which jsonb would turn into digits without a point.
const FIRST_WITH_EXPONENT: f64 = 1e16;
/// All 64-bit integers are smaller.
const BEYOND_INTEGERS: f64 = 1e19;

fn push_double(out: &mut Vec<u8>, number: f64) {
    if (FIRST_WITH_EXPONENT..BEYOND_INTEGERS).contains(&number.abs()) {
        out.extend_from_slice(format!("{number}.0").as_bytes());
    } else if number.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    } else if number.is_nan() {
        out.extend_from_slice(br#""NaN""#);
    } else {
        out.extend_from_slice(if number > 0.0 { br#""Infinity""# } else { br#""-Infinity""# });
    }
}

/// Appends `bytes` as padded base64.
pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("the room is that of padded base64");
}

#[inline]
fn push_string(out: &mut Vec<u8>, bytes: &[u8], replaced: &mut Replaced) {
    out.push(b'"');
    if scan::is_plain_json(bytes) {
        out.extend_from_slice(bytes);
    } else if std::str::from_utf8(bytes).is_ok() {
        push_escaped(out, bytes, replaced);
    } else {
        for chunk in bytes.utf8_chunks() {
            push_escaped(out, chunk.valid().as_bytes(), replaced);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice(REPLACEMENT.as_bytes());
                replaced.count(ReplacedKind::Utf8);
            }
        }
    }
    out.push(b'"');
}

/// Appends valid UTF-8 with JSON's escapes (RFC 8259, section 7), in runs between the bytes that need one.
#[inline]
fn push_escaped(out: &mut Vec<u8>, bytes: &[u8], replaced: &mut Replaced) {
    let mut rest = bytes;
    while let Some(position) = rest.iter().position(|&byte| NEEDS_ESCAPE[usize::from(byte)]) {
        out.extend_from_slice(&rest[..position]);
        push_escape(out, rest[position], replaced);
        rest = &rest[position + 1..];
    }
    out.extend_from_slice(rest);
}

#[cold]
fn push_escape(out: &mut Vec<u8>, byte: u8, replaced: &mut Replaced) {
    match byte {
        0 => {
            out.extend_from_slice(REPLACEMENT.as_bytes());
            replaced.count(ReplacedKind::Nul);
        }
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&const_hex::Buffer::<1>::new().format(&[byte]).as_bytes()[..2]);
        }
    }
}

const NEEDS_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::otlp::messages::any_value::Value;
    use crate::otlp::messages::{
        AnyValue as ValueMessage, ArrayValue, KeyValue as PairMessage, KeyValueList,
    };

    fn json(value: Option<Value>) -> (String, Replaced) {
        let bytes = ValueMessage { value }.encode_to_vec();
        let (mut out, mut replaced) = (Vec::new(), Replaced::default());
        push_value(&mut out, AnyValue::read(&bytes).unwrap(), &mut replaced).unwrap();
        (String::from_utf8(out).unwrap(), replaced)
    }

    fn nested(levels: usize) -> Option<Value> {
        let mut value = Value::IntValue(1);
        for _ in 0..levels {
            let inner = ValueMessage { value: Some(value) };
            value = Value::ArrayValue(ArrayValue { values: vec![inner] });
        }
        Some(value)
    }

    #[test]
    fn each_kind_has_its_json() {
        let pair = |key: &str, value| PairMessage { key: key.into(), value: Some(ValueMessage { value }) };
        let map = KeyValueList { values: vec![pair("a", None), pair("", Some(Value::BoolValue(true)))] };
        for (value, expected) in [
            (None, "null"),
            (Some(Value::StringValue(String::new())), r#""""#),
            (Some(Value::BoolValue(false)), "false"),
            (Some(Value::IntValue(i64::MIN)), "-9223372036854775808"),
            (Some(Value::DoubleValue(1.0)), "1.0"),
            (Some(Value::DoubleValue(-9.9e15)), "-9900000000000000.0"),
            (Some(Value::DoubleValue(-1e16)), "-10000000000000000.0"),
            (Some(Value::DoubleValue(9.9e18)), "9900000000000000000.0"),
            (Some(Value::DoubleValue(1e19)), "1e+19"),
            (Some(Value::DoubleValue(f64::NAN)), r#""NaN""#),
            (Some(Value::DoubleValue(f64::NEG_INFINITY)), r#""-Infinity""#),
            (Some(Value::BytesValue(vec![0, 255].into())), r#""AP8=""#),
            (Some(Value::ArrayValue(ArrayValue::default())), "[]"),
            (Some(Value::KvlistValue(map)), r#"{"a":null,"":true}"#),
        ] {
            assert_eq!(json(value), (expected.to_owned(), Replaced::default()));
        }
    }

    #[test]
    fn strings_are_escaped_as_json_wants_it() {
        let all: String = (1..0x80u8).map(char::from).chain("é\u{2028}🦀".chars()).collect();
        let (text, replaced) = json(Some(Value::StringValue(all.clone())));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), all);
        assert_eq!(replaced, Replaced::default());
    }

    #[test]
    fn nul_and_broken_utf8_are_replaced_in_keys_and_values() {
        let (mut out, mut replaced) = (Vec::new(), Replaced::default());
        // KeyValue { key: "\0\xff", value: { string_value: "\0" } }
        let pair = [0x0a, 2, 0, 0xff, 0x12, 3, 0x0a, 1, 0];
        push_object(&mut out, [&pair[..]], &mut replaced).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"\u{fffd}\u{fffd}\":\"\u{fffd}\"}");
        let counts: Vec<_> = replaced.iter().map(|(kind, count)| (<&str>::from(kind), count)).collect();
        assert_eq!(counts[..2], [("nul", 2), ("utf8", 1)]);
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let (text, replaced) = json(nested(MAX_DEPTH));
        assert_eq!(text, format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)));
        assert_eq!(replaced, Replaced::default());
        for levels in [MAX_DEPTH + 1, 200] {
            let (text, replaced) = json(nested(levels));
            assert!(text.contains("nested deeper"), "{levels} levels");
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&text).map(|_| ()).map_err(|e| e.to_string()),
                Ok(())
            );
            assert_eq!(replaced.iter().map(|(_, count)| count).sum::<u64>(), 1);
        }
    }

    #[test]
    fn a_malformed_element_is_an_error() {
        let mut out = Vec::new();
        // An array whose one element claims ten bytes and has none.
        assert!(push_value(&mut out, AnyValue::Array(&[0x0a, 10]), &mut Replaced::default()).is_err());
    }
}
