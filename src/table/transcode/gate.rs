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
