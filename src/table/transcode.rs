//! From a request's wire bytes to rows of binary COPY, in one pass over borrowed bytes.

use std::sync::Arc;

use super::interned::{Interner, Resource, Scope};
use super::layout::{Layout, Own, Place};
use super::mapping::Mapping;
use super::row::RowWriter;
use super::row_end::RowEnd;
use super::severity::Severity;
use super::tally::Tally;
use super::text::Replaced;
use crate::otlp::{LogRecord, Malformed, ScopeLogs, resource_logs};

/// Turns requests into rows.
#[derive(Debug, Default)]
pub struct Transcoder {
    interner: Interner,
    mapping: Option<Arc<Mapping>>,
}

/// Rows of one request, as COPY wants them, and the resources and scopes that they name.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    rows: Vec<RowEnd>,
    /// The resources that the rows name.
    pub resources: Vec<Arc<Resource>>,
    /// The scopes that the rows name.
    pub scopes: Vec<Arc<Scope>>,
    /// The days of the rows, as days since 1970, each once; no more than [`MAX_DAYS`].
    pub days: Vec<i64>,
}

/// What became of a request's records.
#[derive(Debug, Default)]
pub struct Transcoded {
    /// The records that are rows now.
    pub rows: Rows,
    /// The records that are not protobuf, or whose resource or scope is not.
    pub malformed: Tally,
    /// The records beyond the limit, which were not looked into.
    pub beyond: Tally,
    /// What had to be replaced in the rows.
    pub replaced: Replaced,
}

/// How many different days are noted for one request. Rows of further days find the partition that is there.
pub const MAX_DAYS: usize = 16;

const NANOS_PER_DAY: u64 = 86_400_000_000_000;

/// What a row takes at most beside the bytes that its record has on the wire, in the usual case: lengths, ids,
/// times. It is an estimate, made before the work and put right after it.
pub const ROW_OVERHEAD: usize = 180;

/// One pass over a request.
struct Pass<'a, L> {
    layout: L,
    /// Used again and again, for the sake of its memory.
    record: LogRecord<'a>,
    /// What was replaced in the row that is being written.
    replaced: Replaced,
    limit: usize,
    arrival: u64,
}

impl Transcoder {
    /// Makes rows for an existing table, or for `log_records` where there is none.
    pub fn new(mapping: Option<Arc<Mapping>>) -> Self {
        Self { mapping, ..Self::default() }
    }

    /// Writes the first `limit` records of `request` as rows. `arrival` (nanoseconds since 1970) is the time of
    /// records that have none.
    ///
    /// # Errors
    ///
    /// Only where the nesting down to the records is broken, which [`crate::otlp::count_records`] has ruled out.
    pub fn transcode(&self, request: &[u8], limit: usize, arrival: u64) -> Result<Transcoded, Malformed> {
        match &self.mapping {
            None => self.transcode_by(Own::default(), request, limit, arrival),
            Some(mapping) => self.transcode_by(mapping.filler(arrival), request, limit, arrival),
        }
    }

    fn transcode_by<'a, L: Layout<'a>>(
        &self,
        layout: L,
        request: &'a [u8],
        limit: usize,
        arrival: u64,
    ) -> Result<Transcoded, Malformed> {
        let mut done = Transcoded::default();
        done.rows.bytes.reserve(request.len() + limit.min(request.len()) * ROW_OVERHEAD);
        done.rows.rows.reserve(limit.min(request.len()));
        let record = LogRecord::default();
        let mut pass = Pass { layout, record, replaced: Replaced::default(), limit, arrival };
        // What is not stored is not counted as replaced.
        let mut unstored = Replaced::default();
        for resource in resource_logs(request) {
            let resource = resource?;
            let replaced = if L::IS_OWN { &mut done.replaced } else { &mut unstored };
            let interned = self.interner.resource(resource.resource, resource.schema_url, replaced).ok();
            for scope in resource.scope_logs() {
                let scope = scope?;
                let replaced = if L::IS_OWN { &mut done.replaced } else { &mut unstored };
                let interned_scope = self.scope(&scope, replaced);
                let place =
                    interned.as_ref().zip(interned_scope.as_ref()).map(|(interned, interned_scope)| Place {
                        resource: interned,
                        scope: interned_scope,
                        resource_message: resource.resource,
                        scope_message: scope.scope,
                    });
                let place = place.filter(|place| pass.layout.enter(place).is_ok());
                done.transcode_scope(&mut pass, &scope, interned.as_ref(), place.as_ref())?;
            }
        }
        done.rows.bytes.shrink_to_fit();
        Ok(done)
    }

    /// The services and severities of a request of which nothing is taken.
    ///
    /// # Errors
    ///
    /// As for [`Transcoder::transcode`].
    pub fn tally(&self, request: &[u8]) -> Result<Tally, Malformed> {
        let mut tally = Tally::default();
        for resource in resource_logs(request) {
            let resource = resource?;
            let replaced = &mut Replaced::default();
            let interned = self.interner.resource(resource.resource, resource.schema_url, replaced).ok();
            for scope in resource.scope_logs() {
                for record in scope?.log_records() {
                    let severity = Severity::from_number(LogRecord::severity_of(record?));
                    tally.add(interned.as_ref(), severity);
                }
            }
        }
        Ok(tally)
    }

    fn scope(&self, scope: &ScopeLogs<'_>, replaced: &mut Replaced) -> Option<Arc<Scope>> {
        self.interner.scope(scope.scope, scope.schema_url, replaced).ok()
    }
}

impl Transcoded {
    /// `place` is where the records are from, unless that cannot be read.
    fn transcode_scope<'a, L: Layout<'a>>(
        &mut self,
        pass: &mut Pass<'a, L>,
        scope: &ScopeLogs<'a>,
        resource: Option<&Arc<Resource>>,
        place: Option<&Place<'a, '_>>,
    ) -> Result<(), Malformed> {
        for message in scope.log_records() {
            let message = message?;
            if self.rows.len() + self.malformed.total() >= pass.limit {
                self.beyond.add(resource, Severity::from_number(LogRecord::severity_of(message)));
                continue;
            }
            let written = place.is_some_and(|place| {
                let read = pass.record.read(message);
                read.and_then(|()| self.rows.push(pass, place, &mut self.replaced)).is_ok()
            });
            if !written {
                self.malformed.add(resource, Severity::from_number(LogRecord::severity_of(message)));
            }
        }
        Ok(())
    }
}

impl Rows {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The bytes of rows `start` to `end`, without COPY's header and trailer.
    pub fn range(&self, start: usize, end: usize) -> std::ops::Range<usize> {
        self.offset(start)..self.offset(end)
    }

    /// The bytes of all rows.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The services and severities of `rows`.
    pub fn tally(&self, rows: std::ops::Range<usize>) -> Tally {
        let mut tally = Tally::default();
        rows.for_each(|row| tally.add(self.resource(row), self.rows[row].severity()));
        tally
    }

    /// The resource of a row.
    pub fn resource(&self, row: usize) -> Option<&Arc<Resource>> {
        self.resources.get(self.rows[row].resource())
    }

    /// All the memory that these rows hold on to, in bytes.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.bytes.capacity()
            + self.rows.capacity() * size_of::<RowEnd>()
            + self.resources.iter().map(|resource| resource.size()).sum::<usize>()
            + self.scopes.iter().map(|scope| scope.size()).sum::<usize>()
    }

    /// Keeps the first `len` rows only; gives the services and severities of the others.
    pub fn truncate(&mut self, len: usize) -> Tally {
        let len = len.min(self.rows.len());
        let cut = self.tally(len..self.rows.len());
        self.rows.truncate(len);
        self.bytes.truncate(self.offset(self.rows.len()));
        self.bytes.shrink_to_fit();
        self.rows.shrink_to_fit();
        cut
    }

    fn offset(&self, row: usize) -> usize {
        if row == 0 { 0 } else { self.rows[row - 1].end() }
    }

    /// Writes the record of `pass`; on an error nothing of it is left.
    #[inline]
    fn push<'a, L: Layout<'a>>(
        &mut self,
        pass: &mut Pass<'a, L>,
        place: &Place<'a, '_>,
        replaced: &mut Replaced,
    ) -> Result<(), Malformed> {
        let Pass { layout, record, replaced: in_row, arrival, .. } = pass;
        let start = self.bytes.len();
        let times = [record.time_unix_nano, record.observed_time_unix_nano];
        let time = times.into_iter().find(|&time| time != 0).unwrap_or(*arrival);
        let mut row = RowWriter::begin(&mut self.bytes, layout.fields(), in_row);
        let written = layout.fill(&mut row, record, time);
        // The offsets of the rows are 32 bits wide; no request comes near that.
        let end = u32::try_from(self.bytes.len()).ok();
        let (Ok(()), Some(end)) = (written, end) else {
            self.bytes.truncate(start);
            *in_row = Replaced::default();
            return Err(written.err().unwrap_or(Malformed::TOO_LARGE));
        };
        if !in_row.is_empty() {
            *replaced += std::mem::take(in_row);
        }
        // Rows of one resource and scope stand together, so only the last noted needs a look.
        if self.resources.last().is_none_or(|last| last.id != place.resource.id) {
            self.resources.push(place.resource.clone());
        }
        if L::IS_OWN {
            self.note(place.scope, time);
        }
        let severity = Severity::from_number(record.severity_number);
        self.rows.push(RowEnd::new(end, severity, self.resources.len() - 1));
        Ok(())
    }

    #[inline]
    fn note(&mut self, scope: &Arc<Scope>, time: u64) {
        if self.scopes.last().is_none_or(|last| last.id != scope.id) {
            self.scopes.push(scope.clone());
        }
        let day = (time / NANOS_PER_DAY) as i64;
        if self.days.last() != Some(&day) && self.days.len() < MAX_DAYS && !self.days.contains(&day) {
            self.days.push(day);
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::otlp::messages::any_value::Value;
    use crate::otlp::messages::{
        AnyValue, ExportLogsServiceRequest, LogRecord as RecordMessage, ResourceLogs as ResourceMessage,
        ScopeLogs as ScopeMessage,
    };
    use crate::table::columns::COLUMNS;

    const DAY: u64 = NANOS_PER_DAY;

    fn record(time_unix_nano: u64, severity_number: i32, body: &str) -> RecordMessage {
        let body = Some(AnyValue { value: Some(Value::StringValue(body.into())) });
        RecordMessage { time_unix_nano, severity_number, body, ..Default::default() }
    }

    fn request(records: Vec<RecordMessage>) -> Vec<u8> {
        let scope_logs = vec![ScopeMessage { log_records: records, ..Default::default() }];
        let resource_logs = vec![ResourceMessage { scope_logs, ..Default::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    fn transcode(request: &[u8], limit: usize) -> Transcoded {
        Transcoder::default().transcode(request, limit, 5 * DAY).unwrap()
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
        let done = transcode(&request(vec![record(DAY, 9, "hello"), RecordMessage::default()]), 10);
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
    fn what_is_beyond_the_limit_is_counted_by_severity_and_not_written() {
        let records = [9, 9, 17, 17, 17, 0].into_iter().map(|severity| record(DAY, severity, "x")).collect();
        let done = transcode(&request(records), 2);
        assert_eq!((done.rows.len(), done.malformed.total()), (2, 0));
        let expected = [(Severity::Error, 3), (Severity::Unspecified, 1)];
        for (severity, count) in done.beyond.severities().iter() {
            let expected =
                expected.iter().find(|(known, _)| *known == severity).map_or(0, |(_, count)| *count);
            assert_eq!(count, expected, "{severity:?}");
        }
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
        assert_eq!(crate::otlp::count_records(&request), Ok(3));
        let done = transcode(&request, 3);
        assert_eq!((done.rows.len(), done.malformed.total()), (2, 1));
        assert_eq!(done.rows.bytes()[done.rows.range(0, 1)], done.rows.bytes()[done.rows.range(1, 2)]);
        assert_eq!(done.replaced.iter().map(|(_, count)| count).sum::<u64>(), 2);
    }

    #[test]
    fn days_are_noted_once_and_a_record_without_time_arrives_today() {
        let times = [3 * DAY, 3 * DAY + 1, 4 * DAY, 3 * DAY, 0];
        let done = transcode(&request(times.into_iter().map(|time| record(time, 0, "")).collect()), 10);
        assert_eq!(done.rows.days, [3, 4, 5]);
        let many = (1..40).map(|day| record(day * DAY, 0, "")).collect();
        assert_eq!(transcode(&request(many), 100).rows.days.len(), MAX_DAYS);
    }

    #[test]
    fn truncating_gives_the_severities_of_what_is_cut() {
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
}
