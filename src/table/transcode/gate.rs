//! The gate that each record of a request passes before its row is written.

use std::sync::Arc;

use crate::otlp::LogRecord;
use crate::table::interned::{Resource, Scope};

/// Decides about each record of a request. It is asked once for each record that can be read, in their order.
pub trait Gate {
    /// The verdict on `record`, which was read from `message` and is `of` this resource, `within` this scope.
    fn admits(
        &mut self,
        of: &Arc<Resource>,
        within: &Arc<Scope>,
        record: &LogRecord<'_>,
        message: &[u8],
    ) -> Verdict;

    /// Whether records beyond the requested number may be folded. If so, they are read, and it is asked for each of them.
    fn folds(&self) -> bool {
        false
    }

    /// Whether another row stands for this record, for which there is no room. The arguments are those of [`Gate::admits`].
    fn has_row_for(&mut self, _: &Arc<Resource>, _: &Arc<Scope>, _: &LogRecord<'_>, _: &[u8]) -> bool {
        false
    }
}

/// What becomes of a record.
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
    fn admits(&mut self, _: &Arc<Resource>, _: &Arc<Scope>, _: &LogRecord<'_>, _: &[u8]) -> Verdict {
        Verdict::Take
    }
}
