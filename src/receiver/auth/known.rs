//! What was found out of credentials, by their digests, within a bound.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError, RwLock};

use super::keyed::Digest;

/// Remembers which credentials are right, and some of those that are not.
#[derive(Debug)]
pub(super) struct Known {
    right: RwLock<HashSet<Digest>>,
    /// Each has one place that it can be in, and the latest has it.
    wrong: Mutex<Box<[Digest]>>,
}

/// There are as many right ones as names, times the ways to write base64.
const MOST_RIGHT: usize = 4096;
const WRONG: usize = 1024;

impl Default for Known {
    fn default() -> Self {
        Self { right: RwLock::default(), wrong: Mutex::new(vec![Digest::default(); WRONG].into()) }
    }
}

impl Known {
    /// Whether they are right; `None` where that is not known.
    pub(super) fn get(&self, digest: &Digest) -> Option<bool> {
        if self.right.read().unwrap_or_else(PoisonError::into_inner).contains(digest) {
            return Some(true);
        }
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        (wrong[place(digest)] == *digest).then_some(false)
    }

    /// Remembers what was found out.
    pub(super) fn put(&self, digest: Digest, is_right: bool) {
        if is_right {
            let mut right = self.right.write().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= MOST_RIGHT {
                right.clear();
            }
            right.insert(digest);
        } else {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner)[place(&digest)] = digest;
        }
    }
}

fn place(digest: &Digest) -> usize {
    usize::from(u16::from_le_bytes([digest[0], digest[1]])) % WRONG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_stays_known_whatever_is_tried() {
        let (known, key) = (Known::default(), super::super::keyed::Key::new());
        let digest = |number: u32| key.digest(&number.to_le_bytes());
        known.put(digest(0), true);
        for number in 1..10_000 {
            known.put(digest(number), false);
            assert_eq!(known.get(&digest(number)), Some(false));
        }
        assert_eq!(known.get(&digest(0)), Some(true));
        let remembered = (1..10_000).filter(|number| known.get(&digest(*number)).is_some()).count();
        assert!((1..=WRONG).contains(&remembered), "{remembered}");
        assert_eq!(known.get(&digest(10_000)), None);
        for number in 0..10_000 {
            known.put(digest(number), true);
        }
        assert!(known.right.read().unwrap().len() <= MOST_RIGHT);
    }
}
