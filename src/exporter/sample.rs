//! A recently stored record, by which a lane tests whether the table still accepts records at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::buffer::Batch;
use crate::table::decode::{resource_id, scope_id};
use crate::table::{Resource, Scope};

/// A stored record, and the time until which it is new enough.
#[derive(Debug, Default)]
pub(super) struct Sample {
    stored: Mutex<Option<(Stored, Instant)>>,
}

/// A stored record with its resource and scope.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) row: Bytes,
    pub(super) resource: Option<Arc<Resource>>,
    pub(super) scope: Option<Arc<Scope>>,
}

/// A record is new enough for this long.
const FRESH: Duration = Duration::from_secs(60);
/// The most bytes of a row with its resource and scope; larger ones are not worth the memory.
const LARGEST: usize = 64 << 10;

impl Sample {
    /// The record, if one has been stored.
    pub(super) fn get(&self) -> Option<Stored> {
        self.stored().as_ref().map(|(stored, _)| stored.clone())
    }

    /// Notes that the table refused the record, so that the next stored one replaces it.
    pub(super) fn is_refused(&self) {
        if let Some((_, fresh_until)) = self.stored().as_mut() {
            *fresh_until = Instant::now();
        }
    }

    /// Keeps row `index` of `batch`, unless the last record is new enough. A row that was stored `slowly` is kept only if there is
    /// no other, because the test has to be quick.
    pub(super) fn renew(&self, batch: &Batch, index: usize, slowly: bool) {
        let mut kept = self.stored();
        let due = kept.as_ref().is_none_or(|(_, fresh_until)| !slowly && *fresh_until <= Instant::now());
        if !due {
            return;
        }
        let row = batch.row(index);
        let (resource, scope) = (resource_id(row), scope_id(row));
        let resource = batch.resources().find(|one| Some(one.id) == resource).cloned();
        let scope = batch.scopes().find(|one| Some(one.id) == scope).cloned();
        let named = resource.as_ref().map_or(0, |one| one.attributes.len())
            + scope.as_ref().map_or(0, |one| one.attributes.len());
        if row.len() + named <= LARGEST {
            let stored = Stored { row: Bytes::copy_from_slice(row), resource, scope };
            *kept = Some((stored, Instant::now() + FRESH));
        }
    }

    fn stored(&self) -> MutexGuard<'_, Option<(Stored, Instant)>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::delivery::tests::delivery;

    #[tokio::test]
    async fn a_record_is_kept_for_a_while_unless_it_is_refused() {
        let (sample, batch) = (Sample::default(), delivery(3).await.batch);
        let is = |index| sample.get().is_some_and(|stored| stored.row == batch.row(index));
        assert!(sample.get().is_none());
        sample.renew(&batch, 0, true);
        assert!(is(0), "a slow one is better than none");
        sample.renew(&batch, 1, false);
        assert!(is(0), "it is new enough");
        sample.is_refused();
        sample.renew(&batch, 1, true);
        assert!(is(0), "a slow one replaces no other");
        sample.renew(&batch, 2, false);
        assert!(is(2));
        let stored = sample.get().unwrap();
        assert!(stored.resource.is_some() && stored.scope.is_some(), "with what it names");
    }
}
