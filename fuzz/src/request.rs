//! Any bytes as an `ExportLogsServiceRequest`: what is counted is what is transcoded, and every row is one that
//! PostgreSQL takes. Where prost can read the bytes too, the rows say what prost's messages say.

use forebay::otlp::messages::{ExportLogsServiceRequest, LogRecord, ResourceLogs, ScopeLogs};
use forebay::otlp::{Invalid, Limits, count_records};
use forebay::table::decode::Record;
use forebay::table::{Replaced, Rows, Space, Transcoded, Transcoder};
use prost::Message;

use super::value::{Value, decoded};
use super::{expect, rows};

/// The time of records that have none.
const ARRIVAL: u64 = 1_700_000_000_123_456_789;

/// Checks `request`; gives the number of rows that it became.
pub fn check(request: &[u8]) -> usize {
    let counted = count_records(request, &Limits::default());
    if matches!(counted, Err(Invalid::TooComplex(_))) {
        return 0;
    }
    let transcoded = transcode(request, usize::MAX);
    let message = ExportLogsServiceRequest::decode(request);
    let (count, done) = match (counted, transcoded) {
        (Ok(count), Some(done)) => (count, done),
        (Err(malformed), None) => {
            // prost skips the groups that forebay refuses; in all else it is the stricter one.
            assert!(message.is_err() || malformed.to_string().contains("group"), "{malformed}");
            return 0;
        }
        (counted, done) => panic!("{counted:?} are counted, but the transcoder says {done:?}"),
    };
    assert_eq!((looked_into(&done), done.beyond.total()), (count, 0));
    rows::read(&done.rows);
    check_limit(request, count / 2, count, &done);
    if let Ok(message) = message
        && done.too_complex.total() == 0
    {
        assert_eq!(records(&message).count(), count);
        check_against(&message);
    }
    done.rows.len()
}

fn transcode(request: &[u8], limit: usize) -> Option<Transcoded<'_>> {
    Transcoder::default().transcode(request, limit, ARRIVAL, &mut Space::unlimited()).ok()
}

fn looked_into(done: &Transcoded) -> usize {
    done.rows.len() + done.malformed.total() + done.too_complex.total()
}

/// A limit cuts off the records behind it and changes nothing before it.
fn check_limit(request: &[u8], limit: usize, count: usize, whole: &Transcoded) {
    let done = transcode(request, limit).expect("it was transcoded as a whole");
    assert_eq!((looked_into(&done), done.beyond.total()), (limit, count - limit));
    assert!(whole.rows.bytes().starts_with(done.rows.bytes()));
}

/// Holds the rows of `message` against it. It is encoded again, for two differences that no encoder makes:
/// where a message that OTLP has once comes twice, prost merges the two, and it skips groups.
fn check_against(message: &ExportLogsServiceRequest) {
    let wire = message.encode_to_vec();
    let done = transcode(&wire, usize::MAX).expect("prost encodes well");
    assert_eq!(done.malformed.total(), 0);
    let read = rows::read(&done.rows);
    assert_eq!(records(message).count(), read.len());
    for (row, (resource, scope, record)) in read.iter().zip(records(message)) {
        check_record(row, record);
        check_resource(&done.rows, row, resource);
        check_scope(&done.rows, row, scope);
    }
}

fn records(
    message: &ExportLogsServiceRequest,
) -> impl Iterator<Item = (&ResourceLogs, &ScopeLogs, &LogRecord)> {
    message.resource_logs.iter().flat_map(|resource| {
        resource
            .scope_logs
            .iter()
            .flat_map(move |scope| scope.log_records.iter().map(move |record| (resource, scope, record)))
    })
}

fn check_record(row: &Record<'_>, sent: &LogRecord) {
    let replaced = &mut Replaced::default();
    let times = [sent.time_unix_nano, sent.observed_time_unix_nano, ARRIVAL];
    let time = times.into_iter().find(|time| *time != 0).expect("it has arrived");
    let nanos = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let set = |number: i64| Some(number).filter(|number| *number != 0);
    assert_eq!(rows::micros(row, "time"), Some((time / 1000) as i64));
    for (name, expected) in [
        ("time_unix_nano", Some(nanos(time))),
        ("observed_time_unix_nano", set(nanos(sent.observed_time_unix_nano))),
        ("trace_flags", set((sent.flags as i32).into())),
        ("dropped_attributes_count", set(int4(sent.dropped_attributes_count))),
        ("severity_number", set(i64::from(sent.severity_number).clamp(i16::MIN.into(), i16::MAX.into()))),
    ] {
        assert_eq!(rows::integer(row, name), expected, "{name}");
    }
    for (name, id, length) in [("trace_id", &sent.trace_id, 16), ("span_id", &sent.span_id, 8)] {
        let valid = id.len() == length && id.iter().any(|byte| *byte != 0);
        assert_eq!(rows::bytes(row, name), valid.then_some(&id[..]), "{name}");
    }
    for (name, text) in [("severity_text", &sent.severity_text), ("event_name", &sent.event_name)] {
        let expected = expect::optional_text(text.as_bytes(), replaced);
        assert_eq!(rows::text(row, name), expected.as_deref(), "{name}");
    }
    check_body(row, sent.body.as_ref().map(Value::from), replaced);
    let attributes = rows::json(row, "attributes").expect("it is never NULL");
    expect::object(attributes, &decoded(&sent.attributes), 0, replaced);
}

/// A string is in one column, anything else in another.
pub(super) fn check_body(row: &Record<'_>, sent: Option<Value>, replaced: &mut Replaced) {
    let (text, json) = (rows::text(row, "body"), rows::json(row, "body_json"));
    match (sent, text, json) {
        (None, None, None) => {}
        (Some(Value::Text(sent)), Some(text), None) => assert_eq!(text, expect::text(&sent, replaced)),
        (Some(sent), None, Some(json)) => expect::json(json, &sent, 0, replaced),
        (sent, ..) => panic!("{sent:?} became {text:?} and {json:?}"),
    }
}

fn check_resource(rows: &Rows, row: &Record<'_>, sent: &ResourceLogs) {
    let replaced = &mut Replaced::default();
    let id = rows::id(row, "resource_id");
    let found = rows.resources.iter().find(|resource| Some(resource.id) == id).expect("it is there");
    let resource = sent.resource.clone().unwrap_or_default();
    expect::resource(found, &decoded(&resource.attributes), replaced);
    assert_eq!(i64::from(found.dropped_attributes_count), int4(resource.dropped_attributes_count));
    assert_eq!(found.schema_url, expect::optional_text(sent.schema_url.as_bytes(), replaced));
}

fn check_scope(rows: &Rows, row: &Record<'_>, sent: &ScopeLogs) {
    let replaced = &mut Replaced::default();
    let id = rows::id(row, "scope_id");
    let found = rows.scopes.iter().find(|scope| Some(scope.id) == id).expect("it is there");
    let scope = sent.scope.clone().unwrap_or_default();
    expect::sorted_object(&found.attributes, &decoded(&scope.attributes), replaced);
    assert_eq!(i64::from(found.dropped_attributes_count), int4(scope.dropped_attributes_count));
    for (found, text) in
        [(&found.name, &scope.name), (&found.version, &scope.version), (&found.schema_url, &sent.schema_url)]
    {
        assert_eq!(*found, expect::optional_text(text.as_bytes(), replaced));
    }
}

/// A count as an integer column holds it.
fn int4(count: u32) -> i64 {
    i64::from(count).min(i32::MAX.into())
}
