//! Transcoding requests to rows.

use prost::Message;

use super::*;
use crate::otlp::messages::any_value::Value;
use crate::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord as RecordMessage,
    ResourceLogs as ResourceMessage, ScopeLogs as ScopeMessage,
};
use crate::table::columns::COLUMNS;

const DAY: u64 = 86_400_000_000_000;

fn record(time_unix_nano: u64, severity_number: i32, body: &str) -> RecordMessage {
    let body = Some(AnyValue { value: Some(Value::StringValue(body.into())) });
    RecordMessage { time_unix_nano, severity_number, body, ..Default::default() }
}

fn request(records: Vec<RecordMessage>) -> Vec<u8> {
    let scope_logs = vec![ScopeMessage { log_records: records, ..Default::default() }];
    let resource_logs = vec![ResourceMessage { scope_logs, ..Default::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn transcode(request: &[u8], limit: usize) -> Transcoded<'_> {
    Transcoder::default().transcode(request, limit, 5 * DAY, &mut Space::unlimited()).unwrap()
}

/// The lengths of a row's fields; -1 is NULL.
fn field_lengths(mut row: &[u8]) -> Vec<i32> {
    let count = i16::from_be_bytes([row[0], row[1]]);
    row = &row[2..];
    let lengths = (0..count).map(|_| {
        let length = i32::from_be_bytes(*row.first_chunk().unwrap());
        row = &row[4 + length.max(0) as usize..];
        length
    });
    let lengths = lengths.collect();
    assert!(row.is_empty(), "the row ends with its last field");
    lengths
}

#[test]
fn each_row_has_every_column() {
    let request = request(vec![record(DAY, 9, "hello"), RecordMessage::default()]);
    let done = transcode(&request, 10);
    assert_eq!(done.rows.len(), 2);
    let rows: Vec<_> =
        (0..2).map(|row| field_lengths(&done.rows.bytes()[done.rows.range(row, row + 1)])).collect();
    assert_eq!(rows[0].len(), COLUMNS.len());
    for (column, (full, empty)) in COLUMNS.iter().zip(rows[0].iter().zip(&rows[1])) {
        assert!(column.nullable || (*full >= 0 && *empty >= 0), "{} is NULL", column.name);
    }
    let body = COLUMNS.iter().position(|column| column.name == "body").unwrap();
    assert_eq!((rows[0][body], rows[1][body]), (5, -1));
}

#[test]
fn records_beyond_the_limit_are_counted_by_severity_and_not_written() {
    let records = [9, 9, 17, 17, 17, 0].into_iter().map(|severity| record(DAY, severity, "x")).collect();
    let request = request(records);
    let done = transcode(&request, 2);
    assert_eq!((done.rows.len(), done.malformed.total()), (2, 0));
    let expected = [(Severity::Error, 3), (Severity::Unspecified, 1)];
    for (severity, count) in done.beyond.severities().iter() {
        let expected = expected.iter().find(|(known, _)| *known == severity).map_or(0, |(_, count)| *count);
        assert_eq!(count, expected, "{severity:?}");
    }
}

/// Admits INFO, sheds ERROR, folds the rest; notes what it was asked for.
#[derive(Default)]
struct BySeverity(Vec<(i32, usize)>);

impl Gate for BySeverity {
    fn admits(&mut self, Candidate { record, message, .. }: Candidate<'_, '_>) -> Verdict {
        self.0.push((record.severity_number, message.len()));
        match record.severity_number {
            9 => Verdict::Take,
            17 => Verdict::Shed,
            _ => Verdict::Fold,
        }
    }
}

#[test]
fn a_gate_decides_about_each_record_within_the_limit_and_the_others_are_counted_by_its_verdict() {
    let records: Vec<_> = [9, 17, 5, 9, 17, 9].map(|severity| record(DAY, severity, "x")).into();
    let lengths: Vec<_> =
        records.iter().map(|record| (record.severity_number, record.encoded_len())).collect();
    let request = request(records);
    let mut gate = BySeverity::default();
    let transcoder = Transcoder::default();
    let done =
        transcoder.transcode_through(&mut gate, &request, 4, 5 * DAY, &mut Space::unlimited()).unwrap();
    assert_eq!(gate.0, lengths[..5], "the folded one needs no room");
    assert_eq!((done.rows.len(), done.beyond.total()), (2, 1));
    let severities = |tally: &Tally| tally.severities().iter().filter(|(_, count)| *count > 0).collect();
    let (shed, folded): (Vec<_>, Vec<_>) = (severities(&done.shed), severities(&done.folded));
    assert_eq!((shed, folded), (vec![(Severity::Error, 2)], vec![(Severity::Debug, 1)]));
}

#[test]
fn a_malformed_record_costs_only_itself() {
    let good = record(DAY, 9, "\0good").encode_to_vec();
    // A body that claims 100 bytes, behind a severity text with a NUL, whose replacement must not be counted.
    let bad = [&[0x1a, 1, 0][..], &[0x2a, 100, 1]].concat();
    let mut scope = Vec::new();
    for message in [&good, &bad, &good] {
        prost::encoding::encode_key(2, prost::encoding::WireType::LengthDelimited, &mut scope);
        prost::encoding::encode_varint(message.len() as u64, &mut scope);
        scope.extend_from_slice(message);
    }
    let resource = [&[0x12, scope.len() as u8][..], &scope].concat();
    let request = [&[0x0a, resource.len() as u8][..], &resource].concat();
    assert_eq!(crate::otlp::count_records(&request, &Limits::default()), Ok(3));
    let done = transcode(&request, 3);
    assert_eq!((done.rows.len(), done.malformed.total()), (2, 1));
    assert_eq!(done.rows.bytes()[done.rows.range(0, 1)], done.rows.bytes()[done.rows.range(1, 2)]);
    assert_eq!(done.replaced.iter().map(|(_, count)| count).sum::<u64>(), 2);
}

#[test]
fn periods_are_noted_once_and_a_record_without_time_arrives_today() {
    let times = [3 * DAY, 3 * DAY + DAY / 2, 4 * DAY, 3 * DAY, 0];
    let request_of = |times: &[u64]| request(times.iter().map(|&time| record(time, 0, "")).collect());
    let noted = |width, times: &[u64]| {
        let request = request_of(times);
        let done = Transcoder::new(width, None, Limits::default())
            .transcode(&request, 500, 5 * DAY, &mut Space::unlimited())
            .unwrap();
        done.rows.periods.iter().map(|period| period.start() / 3600).collect::<Vec<_>>()
    };
    assert_eq!(noted(Width::Day, &times), [72, 96, 120]);
    assert_eq!(noted(Width::Hour, &times), [72, 84, 96, 120]);
    let many: Vec<u64> = (1..400).map(|day| day * DAY).collect();
    assert_eq!(noted(Width::Day, &many).len(), MAX_PERIODS);
}

#[test]
fn truncating_returns_the_severities_of_the_removed_rows() {
    let mut rows = transcode(&request((1..=8).map(|n| record(DAY, n, "body")).collect()), 10).rows;
    let before = rows.bytes().to_vec();
    let cut = rows.truncate(3);
    assert_eq!((rows.len(), cut.total()), (3, 5));
    assert_eq!(
        cut.severities().iter().find(|(severity, _)| *severity == Severity::Debug),
        Some((Severity::Debug, 4))
    );
    assert_eq!(rows.bytes(), &before[..rows.range(0, 3).end]);
}

#[test]
fn each_resource_is_stored_once_however_many_there_are_and_in_which_order() {
    for count in [1, 2, 8, 9, 10, 40] {
        let resource = |number: usize| ResourceMessage {
            scope_logs: vec![ScopeMessage { log_records: vec![record(DAY, 9, "x")], ..Default::default() }],
            schema_url: format!("https://{number}"),
            ..Default::default()
        };
        let order = (0..count).chain((0..count).rev()).chain(0..count);
        let request = ExportLogsServiceRequest { resource_logs: order.clone().map(resource).collect() };
        let rows = transcode(&request.encode_to_vec(), 1000).rows;
        assert_eq!((rows.len(), rows.resources.len(), rows.scopes.len()), (3 * count, count, 1));
        let named = (0..rows.len()).map(|row| rows.resource(row).unwrap().schema_url.clone().unwrap());
        assert!(named.eq(order.map(|number| format!("https://{number}"))), "{count}");
    }
}

#[test]
fn truncating_removes_resources_and_scopes_without_rows() {
    let resource = |number: usize| ResourceMessage {
        scope_logs: vec![ScopeMessage {
            log_records: vec![record(DAY, 9, "x"); 2],
            schema_url: format!("https://scope/{number}"),
            ..Default::default()
        }],
        schema_url: format!("https://{number}"),
        ..Default::default()
    };
    let request = ExportLogsServiceRequest { resource_logs: (0..3).map(resource).collect() };
    let mut rows = transcode(&request.encode_to_vec(), 1000).rows;
    let before = rows.held_bytes();
    assert_eq!(rows.truncate(3).total(), 3);
    assert_eq!((rows.resources.len(), rows.scopes.len()), (2, 2));
    assert!(rows.held_bytes() < before);
    rows.truncate(0);
    assert_eq!((rows.resources.len(), rows.scopes.len()), (0, 0));
}

/// Scenario: a resource with a replaced value, in a request without space, in one that is not put into the buffer, and twice in one
/// that is. Promise: the replacement is counted once, with the first stored request.
#[test]
fn a_replacement_in_a_resource_counts_with_the_first_stored_request() {
    use crate::otlp::messages::Resource;
    let attribute =
        KeyValue { key: "k".into(), value: Some(AnyValue { value: Some(Value::StringValue("\0".into())) }) };
    let resource = Resource { attributes: vec![attribute], dropped_attributes_count: 0 };
    let records = |body: &str| ResourceMessage {
        resource: Some(resource.clone()),
        scope_logs: vec![ScopeMessage { log_records: vec![record(DAY, 9, body)], ..Default::default() }],
        schema_url: String::new(),
    };
    let encoded =
        |body: &str| ExportLogsServiceRequest { resource_logs: vec![records(body)] }.encode_to_vec();
    let transcoder = Transcoder::default();
    let (small, large) = (encoded("x"), encoded(&"x".repeat(1 << 20)));
    let mut asked = 0;
    let mut more = |bytes| {
        asked += bytes;
        asked < 64 << 10
    };
    // The resource finds space, and the row does not.
    let refused = transcoder.transcode(&large, 1, DAY, &mut Space::new(0, &mut more));
    assert!(matches!(refused, Err(Untranscoded::NoSpace(_))));
    let count = |done: &Transcoded<'_>| done.replaced.iter().map(|(_, count)| count).sum::<u64>();
    let transcode = || transcoder.transcode(&small, 1, DAY, &mut Space::unlimited()).unwrap();
    assert_eq!(count(&transcode()), 1);
    let stored = transcode();
    assert_eq!(count(&stored), 1, "the one before was not put into the buffer");
    transcoder.remember(stored.new);
    assert_eq!(count(&transcode()), 0);
}

/// Cache entries take the request's space, and nothing is cached without it.
#[test]
fn cache_entries_have_their_space() {
    let request = request(vec![record(DAY, 9, "x")]);
    let transcoder = Transcoder::default();
    let space_for = |remembered: bool| {
        (0..64 << 10).find(|&bytes| {
            let done = transcoder.transcode(&request, 1, DAY, &mut Space::new(bytes, &mut |_| false));
            done.is_ok_and(|done| !remembered || done.new.resources.len() + done.new.scopes.len() == 2)
        })
    };
    let (rows, all) = (space_for(false).unwrap(), space_for(true).unwrap());
    assert!(all >= rows + 2 * 256, "{rows} bytes for the rows, {all} with what is remembered");
}
