//! The records that are repeated: a table of fixed size, with a small lock for each set, on which no put ever waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_queue::SegQueue;

use super::entry::{Entry, Folded};

/// The repeated records.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    /// Entries that are no longer in their set. Requests in progress may still count repeats in them.
    closing: SegQueue<Arc<Entry>>,
}

#[derive(Debug, Default)]
struct Set {
    /// The marks of the entries; 0 is none.
    marks: [AtomicU64; WAYS],
    entries: RwLock<[Option<Arc<Entry>>; WAYS]>,
}

/// With [`WAYS`] entries each: 1,024 in all.
const SETS: usize = 256;
const WAYS: usize = 4;
/// A lock that is held is tried so often. It is held for some hundred nanoseconds at most.
const TRIES: usize = 64;

impl Default for Table {
    fn default() -> Self {
        Self { sets: (0..SETS).map(|_| Set::default()).collect(), closing: SegQueue::new() }
    }
}

impl Table {
    /// Whether it may have an entry with `mark`.
    #[inline]
    pub(super) fn has(&self, mark: u64) -> bool {
        self.set(mark).marks.iter().any(|known| known.load(Ordering::Relaxed) == mark)
    }

    /// The entry of `key`; `None` also while somebody changes its set.
    pub(super) fn find(&self, mark: u64, key: u128) -> Option<Arc<Entry>> {
        let entries = soon(|| self.set(mark).entries.try_read().ok())?;
        entries.iter().flatten().find(|entry| entry.key == key).cloned()
    }

    /// Adds `entry`, in the place of the oldest if there is none; returns the one that the table has for its key. `None` if the lock is
    /// held.
    pub(super) fn add(&self, entry: Entry) -> Option<Arc<Entry>> {
        let set = self.set(entry.mark);
        let mut entries = soon(|| set.entries.try_write().ok())?;
        if let Some(known) = entries.iter().flatten().find(|known| known.key == entry.key) {
            return Some(known.clone());
        }
        let age = |place: &usize| entries[*place].as_ref().map(|entry| entry.until);
        let place = (0..WAYS).min_by_key(age)?;
        let entry = Arc::new(entry);
        set.marks[place].store(entry.mark, Ordering::Relaxed);
        let before = entries[place].replace(entry.clone());
        before.into_iter().for_each(|before| self.closing.push(before));
        Some(entry)
    }

    /// Takes out the entries that are `due`; each is followed by what `next` makes of it. One that is to go on without a next one stays.
    pub(super) fn take(&self, due: impl Fn(&Entry) -> bool, next: impl Fn(&Entry) -> Next) -> Vec<Folded> {
        for set in &self.sets {
            if set.marks.iter().all(|mark| mark.load(Ordering::Relaxed) == 0) {
                continue;
            }
            let mut entries = set.entries.write().unwrap_or_else(PoisonError::into_inner);
            for (place, mark) in entries.iter_mut().zip(&set.marks) {
                let Some(entry) = place.take_if(|entry| due(entry)) else { continue };
                *place = match next(&entry) {
                    Next::Stays => Some(entry),
                    Next::Follows(next) => {
                        self.closing.push(entry);
                        Some(Arc::new(*next))
                    }
                    Next::Ends => {
                        self.closing.push(entry);
                        mark.store(0, Ordering::Relaxed);
                        None
                    }
                };
            }
        }
        let mut folded = Vec::new();
        for _ in 0..self.closing.len() {
            match self.closing.pop().map(Arc::try_unwrap) {
                Some(Ok(entry)) => folded.extend(entry.into_folded()),
                Some(Err(used)) => self.closing.push(used),
                None => {}
            }
        }
        folded
    }

    fn set(&self, mark: u64) -> &Set {
        &self.sets[(mark >> 32) as usize % SETS]
    }
}

/// The successor of an entry.
pub(super) enum Next {
    /// There is no room for one, so the window goes on.
    Stays,
    /// This one.
    Follows(Box<Entry>),
    /// None.
    Ends,
}

/// Tries to get a lock that is held for a moment only.
fn soon<T>(mut get: impl FnMut() -> Option<T>) -> Option<T> {
    (0..TRIES).find_map(|_| {
        get().or_else(|| {
            std::hint::spin_loop();
            None
        })
    })
}
