//! The resources and scopes that a lane knows to be stored, so that it does not insert them again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::table::interned::Id;

/// How many a lane remembers, and for how long. A forgotten one is inserted again: if it is still stored, that only notes that
/// it is in use.
const MOST: usize = 20_000;
const FOR: Duration = Duration::from_secs(300);

/// PostgreSQL's files of the tables resources and scopes. A table that is truncated or created again has another file.
pub(super) type Files = [Option<u32>; 2];

/// The ids known to be stored.
pub(super) struct Known {
    ids: BTreeSet<Id>,
    since: Instant,
    /// The files that they are stored in.
    files: Files,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { ids: BTreeSet::new(), since: Instant::now(), files: [None; 2] }
    }

    pub(super) fn has(&self, id: &Id) -> bool {
        self.ids.contains(id)
    }

    pub(super) fn add(&mut self, ids: impl Iterator<Item = Id>) {
        if self.ids.len() > MOST {
            self.clear();
        }
        self.ids.extend(ids);
    }

    /// Forgets everything if the tables have other files now.
    pub(super) fn is_of(&mut self, files: Files) {
        if self.files != files {
            self.clear();
            self.files = files;
        }
    }

    /// Forgets everything after a while. Called before each batch, so that a lane also forgets after an idle time.
    pub(super) fn forget_old(&mut self) {
        if self.since.elapsed() > FOR {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_old_is_forgotten_whether_or_not_anything_was_stored_since() {
        let (mut known, one, other) = (Known::new(), [1; 16], [2; 16]);
        known.add([one].into_iter());
        tokio::time::advance(FOR).await;
        known.add([other].into_iter());
        known.forget_old();
        assert!(known.has(&one) && known.has(&other));
        tokio::time::advance(Duration::from_secs(1)).await;
        known.forget_old();
        assert!(!known.has(&one) && !known.has(&other), "what came later is forgotten with it");
    }

    #[tokio::test]
    async fn what_is_in_another_file_is_not_known() {
        let (mut known, one) = (Known::new(), [1; 16]);
        known.is_of([Some(1), Some(2)]);
        known.add([one].into_iter());
        known.is_of([Some(1), Some(2)]);
        assert!(known.has(&one));
        for files in [[Some(1), Some(3)], [None, Some(3)]] {
            known.is_of(files);
            assert!(!known.has(&one), "{files:?}");
            known.add([one].into_iter());
        }
    }

    #[tokio::test]
    async fn no_more_is_remembered_than_there_is_room_for() {
        let id = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            id
        };
        let mut known = Known::new();
        known.add((0..=MOST).map(id));
        known.add([id(MOST + 1)].into_iter());
        assert_eq!(known.ids.len(), 1);
    }
}
