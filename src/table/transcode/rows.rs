//! The rows of one request for COPY, and the resources and scopes that they refer to.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::{Origin, Pass};
use crate::otlp::{Invalid, Malformed};
use crate::table::decode::scope_id;
use crate::table::interned::{Resource, Scope};
use crate::table::json::LARGEST_OF_A_BYTE;
use crate::table::layout::{Layout, ROW_OVERHEAD};
use crate::table::partition::{Period, Width};
use crate::table::row::RowWriter;
use crate::table::row_end::RowEnd;
use crate::table::scan::most_added;
use crate::table::severity::Severity;
use crate::table::space::{NoSpace, Space};
use crate::table::tally::Tally;
use crate::table::text::Replaced;

/// The rows of one request for COPY, and the resources and scopes that they refer to.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    pub(super) rows: Vec<RowEnd>,
    /// The resources of the rows, each once.
    pub resources: Vec<Arc<Resource>>,
    /// The scopes of the rows, each once.
    pub scopes: Vec<Arc<Scope>>,
    /// The periods of the rows, each once; no more than [`MAX_PERIODS`].
    pub periods: Vec<Period>,
    pub(super) width: Width,
    /// The range of the period that was noted last.
    noted: Range<u64>,
}

const LARGE_RECORD: usize = 4 << 10;
const LARGE_REQUEST: usize = 8 << 20;
/// The most periods that are noted for one request. Rows of further periods go to existing partitions.
pub const MAX_PERIODS: usize = 128;

impl Rows {
    /// No rows yet, with memory from `space` for `records` records of `request`.
    pub(super) fn with_space(
        width: Width,
        request: &[u8],
        records: usize,
        space: &mut Space<'_>,
    ) -> Result<Self, NoSpace> {
        // A record has at least two bytes.
        let records = records.min(request.len() / 2);
        if records == 0 {
            return Ok(Self { width, ..Self::default() });
        }
        space.take(records * size_of::<RowEnd>())?;
        let mut capacity = (request.len() + records * ROW_OVERHEAD).min(space.left());
        space.take(capacity)?;
        // This is room for the largest possible row of the last record, if it is like the others. Growing would need the memory
        // twice, so for large requests the bound is computed from their bytes.
        let of_one = request.len().div_ceil(records.max(1));
        let more = if of_one > LARGE_RECORD || request.len() > LARGE_REQUEST {
            most_added(request) + request.len() / 3 + LARGE_RECORD * LARGEST_OF_A_BYTE
        } else {
            of_one * LARGEST_OF_A_BYTE
        };
        if space.take(more).is_ok() {
            capacity += more;
        }
        let (bytes, rows) = (Vec::with_capacity(capacity), Vec::with_capacity(records));
        Ok(Self { bytes, rows, width, ..Self::default() })
    }

    /// Rows that were made before, and are complete.
    pub(super) fn restored(
        bytes: Vec<u8>,
        rows: Vec<RowEnd>,
        resources: Vec<Arc<Resource>>,
        scopes: Vec<Arc<Scope>>,
        periods: Vec<Period>,
        width: Width,
    ) -> Self {
        Self { bytes, rows, resources, scopes, periods, width, noted: 0..0 }
    }

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
    pub fn tally(&self, rows: impl IntoIterator<Item = usize>) -> Tally {
        let mut tally = Tally::default();
        rows.into_iter().for_each(|row| tally.add(self.resource(row), self.rows[row].severity()));
        tally
    }

    /// The severity of a row.
    pub fn severity(&self, row: usize) -> Severity {
        self.rows[row].severity()
    }

    /// For each run of `rows` of one resource and severity: these, its length, and its bytes.
    pub fn runs(&self, rows: Range<usize>) -> impl Iterator<Item = (&Arc<Resource>, Severity, usize, usize)> {
        let mut from = self.offset(rows.start);
        self.rows[rows].chunk_by(RowEnd::is_like).map(move |run| {
            let (first, end) = (run[0], run[run.len() - 1].end());
            let bytes = end - std::mem::replace(&mut from, end);
            (&self.resources[first.resource()], first.severity(), run.len(), bytes)
        })
    }

    /// The resource of a row.
    pub fn resource(&self, row: usize) -> Option<&Arc<Resource>> {
        self.resources.get(self.rows[row].resource())
    }

    /// The memory that these rows keep, in bytes.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.bytes.capacity()
            + self.rows.capacity() * size_of::<RowEnd>()
            + self.periods.capacity() * size_of::<Period>()
            + self.resources.iter().map(|resource| resource.size()).sum::<usize>()
            + self.scopes.iter().map(|scope| scope.size()).sum::<usize>()
    }

    /// The memory that row `row` would keep if it were the only one, in bytes.
    pub fn bytes_alone(&self, row: usize) -> usize {
        let own = size_of::<Self>() + size_of::<RowEnd>() + size_of::<Period>();
        let scope = || {
            let id = scope_id(&self.bytes[self.range(row, row + 1)])?;
            self.scopes.iter().find(|scope| scope.id == id)
        };
        own + self.range(row, row + 1).len()
            + self.resource(row).map_or(0, |resource| resource.size())
            + (!self.scopes.is_empty()).then(scope).flatten().map_or(0, |scope| scope.size())
    }

    /// The most memory that a row of `request`, which has one record, keeps if it is the only one, in bytes. Values that are nested too
    /// deeply may take more.
    pub fn most_of_one(request: &[u8], of: &Resource, within: &Scope) -> usize {
        // A value takes up to three times its bytes on the wire, beside escapes: base64, numbers, values without content.
        let row = ROW_OVERHEAD + 3 * request.len() + most_added(request);
        // A vector has place for four periods at least.
        let own = size_of::<Self>() + size_of::<RowEnd>() + 4 * size_of::<Period>();
        own + row + of.size() + within.size()
    }

    /// Removes the rows that would each keep more than `most` bytes alone, with the resources and scopes that only they refer to;
    /// returns their services and severities.
    pub fn take_larger(&mut self, most: usize) -> Tally {
        let scope = self.scopes.iter().map(|scope| scope.size()).max().unwrap_or(0);
        let large: BTreeSet<_> = (0..self.len())
            .filter(|&row| self.range(row, row + 1).len() + scope > most / 2 && self.bytes_alone(row) > most)
            .collect();
        let taken = self.tally(large.iter().copied());
        if !large.is_empty() {
            self.remove(|row| large.contains(&row));
        }
        taken
    }

    /// Removes the rows of which `is_removed` holds, with the resources and scopes that only they refer to. The others are copied, so
    /// that the memory is free.
    pub fn remove(&mut self, is_removed: impl Fn(usize) -> bool) {
        let mut kept =
            Self { width: self.width, periods: std::mem::take(&mut self.periods), ..Self::default() };
        let mut places = vec![None; self.resources.len()];
        for row in (0..self.len()).filter(|row| !is_removed(*row)) {
            let end = self.rows[row];
            let place = *places[end.resource()].get_or_insert_with(|| {
                kept.resources.push(self.resources[end.resource()].clone());
                kept.resources.len() - 1
            });
            kept.bytes.extend_from_slice(&self.bytes[self.range(row, row + 1)]);
            kept.rows.push(RowEnd::new(kept.bytes.len() as u32, end.severity(), place));
        }
        kept.scopes = std::mem::take(&mut self.scopes);
        *self = kept;
        self.truncate(self.len());
    }

    /// Keeps only the first `len` rows and their resources and scopes; returns the services and severities of the others.
    pub fn truncate(&mut self, len: usize) -> Tally {
        let len = len.min(self.rows.len());
        let cut = self.tally(len..self.rows.len());
        self.rows.truncate(len);
        // Copied, because an allocator may leave all of the memory to a vector that shrinks.
        self.bytes = self.bytes[..self.offset(len)].to_vec();
        self.rows.shrink_to_fit();
        // Resources are in the order of their first rows.
        let resources = self.rows.iter().map(|row| row.resource() + 1).max().unwrap_or(0);
        self.resources.truncate(resources);
        if !self.scopes.is_empty() {
            let named: BTreeSet<_> =
                (0..len).filter_map(|row| scope_id(&self.bytes[self.range(row, row + 1)])).collect();
            self.scopes.retain(|scope| named.contains(&scope.id));
        }
        cut
    }

    /// Frees the memory that no row needs. A vector that shrinks by more than half is copied.
    pub(super) fn shrink(&mut self, space: &mut Space<'_>) {
        // Many records were left out.
        if 2 * self.rows.len() < self.rows.capacity() {
            self.rows.shrink_to_fit();
        }
        if 2 * self.bytes.len() >= self.bytes.capacity() || space.take(self.bytes.len()).is_ok() {
            self.bytes.shrink_to_fit();
        }
    }

    /// Makes room for a row of `most` bytes.
    #[inline]
    fn make_room(&mut self, most: usize, space: &mut Space<'_>) -> Result<(), NoSpace> {
        if self.bytes.capacity() - self.bytes.len() >= most { Ok(()) } else { self.grow(most, space) }
    }

    #[cold]
    fn grow(&mut self, most: usize, space: &mut Space<'_>) -> Result<(), NoSpace> {
        // The old memory stays until the rows are copied.
        let (len, old) = (self.bytes.len(), self.bytes.capacity());
        let (needed, doubled) = (len + most, 2 * old);
        let capacity = if doubled > needed && space.take(doubled).is_ok() {
            doubled
        } else {
            space.take(needed)?;
            needed
        };
        self.bytes.reserve_exact(capacity - len);
        space.give_back(old);
        Ok(())
    }

    fn offset(&self, row: usize) -> usize {
        if row == 0 { 0 } else { self.rows[row - 1].end() }
    }

    /// Writes the record of `pass`, whose values become at most `values` bytes. An error leaves nothing of it.
    #[inline]
    pub(super) fn push<'a, L: Layout<'a>>(
        &mut self,
        pass: &mut Pass<'a, '_, '_, L>,
        values: usize,
        of: &mut Origin<Resource>,
        within: &mut Origin<Scope>,
        replaced: &mut Replaced,
    ) -> Result<Result<(), Invalid>, NoSpace> {
        let Pass { layout, record, replaced: in_row, arrival, space, .. } = pass;
        let most = layout.most(values);
        self.make_room(most, space)?;
        let start = self.bytes.len();
        let times = [record.time_unix_nano, record.observed_time_unix_nano];
        let time = times.into_iter().find(|&time| time != 0).unwrap_or(*arrival);
        let mut row = RowWriter::begin(&mut self.bytes, layout.fields(), in_row);
        let written = layout.fill(&mut row, record, time);
        debug_assert!(self.bytes.len() - start <= most, "a row is larger than it can be");
        // The offsets of rows have 32 bits; no request comes near that.
        let end = u32::try_from(self.bytes.len()).ok();
        let (Ok(()), Some(end)) = (written, end) else {
            self.bytes.truncate(start);
            *in_row = Replaced::default();
            return Ok(Err(written.err().unwrap_or(Malformed::TOO_LARGE).into()));
        };
        if !in_row.is_empty() {
            *replaced += std::mem::take(in_row);
        }
        let resource = named(of, &mut self.resources);
        if L::IS_OWN {
            named(within, &mut self.scopes);
            if !self.noted.contains(&time) {
                self.note_period(time);
            }
        }
        let severity = Severity::from_number(record.severity_number);
        self.rows.push(RowEnd::new(end, severity, resource));
        Ok(Ok(()))
    }

    fn note_period(&mut self, time: u64) {
        let (period, times) = Period::of_nanos(time, self.width);
        self.noted = times;
        if self.periods.len() < MAX_PERIODS && !self.periods.contains(&period) {
            self.periods.push(period);
        }
    }
}

/// The index of a row's resource or scope in `all`, which gets it with its first row.
#[inline]
fn named<T>(origin: &mut Origin<T>, all: &mut Vec<Arc<T>>) -> usize {
    *origin.place.get_or_insert_with(|| {
        all.extend(origin.content.clone());
        all.len() - 1
    })
}
