//! The gate that each record of a request passes before its row is written.

use std::sync::Arc;

use crate::otlp::LogRecord;
use crate::table::interned::{Resource, Scope};

/// A record that was read, with its origin.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a, 'b> {
    /// Its resource.
    pub of: &'b Arc<Resource>,
    /// Its scope.
    pub within: &'b Arc<Scope>,
    /// Its fields.
    pub record: &'b LogRecord<'a>,
    /// The bytes that it was read from.
    pub message: &'b [u8],
}

/// Decides about each record of a request. It is asked once for each record that can be read, in their order.
pub trait Gate {
    /// The verdict on a record.
    fn admits(&mut self, candidate: Candidate<'_, '_>) -> Verdict;

    /// Whether records beyond the requested number may be folded. If so, they are read, and it is asked for each of them.
    fn folds(&self) -> bool {
        false
    }

    /// Whether another row stands for this record, for which there is no room.
    fn has_row_for(&mut self, _: Candidate<'_, '_>) -> bool {
        false
    }
}

/// The verdict on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It becomes a row.
    Take,
    /// It is dropped, and counted in [`super::Transcoded::shed`].
    Shed,
    /// Another row stands for it; it is counted in [`super::Transcoded::folded`].
    Fold,
}

/// The gate of a buffer that has room: every record becomes a row.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl Gate for Open {
    #[inline(always)]
    fn admits(&mut self, _: Candidate<'_, '_>) -> Verdict {
        Verdict::Take
    }
}
