//! A record alone in a request of its own, with its resource and scope.

use std::ops::Range;

use prost::encoding::{encode_varint, encoded_len_varint};

use super::logs::resource_logs;

/// The resource and the scope of records, with their schema URLs.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    resource: &'a [u8],
    resource_url: &'a [u8],
    scope: &'a [u8],
    scope_url: &'a [u8],
    /// The addresses of its records.
    records: Range<usize>,
}

/// A value of an attribute.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A signed 64-bit integer.
    Int(i64),
    /// A string.
    String(&'a str),
}

impl<'a> Origin<'a> {
    /// The origin of `record`, a part of `request`.
    pub fn of(request: &'a [u8], record: &[u8]) -> Option<Self> {
        resource_logs(request).map_while(Result::ok).filter(|of| is_in(record, &range(of.message))).find_map(
            |of| {
                let within = of
                    .scope_logs()
                    .map_while(Result::ok)
                    .find(|within| is_in(record, &range(within.message)))?;
                Some(Self {
                    resource: of.resource,
                    resource_url: of.schema_url,
                    scope: within.scope,
                    scope_url: within.schema_url,
                    records: range(within.message),
                })
            },
        )
    }

    /// Whether it is that of `record`, a part of the same request.
    pub fn has(&self, record: &[u8]) -> bool {
        is_in(record, &self.records)
    }

    /// A request of one record, whose message has these `parts`.
    pub fn request_of(&self, parts: &[&[u8]]) -> Vec<u8> {
        let record: usize = parts.iter().map(|part| part.len()).sum();
        let scope_logs = length(self.scope) + head_length(record) + record + length(self.scope_url);
        let resource_logs =
            length(self.resource) + head_length(scope_logs) + scope_logs + length(self.resource_url);
        let mut request = Vec::with_capacity(head_length(resource_logs) + resource_logs);
        put_head(&mut request, 1, resource_logs);
        put(&mut request, 1, self.resource);
        put_head(&mut request, 2, scope_logs);
        put(&mut request, 1, self.scope);
        put_head(&mut request, 2, record);
        parts.iter().for_each(|part| request.extend_from_slice(part));
        put(&mut request, 3, self.scope_url);
        put(&mut request, 3, self.resource_url);
        request
    }
}

/// `request`, which is of [`Origin::request_of`], with its record at `time` (nanoseconds since 1970), with these `attributes` after
/// its own, and without observed time, flags, and ids of trace and span. The last of repeated fields counts.
pub fn retold(request: &[u8], time: u64, attributes: &[(&str, Value<'_>)]) -> Option<Vec<u8>> {
    let of = resource_logs(request).next()?.ok()?;
    let record = of.scope_logs().next()?.ok()?.log_records().next()?.ok()?;
    let mut more = Vec::new();
    put_fixed64(&mut more, 1, time);
    put_fixed64(&mut more, 11, 0);
    more.push(8 << 3 | 5);
    more.extend_from_slice(&0_u32.to_le_bytes());
    put(&mut more, 9, &[]);
    put(&mut more, 10, &[]);
    for (key, value) in attributes {
        let (mut any, mut pair) = (Vec::new(), Vec::new());
        match value {
            Value::Int(number) => {
                any.push(3 << 3);
                encode_varint(*number as u64, &mut any);
            }
            Value::String(text) => put(&mut any, 1, text.as_bytes()),
        }
        put(&mut pair, 1, key.as_bytes());
        put(&mut pair, 2, &any);
        put(&mut more, 6, &pair);
    }
    Some(Origin::of(request, record)?.request_of(&[record, &more]))
}

fn range(bytes: &[u8]) -> Range<usize> {
    let bytes = bytes.as_ptr_range();
    bytes.start as usize..bytes.end as usize
}

fn is_in(part: &[u8], whole: &Range<usize>) -> bool {
    let part = range(part);
    whole.start <= part.start && part.end <= whole.end
}

fn length(bytes: &[u8]) -> usize {
    head_length(bytes.len()) + bytes.len()
}

fn head_length(length: usize) -> usize {
    1 + encoded_len_varint(length as u64)
}

/// Writes the tag and the length of a field of `length` bytes.
fn put_head(out: &mut Vec<u8>, number: u8, length: usize) {
    out.push(number << 3 | 2);
    encode_varint(length as u64, out);
}

fn put(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_fixed64(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::otlp::messages::{
        AnyValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord, ResourceLogs,
        ScopeLogs,
    };

    fn request() -> ExportLogsServiceRequest {
        let record = |body: &str| LogRecord {
            time_unix_nano: 7,
            observed_time_unix_nano: 8,
            severity_number: 17,
            body: Some(string(body)),
            attributes: vec![KeyValue { key: "own".into(), value: Some(string("x")) }],
            flags: 1,
            trace_id: vec![1; 16].into(),
            span_id: vec![2; 8].into(),
            ..Default::default()
        };
        let scope = |name: &str, body: &str| ScopeLogs {
            scope: Some(InstrumentationScope { name: name.into(), ..Default::default() }),
            log_records: vec![record("other"), record(body)],
            schema_url: format!("https://{name}"),
        };
        let resource = |url: &str, names: [&str; 2]| ResourceLogs {
            scope_logs: names.iter().map(|name| scope(name, name)).collect(),
            schema_url: url.into(),
            ..Default::default()
        };
        ExportLogsServiceRequest {
            resource_logs: vec![resource("one", ["a", "b"]), resource("two", ["c", "d"])],
        }
    }

    fn string(text: &str) -> AnyValue {
        use crate::otlp::messages::any_value::Value;
        AnyValue { value: Some(Value::StringValue(text.into())) }
    }

    #[test]
    fn a_record_is_alone_with_its_own_origin_and_all_else_of_it_is_as_it_was() {
        let (whole, bytes) = (request(), request().encode_to_vec());
        let of = resource_logs(&bytes).nth(1).unwrap().unwrap();
        let within = of.scope_logs().next().unwrap().unwrap();
        let record = within.log_records().nth(1).unwrap().unwrap();
        let origin = Origin::of(&bytes, record).unwrap();
        assert!(origin.has(record) && !origin.has(&bytes[..4]));
        let alone = origin.request_of(&[record]);
        let mut expected = whole.clone();
        expected.resource_logs.remove(0);
        expected.resource_logs[0].resource = Some(Default::default());
        expected.resource_logs[0].scope_logs.truncate(1);
        expected.resource_logs[0].scope_logs[0].log_records.remove(0);
        assert_eq!(ExportLogsServiceRequest::decode(&*alone).unwrap(), expected);

        let retold =
            retold(&alone, 99, &[("count", Value::Int(-3)), ("first", Value::String("then"))]).unwrap();
        let record = &mut expected.resource_logs[0].scope_logs[0].log_records[0];
        (record.time_unix_nano, record.observed_time_unix_nano, record.flags) = (99, 0, 0);
        (record.trace_id, record.span_id) = (Default::default(), Default::default());
        let int = crate::otlp::messages::any_value::Value::IntValue(-3);
        let count = KeyValue { key: "count".into(), value: Some(AnyValue { value: Some(int) }) };
        let first = KeyValue { key: "first".into(), value: Some(string("then")) };
        record.attributes.extend([count, first]);
        assert_eq!(ExportLogsServiceRequest::decode(&*retold).unwrap(), expected);
    }
}
