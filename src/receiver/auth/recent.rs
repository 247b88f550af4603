//! A bounded set of recent credentials, by their digests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::keyed::Digest;

/// A direct-mapped cache: each digest has one place, and the latest one in it stays.
#[derive(Debug)]
pub(super) struct Recent(Mutex<Box<[Digest]>>);

const PLACES: usize = 1024;

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new(vec![Digest::default(); PLACES].into()))
    }
}

impl Recent {
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.places()[place(digest)] == *digest
    }

    /// Returns whether it was present before.
    pub(super) fn put(&self, digest: Digest) -> bool {
        std::mem::replace(&mut self.places()[place(&digest)], digest) == digest
    }

    fn places(&self) -> MutexGuard<'_, Box<[Digest]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(digest: &Digest) -> usize {
    usize::from(u16::from_le_bytes([digest[0], digest[1]])) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let (recent, key) = (Recent::default(), super::super::keyed::Key::new());
        let digest = |number: u32| key.digest(&number.to_le_bytes());
        for number in 0..10_000 {
            assert!(!recent.put(digest(number)));
            assert!(recent.has(&digest(number)) && recent.put(digest(number)));
        }
        let remembered = (0..10_000).filter(|number| recent.has(&digest(*number))).count();
        assert!((1..=PLACES).contains(&remembered), "{remembered}");
        assert!(!recent.has(&digest(10_000)));
    }
}
