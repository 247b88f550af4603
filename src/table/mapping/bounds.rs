//! The largest size of a row: several columns may contain the same bytes of a record.

use super::{Column, Source};

/// The bounds on the rows of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// For the columns that all records of a scope share.
    shared: Bound,
    /// For the others.
    own: Bound,
}

/// The bound on some fields of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bound {
    /// The bytes that do not depend on values.
    fixed: usize,
    /// The number of fields that may contain the same byte of a record, and of its resource or scope.
    of_record: usize,
    of_origin: usize,
}

/// The length of a field, and the most bytes of a type that is not text, or around a text.
const FIELD: usize = 4 + 64;

impl Bounds {
    pub(super) fn of(columns: &[Column]) -> Self {
        let (shared, own) = columns.iter().partition::<Vec<_>, _>(|column| column.is_of_scope);
        Self { shared: Bound::of(&shared), own: Bound::of(&own) }
    }

    /// The most bytes of the fields that the records of a scope share, if the values of resource and scope become at most
    /// `of_origin` bytes.
    pub(super) fn of_shared(&self, of_origin: usize) -> usize {
        self.shared.most(0, of_origin)
    }

    /// The most bytes of the other fields, if the record's values become at most `values` bytes.
    pub(super) fn of_own(&self, values: usize, of_origin: usize) -> usize {
        self.own.most(values, of_origin)
    }
}

impl Bound {
    fn of(columns: &[&Column]) -> Self {
        Self {
            fixed: columns.iter().map(|column| FIELD + column.longest_literal()).sum(),
            of_record: fan_out(columns, |source| !source.is_of_scope(), Source::is_object),
            of_origin: fan_out(columns, Source::is_of_scope, |source| matches!(source, Source::Field(_))),
        }
    }

    fn most(&self, of_record: usize, of_origin: usize) -> usize {
        self.fixed + self.of_record * of_record + self.of_origin * of_origin
    }
}

impl Column {
    fn longest_literal(&self) -> usize {
        let literals = self.map.iter().map(|(_, field)| field).chain(&self.default);
        literals.map(|field| field.len()).max().unwrap_or(0)
    }
}

/// The number of `columns` that may contain the same byte of the sources for which `counts` is true: all those with a `whole`
/// source, and those of the most frequent other source.
fn fan_out(columns: &[&Column], counts: fn(&Source) -> bool, whole: fn(&Source) -> bool) -> usize {
    let sources = || columns.iter().flat_map(|column| &column.sources).filter(|source| counts(source));
    let with = |source: &Source| columns.iter().filter(|column| column.sources.contains(source)).count();
    let wholes = columns
        .iter()
        .filter(|column| column.sources.iter().any(|source| counts(source) && whole(source)))
        .count();
    wholes + sources().filter(|source| !whole(source)).map(with).max().unwrap_or(0)
}
