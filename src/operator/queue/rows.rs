//! Rows of the queue, read by the format that their segment has.

use std::ops::Range;

use crate::table::decode::{Record, id_at};
use crate::table::{Resource, RowFormat, Rows, Scope};

/// A row with its resource and its scope.
pub(super) struct Row<'a> {
    /// `None` if the bytes are no row of that format.
    pub(super) record: Option<Record<'a>>,
    pub(super) resource: Option<&'a Resource>,
    /// `None` for a row of an existing table.
    pub(super) scope: Option<&'a Scope>,
}

/// The names of the columns of `format`.
pub(super) fn names(format: &RowFormat) -> Vec<String> {
    format.columns.iter().map(|(name, _)| name.clone()).collect()
}

/// The rows `range` of `rows`, whose columns have these `names`.
pub(super) fn read<'a>(
    rows: &'a Rows,
    range: Range<usize>,
    format: &'a RowFormat,
    names: &'a [String],
) -> impl Iterator<Item = Row<'a>> {
    let scope_at = format.index_of("scope_id").filter(|_| format.destination.is_none());
    let types: Vec<_> = format.columns.iter().map(|(_, sql_type)| sql_type.parse().ok()).collect();
    range.map(move |row| {
        let bytes = &rows.bytes()[rows.range(row, row + 1)];
        let id = scope_at.and_then(|at| id_at(bytes, at));
        Row {
            record: Record::read_by(bytes, names, |name| types[format.index_of(name)?]),
            resource: rows.resource(row).map(|resource| &**resource),
            scope: id.and_then(|id| rows.scopes.iter().find(|scope| scope.id == id)).map(|scope| &**scope),
        }
    })
}
