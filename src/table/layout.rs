//! What the rows of a request look like: those of `log_records`, or those of an existing table.

use std::sync::Arc;

use super::columns::{COLUMNS, Source, fill};
use super::interned::{Id, Resource, Scope};
use super::row::RowWriter;
use crate::otlp::{LogRecord, Malformed};

/// What a row takes at most beside the bytes that its record has on the wire, in the usual case: lengths, ids,
/// times. It is an estimate, made before the work and put right after it.
pub const ROW_OVERHEAD: usize = 180;

/// What makes rows of records: the columns of `log_records`, or those of an existing table.
pub(super) trait Layout<'a> {
    /// The rows name their resources and scopes, which are stored beside them.
    const IS_OWN: bool;

    /// The most memory that [`Layout::enter`] takes, until the next one, where resource and scope have `attributes` each at the
    /// most.
    fn to_enter(&self, place: &Place<'a, '_>, attributes: usize) -> usize;

    /// The records that follow are from `place`.
    fn enter(&mut self, place: &Place<'a, '_>) -> Result<(), Malformed>;

    /// The number of fields in each row.
    fn fields(&self) -> usize;

    /// The most bytes that the row of a record takes, whose values become `values` bytes at the most.
    fn most(&self, values: usize) -> usize;

    /// Writes the fields of a row.
    fn fill(&mut self, row: &mut RowWriter<'_>, record: &LogRecord<'a>, time: u64) -> Result<(), Malformed>;
}

/// The resource and the scope of records, interned and as they came.
#[derive(Debug)]
pub(super) struct Place<'a, 'b> {
    pub(super) resource: &'b Arc<Resource>,
    pub(super) scope: &'b Arc<Scope>,
    pub(super) resource_message: &'a [u8],
    pub(super) scope_message: &'a [u8],
    /// The most bytes that the values of both become where they are copied into rows.
    pub(super) values: usize,
}

/// The columns of `log_records`, which name resource and scope by these ids.
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
