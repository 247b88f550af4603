//! A row that was stored lately, with which the table is asked whether it still takes rows at all.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// A stored row and when it was noted.
#[derive(Debug, Default)]
pub(super) struct Sample {
    row: Mutex<Option<(Bytes, Instant)>>,
}

/// So long a row is new enough.
const FRESH: Duration = Duration::from_secs(60);
/// Larger rows are not worth the memory.
const LARGEST: usize = 64 << 10;

impl Sample {
    /// The row, if any was stored yet.
    pub(super) fn get(&self) -> Option<Bytes> {
        self.row().as_ref().map(|(row, _)| row.clone())
    }

    /// Notes `row`, unless the one from before is new enough.
    pub(super) fn renew<'a>(&self, row: impl FnOnce() -> &'a [u8]) {
        let mut kept = self.row();
        if kept.as_ref().is_none_or(|(_, since)| since.elapsed() > FRESH) {
            let row = row();
            if row.len() <= LARGEST {
                *kept = Some((Bytes::copy_from_slice(row), Instant::now()));
            }
        }
    }

    fn row(&self) -> MutexGuard<'_, Option<(Bytes, Instant)>> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
