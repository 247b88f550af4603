//! How large a row can get: columns may take the same bytes of a record more than once.

use super::{Column, Source};

/// The bounds on the rows of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Of the columns that are the same for all records of a scope.
    shared: Bound,
    /// Of the others.
    own: Bound,
}

/// The bound on some fields of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bound {
    /// Whatever they are filled with.
    fixed: usize,
    /// How many of them may take the same byte of a record, and of its resource or scope.
    of_record: usize,
    of_origin: usize,
}

/// A field has a length, and at the most so many bytes of a type that is not text, or of what stands around a text.
const FIELD: usize = 4 + 64;

impl Bounds {
    pub(super) fn of(columns: &[Column]) -> Self {
        let (shared, own) = columns.iter().partition::<Vec<_>, _>(|column| column.is_of_scope);
        Self { shared: Bound::of(&shared), own: Bound::of(&own) }
    }

    /// The most bytes of the fields that the records of a scope share, where the values of resource and scope become
    /// `of_origin` bytes at the most.
    pub(super) fn of_shared(&self, of_origin: usize) -> usize {
        self.shared.most(0, of_origin)
    }

    /// The most bytes of the other fields, where the record's values become `values` bytes at the most.
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

/// How many of `columns` may take the same byte of what `counts`: all those whose source is a `whole`, and the columns of the
/// one source that most have.
fn fan_out(columns: &[&Column], counts: fn(&Source) -> bool, whole: fn(&Source) -> bool) -> usize {
    let sources = || columns.iter().flat_map(|column| &column.sources).filter(|source| counts(source));
    let with = |source: &Source| columns.iter().filter(|column| column.sources.contains(source)).count();
    let wholes = columns
        .iter()
        .filter(|column| column.sources.iter().any(|source| counts(source) && whole(source)))
        .count();
    wholes + sources().filter(|source| !whole(source)).map(with).max().unwrap_or(0)
}
