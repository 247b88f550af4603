//! The fields of a request's rows: those of `log_records`, or of an existing table.

use std::sync::Arc;

use super::columns::{COLUMNS, Source, fill};
use super::interned::{Id, Resource, Scope};
use super::row::RowWriter;
use crate::otlp::{LogRecord, Malformed};

/// A row usually takes at most so many bytes more than its record on the wire: lengths, ids, times. This estimate is made before
/// the rows are written and corrected afterwards.
pub const ROW_OVERHEAD: usize = 180;

/// Makes rows of records: for `log_records`, or for an existing table.
pub(super) trait Layout<'a> {
    /// Whether rows refer to resources and scopes, which are stored in their own tables.
    const IS_OWN: bool;

    /// The most memory that [`Layout::enter`] takes until its next call, if resource and scope have at most `attributes` each.
    fn to_enter(&self, place: &Place<'a, '_>, attributes: usize) -> usize;

    /// Begins the records of `place`.
    fn enter(&mut self, place: &Place<'a, '_>) -> Result<(), Malformed>;

    /// The number of fields in each row.
    fn fields(&self) -> usize;

    /// The most bytes of a row, if the record's values become at most `values` bytes.
    fn most(&self, values: usize) -> usize;

    /// Writes the fields of a row.
    fn fill(&mut self, row: &mut RowWriter<'_>, record: &LogRecord<'a>, time: u64) -> Result<(), Malformed>;
}

/// The resource and the scope of records, interned and as messages.
#[derive(Debug)]
pub(super) struct Place<'a, 'b> {
    pub(super) resource: &'b Arc<Resource>,
    pub(super) scope: &'b Arc<Scope>,
    pub(super) resource_message: &'a [u8],
    pub(super) scope_message: &'a [u8],
    /// The most bytes that the values of both become in rows, if they are copied there.
    pub(super) values: usize,
}

/// The layout of `log_records`, whose rows refer to resource and scope by these ids.
#[derive(Debug, Default)]
pub(super) struct Own {
    resource: Id,
    scope: Id,
}

impl Layout<'_> for Own {
    const IS_OWN: bool = true;

    fn to_enter(&self, _: &Place<'_, '_>, _: usize) -> usize {
        0
    }

    #[inline]
    fn enter(&mut self, place: &Place<'_, '_>) -> Result<(), Malformed> {
        *self = Self { resource: place.resource.id, scope: place.scope.id };
        Ok(())
    }

    #[inline]
    fn fields(&self) -> usize {
        COLUMNS.len()
    }

    #[inline]
    fn most(&self, values: usize) -> usize {
        ROW_OVERHEAD + values
    }

    #[inline]
    fn fill(&mut self, row: &mut RowWriter<'_>, record: &LogRecord<'_>, time: u64) -> Result<(), Malformed> {
        fill(row, &Source { record, time, resource: self.resource, scope: self.scope })
    }
}
