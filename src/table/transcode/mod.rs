//! From a request's wire bytes to rows of binary COPY, in one pass over borrowed bytes.

use std::ops::Range;
use std::sync::Arc;

use crate::otlp::{LogRecord, Malformed, ScopeLogs, resource_logs};
use crate::table::interned::{Interner, Resource, Scope};
use crate::table::layout::{Layout, Own, Place};
use crate::table::mapping::Mapping;
use crate::table::partition::{Period, Width};
use crate::table::row::RowWriter;
use crate::table::row_end::RowEnd;
use crate::table::severity::Severity;
use crate::table::tally::Tally;
use crate::table::text::Replaced;

/// Turns requests into rows.
#[derive(Debug, Default)]
pub struct Transcoder {
    interner: Interner,
    /// Of the partitions that the rows are for.
    width: Width,
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
    /// The periods of the rows, each once; no more than [`MAX_PERIODS`].
    pub periods: Vec<Period>,
    width: Width,
    /// The times that need no further look, because their period was noted last.
    noted: Range<u64>,
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

/// How many different periods are noted for one request. Rows of further ones find the partition that is there.
pub const MAX_PERIODS: usize = 128;

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
    /// Makes rows for `log_records` with partitions of this width, or for an existing table where there is a `mapping`.
    pub fn new(width: Width, mapping: Option<Arc<Mapping>>) -> Self {
        Self { width, mapping, ..Self::default() }
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
        done.rows.width = self.width;
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
    pub fn range(&self, start: usize, end: usize) -> Range<usize> {
        self.offset(start)..self.offset(end)
    }

    /// The bytes of all rows.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The services and severities of `rows`.
    pub fn tally(&self, rows: Range<usize>) -> Tally {
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
            + self.periods.capacity() * size_of::<Period>()
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
        if !self.noted.contains(&time) {
            self.note_period(time);
        }
    }

    fn note_period(&mut self, time: u64) {
        let (period, times) = Period::of_nanos(time, self.width);
        self.noted = times;
        if self.periods.len() < MAX_PERIODS && !self.periods.contains(&period) {
            self.periods.push(period);
        }
    }
}

#[cfg(test)]
mod tests;
