//! The keys of attributes that columns use, each with an index, and the attributes of a record by these keys.

use crate::otlp::Malformed;
use crate::otlp::value::{AnyValue, KeyValue};

/// The keys and patterns that columns use.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Sorted by length and text, each with its index.
    places: Vec<(Box<[u8]>, usize)>,
    patterns: Vec<Pattern>,
}

/// Matches keys by their begin and end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

/// The attributes of a record by key. The memory is reused for the next record.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// By the indexes of the keys.
    named: Vec<Option<Pair<'a>>>,
    others: Vec<Pair<'a>>,
}

/// An attribute, read and as a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) read: KeyValue<'a>,
    pub(super) message: &'a [u8],
}

impl Keys {
    /// Adds `key`; returns its index.
    pub(super) fn add(&mut self, key: &str) -> usize {
        match self.search(key.as_bytes()) {
            Ok(index) => self.places[index].1,
            Err(index) => {
                let place = self.places.len();
                self.places.insert(index, (key.as_bytes().into(), place));
                place
            }
        }
    }

    /// Adds `pattern`; returns its index.
    pub(super) fn add_pattern(&mut self, pattern: Pattern) -> usize {
        self.patterns.iter().position(|known| *known == pattern).unwrap_or_else(|| {
            self.patterns.push(pattern);
            self.patterns.len() - 1
        })
    }

    pub(super) fn pattern(&self, place: usize) -> &Pattern {
        &self.patterns[place]
    }

    /// Whether a pattern matches `key`.
    pub(super) fn has_pattern_for(&self, key: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(key))
    }

    /// Compares the length first, which differs for most keys.
    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.places.binary_search_by(|(known, _)| (known.len(), &**known).cmp(&(key.len(), key)))
    }
}

impl Pattern {
    pub(super) fn new(before: &str, after: &str) -> Self {
        Self { before: before.as_bytes().into(), after: after.as_bytes().into() }
    }

    pub(super) fn matches(&self, key: &[u8]) -> bool {
        // Comparing empty slices is slow with glibc: an empty box points to no memory, which its vector code handles slowly.
        let begins = self.before.is_empty() || key.starts_with(&self.before);
        let ends = self.after.is_empty() || key.ends_with(&self.after);
        begins && ends && key.len() >= self.before.len() + self.after.len()
    }
}

impl<'a> Found<'a> {
    /// No attributes yet, for `keys`.
    pub(super) fn none_of(keys: &Keys) -> Self {
        Self { named: vec![None; keys.places.len()], others: Vec::new() }
    }

    /// Reads `attributes`. For duplicate keys the last counts, as in jsonb.
    pub(super) fn read(
        &mut self,
        keys: &Keys,
        attributes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Malformed> {
        self.named.fill(None);
        self.others.clear();
        for message in attributes {
            let pair = Pair { read: KeyValue::read(message)?, message };
            match keys.search(pair.read.key) {
                Ok(index) => self.named[keys.places[index].1] = Some(pair),
                Err(_) => self.others.push(pair),
            }
        }
        Ok(())
    }

    /// The attribute of the key with this index.
    pub(super) fn at(&self, place: usize) -> Option<Pair<'a>> {
        self.named[place]
    }

    /// Its value; an empty one counts as none.
    pub(super) fn value(&self, place: usize) -> Option<AnyValue<'a>> {
        self.named[place].map(|pair| pair.read.value).filter(|value| *value != AnyValue::Empty)
    }

    /// The attributes whose keys no column names in full.
    pub(super) fn others(&self) -> impl Iterator<Item = Pair<'a>> {
        self.others.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_what_begins_and_ends_so() {
        for (before, after, key, matches) in [
            ("", "_ms", "db_ms", true),
            ("", "_ms", "_ms", true),
            ("", "_ms", "ms", false),
            ("db.", "", "db.name", true),
            ("aba", "aba", "ababa", false),
            ("", "", "", true),
        ] {
            let pattern = Pattern::new(before, after);
            assert_eq!(pattern.matches(key.as_bytes()), matches, "{before}*{after} for {key}");
        }
    }

    #[test]
    fn a_key_has_one_place_however_often_it_is_named() {
        let mut keys = Keys::default();
        let places = ["b", "a", "bb", "a", "b"].map(|key| keys.add(key));
        assert_eq!(places, [0, 1, 2, 1, 0]);
    }
}
