//! What forebay must make of a value, said without forebay's own code.

use std::fmt;

use forebay::table::{MAX_DEPTH, Replaced, ReplacedKind, Resource};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::value::{Pair, Value};

/// No integer of 64 bits is as large as this.
const BEYOND_INTEGERS: f64 = 1e19;

/// The text that PostgreSQL holds of `bytes`.
pub fn text(bytes: &[u8], replaced: &mut Replaced) -> String {
    let repaired = String::from_utf8_lossy(bytes);
    let meant = bytes.windows(3).filter(|window| *window == "\u{fffd}".as_bytes()).count();
    (0..repaired.matches('\u{fffd}').count() - meant).for_each(|_| replaced.count(ReplacedKind::Utf8));
    (0..repaired.matches('\0').count()).for_each(|_| replaced.count(ReplacedKind::Nul));
    repaired.replace('\0', "\u{fffd}")
}

/// [`text`], where an empty one is NULL.
pub fn optional_text(bytes: &[u8], replaced: &mut Replaced) -> Option<String> {
    (!bytes.is_empty()).then(|| text(bytes, replaced))
}

/// Holds `json` against `value`, with `depth` arrays and maps around it.
pub fn json(json: &RawValue, value: &Value, depth: usize, replaced: &mut Replaced) {
    let written = json.get();
    match value {
        Value::Empty => assert_eq!(written, "null"),
        Value::Bool(value) => assert_eq!(written, value.to_string()),
        Value::Int(number) => assert_eq!(written, number.to_string()),
        Value::Double(number) => double(written, *number),
        Value::Text(bytes) => assert_eq!(read::<String>(json), text(bytes, replaced)),
        Value::Bytes(bytes) => assert_eq!(read::<String>(json), base64(bytes)),
        Value::Array(_) | Value::Map(_) if depth == MAX_DEPTH => {
            assert!(read::<String>(json).contains("nested deeper"));
            replaced.count(ReplacedKind::Depth);
        }
        Value::Array(items) => {
            let found: Vec<&RawValue> = read(json);
            assert_eq!(found.len(), items.len());
            found.iter().zip(items).for_each(|(json, item)| self::json(json, item, depth + 1, replaced));
        }
        Value::Map(entries) => object(json, entries, depth + 1, replaced),
    }
}

/// Holds the JSON object `json` against `pairs`, in their order and with those that come twice.
pub fn object(json: &RawValue, pairs: &[Pair], depth: usize, replaced: &mut Replaced) {
    let Entries(found) = read(json);
    assert_eq!(found.len(), pairs.len());
    for ((key, json), (sent, value)) in found.into_iter().zip(pairs) {
        assert_eq!(key, text(sent, replaced));
        self::json(json, value, depth, replaced);
    }
}

/// Holds `resource` against the attributes that were sent.
pub fn resource(resource: &Resource, pairs: &[Pair], replaced: &mut Replaced) {
    sorted_object(&resource.attributes, pairs, replaced);
    let name = pairs.iter().rev().find(|(key, _)| key == b"service.name").map(|(_, value)| value);
    // It is the attribute once more, so its replacements are not.
    let replaced = &mut Replaced::default();
    match (name, resource.service_name.as_deref()) {
        (None | Some(Value::Empty), None) => {}
        (Some(Value::Text(sent)), Some(name)) => assert_eq!(name, text(sent, replaced)),
        (Some(value), Some(name)) => {
            json(serde_json::from_str(name).expect("it is JSON"), value, 0, replaced);
        }
        (sent, name) => panic!("the service's name is {name:?} of {sent:?}"),
    }
}

/// Holds the attributes of a resource or a scope, which are sorted by key, against what was sent.
pub fn sorted_object(attributes: &str, pairs: &[Pair], replaced: &mut Replaced) {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    object(serde_json::from_str(attributes).expect("it is JSON"), &sorted, 0, replaced);
}

/// The same number to the last bit, which cannot be taken for an integer.
fn double(written: &str, number: f64) {
    if number.is_finite() {
        assert_eq!(written.parse(), Ok(number));
        let point = written.contains('.') && !written.contains(['e', 'E']);
        assert!(point || number.fract() != 0.0 || number.abs() >= BEYOND_INTEGERS, "{written}");
    } else {
        let name = if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        assert_eq!(written, format!("\"{name}\""));
    }
}

/// Base64 with padding (RFC 4648, section 4), by the book.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
        let digit = |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..4).map(|at| if at <= group.len() { digit(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn read<'a, T: Deserialize<'a>>(json: &'a RawValue) -> T {
    serde_json::from_str(json.get()).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// The entries of an object, in their order.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
