//! Adds an attribute to all resources of a request, which the sender cannot set itself.
//!
//! The last of repeated fields counts, and the last of attributes with the same key. So each `ResourceLogs` gets its resource a
//! second time, with the attribute at its end, and a sender's own attribute of that key no longer counts.

use prost::encoding::{encode_varint, encoded_len_varint};

use super::wire::{Field, Fields, Malformed};

/// One attribute, as a field of `Resource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(Vec<u8>);

/// `resource_logs` of a request, `resource` of `ResourceLogs`, `attributes` of `Resource`, `key` of `KeyValue`, and
/// `string_value` of `AnyValue` are all their first fields.
const FIRST: u32 = 1;
/// `value` of `KeyValue`.
const SECOND: u32 = 2;

impl Mark {
    /// The attribute `key`; null without a `value`.
    pub fn new(key: &str, value: Option<&str>) -> Self {
        let (mut any_value, mut key_value, mut attribute) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(value) = value {
            put(&mut any_value, FIRST, &[value.as_bytes()]);
        }
        put(&mut key_value, FIRST, &[key.as_bytes()]);
        put(&mut key_value, SECOND, &[&any_value]);
        put(&mut attribute, FIRST, &[&key_value]);
        Self(attribute)
    }

    /// The length of `request` with the attribute.
    ///
    /// # Errors
    ///
    /// The request is broken before its records begin.
    pub fn length(&self, request: &[u8]) -> Result<usize, Malformed> {
        let mut length = 0;
        each(request, |message, resource| {
            length += field_length(message.len() + field_length(resource.len() + self.0.len()));
        })?;
        Ok(length)
    }

    /// `request` with the attribute.
    ///
    /// # Errors
    ///
    /// The request is broken before its records begin.
    pub fn put(&self, request: &[u8]) -> Result<Vec<u8>, Malformed> {
        let (mut marked, mut head) = (Vec::with_capacity(self.length(request)?), Vec::new());
        each(request, |message, resource| {
            head.clear();
            put_head(&mut head, FIRST, resource.len() + self.0.len());
            put(&mut marked, FIRST, &[message, &head, resource, &self.0]);
        })?;
        Ok(marked)
    }
}

/// Calls `take` with each `ResourceLogs` and its resource, which is empty if absent.
fn each<'a>(request: &'a [u8], mut take: impl FnMut(&'a [u8], &'a [u8])) -> Result<(), Malformed> {
    let mut fields = Fields::new(request);
    while let Some((number, field)) = fields.next_field()? {
        if number == FIRST {
            let message = field.bytes()?;
            take(message, last(message)?);
        }
    }
    Ok(())
}

/// The last resource of a `ResourceLogs`.
fn last(message: &[u8]) -> Result<&[u8], Malformed> {
    let (mut fields, mut resource) = (Fields::new(message), Field::Bytes(&[]));
    while let Some((number, field)) = fields.next_field()? {
        if number == FIRST {
            resource = field;
        }
    }
    resource.bytes()
}

/// The length of a field with so many bytes and a number below 16.
fn field_length(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

/// Writes the tag and the length of a field of `length` bytes.
fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    encode_varint(u64::from(number << 3 | 2), out);
    encode_varint(length as u64, out);
}

/// Writes a field of these `parts`.
fn put(out: &mut Vec<u8>, number: u32, parts: &[&[u8]]) {
    put_head(out, number, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::resource_logs;
    use crate::otlp::value::{AnyValue, KeyValue};

    /// A field with these bytes.
    fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, number, &[bytes]);
        out
    }

    fn attribute(key: &str, value: &str) -> Vec<u8> {
        Mark::new(key, Some(value)).0
    }

    /// The attributes of each resource, in order.
    fn attributes(request: &[u8]) -> Vec<Vec<(String, Option<String>)>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let read = |message: &[u8]| {
            let KeyValue { key, value, .. } = KeyValue::read(message).unwrap();
            let value = match value {
                AnyValue::String(value) => Some(text(value)),
                AnyValue::Empty => None,
                other => panic!("{other:?}"),
            };
            (text(key), value)
        };
        let of = |resource: &[u8]| {
            let (mut fields, mut all) = (Fields::new(resource), Vec::new());
            while let Some((_, field)) = fields.next_field().unwrap() {
                all.push(read(field.bytes().unwrap()));
            }
            all
        };
        resource_logs(request).map(|resource| of(resource.unwrap().resource)).collect()
    }

    #[test]
    fn each_resource_has_it_last() {
        let own = [attribute("a", "b"), attribute("sender", "somebody else")].concat();
        let records = field(2, b"");
        let request = [
            field(1, &[field(1, &own), records.clone(), field(3, b"url")].concat()),
            field(1, &records),
            // The last of several is the one that counts.
            field(1, &[field(1, &own), records, field(1, &attribute("c", "d"))].concat()),
            field(1, b""),
        ]
        .concat();
        let pair = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        for value in [Some("shop"), None] {
            let mark = Mark::new("sender", value);
            let marked = mark.put(&request).unwrap();
            assert_eq!(marked.len(), mark.length(&request).unwrap());
            let sender = ("sender".to_owned(), value.map(str::to_owned));
            assert_eq!(
                attributes(&marked),
                [
                    vec![pair("a", "b"), pair("sender", "somebody else"), sender.clone()],
                    vec![sender.clone()],
                    vec![pair("c", "d"), sender.clone()],
                    vec![sender.clone()],
                ]
            );
            let parts = |request: &[u8]| {
                let of = |resource: crate::otlp::ResourceLogs<'_>| {
                    (resource.schema_url.to_vec(), resource.scope_logs().count())
                };
                resource_logs(request).map(|resource| of(resource.unwrap())).collect::<Vec<_>>()
            };
            assert_eq!(parts(&marked), parts(&request), "the rest is as it was");
        }
    }

    #[test]
    fn what_is_broken_is_left_to_be_refused() {
        let mark = Mark::new("sender", None);
        for broken in [&[0x0a, 5][..], &[0x0a, 2, 0x0a, 9], &[0x08, 1], &[0x0a, 2, 0x08, 1]] {
            assert!(mark.put(broken).is_err() && mark.length(broken).is_err(), "{broken:?}");
        }
        assert_eq!(mark.put(b""), Ok(Vec::new()));
    }
}
