//! Requests for tests, whose records are known by their bodies, and checks of their outcomes.

use std::sync::Arc;

use bytes::Bytes;

use super::Batch;
use crate::table::columns::COLUMNS;
use crate::table::{Interner, Resource, Space};

/// A record of severity INFO.
pub(crate) fn record(body: &str) -> Vec<u8> {
    [vec![2 << 3, 9], field(5, &field(1, body.as_bytes()))].concat()
}

/// A record with a truncated body.
pub(crate) fn malformed_record() -> Vec<u8> {
    field(5, &[1 << 3 | 2, 100, b'x'])
}

/// A request of one resource and scope.
pub(crate) fn request_of(records: impl IntoIterator<Item = Vec<u8>>) -> Bytes {
    let records: Vec<u8> = records.into_iter().flat_map(|record| field(2, &record)).collect();
    field(1, &field(2, &records)).into()
}

/// A request of one record for each body.
pub(crate) fn request<B: AsRef<str>>(bodies: impl IntoIterator<Item = B>) -> Bytes {
    request_of(bodies.into_iter().map(|body| record(body.as_ref())))
}

/// A request of one service, with a record of each severity number. The bodies are both.
pub(crate) fn request_by(service: &str, severities: impl IntoIterator<Item = u8>) -> Bytes {
    let record = |severity: u8| {
        let body = format!("{service} {severity}");
        field(2, &[vec![2 << 3, severity], field(5, &field(1, body.as_bytes()))].concat())
    };
    let records: Vec<u8> = severities.into_iter().flat_map(record).collect();
    let resource = field(1, &resource_message(Some(service)));
    field(1, &[resource, field(2, &records)].concat()).into()
}

/// A resource with this `service.name`.
pub(crate) fn resource_of(service: Option<&str>) -> Resource {
    let message = resource_message(service);
    let resource = Interner::default().resource(&message, &[], &mut Space::unlimited()).expect("no bound");
    Arc::into_inner(resource.expect("protobuf").content).expect("nobody else knows it")
}

fn resource_message(service: Option<&str>) -> Vec<u8> {
    let attributes =
        service.map(|name| [field(1, b"service.name"), field(2, &field(1, name.as_bytes()))].concat());
    attributes.map_or_else(Vec::new, |attributes| field(1, &attributes))
}

/// The bodies in the rows of a COPY.
pub(crate) fn bodies(mut rows: &[u8]) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some((_, mut rest)) = rows.split_first_chunk::<2>() {
        for column in COLUMNS {
            let (length, value) = rest.split_first_chunk::<4>().unwrap();
            let (value, after) = value.split_at(i32::from_be_bytes(*length).max(0) as usize);
            if column.name == "body" {
                bodies.push(String::from_utf8(value.to_vec()).unwrap());
            }
            rest = after;
        }
        rows = rest;
    }
    bodies
}

/// The bodies of a batch, from its runs.
pub(crate) fn bodies_of(batch: &Batch) -> Vec<String> {
    batch.runs(&Default::default()).iter().flat_map(|run| bodies(run)).collect()
}

/// Asserts that the books of `buffer` balance.
pub(crate) fn assert_balanced(buffer: &super::Buffer) {
    let books = buffer.books();
    let settled = books.flushed()
        + books.dead_lettered()
        + books.dropped_total()
        + books.rejected_total()
        + books.folded_total();
    let held = buffer.held() as u64;
    assert_eq!(books.received(), settled + held, "held {held}, {books:?}");
}

/// A length-delimited field of protobuf.
pub(crate) fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(value);
    bytes
}
