//! The keys of attributes that columns name, each with a place, and what one record has of them.

use crate::otlp::Malformed;
use crate::otlp::value::{AnyValue, KeyValue};

/// The keys that are named, and the patterns.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Sorted by length and text, each with its place.
    places: Vec<(Box<[u8]>, usize)>,
    patterns: Vec<Pattern>,
}

/// Keys that begin and end so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

/// What a record has of the keys. It is used again for the next one.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// By the places of the keys.
    named: Vec<Option<Pair<'a>>>,
    others: Vec<Pair<'a>>,
}

/// An attribute, read and as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) read: KeyValue<'a>,
    pub(super) message: &'a [u8],
}

impl Keys {
    /// The place of `key`.
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

    /// The place of `pattern`.
    pub(super) fn add_pattern(&mut self, pattern: Pattern) -> usize {
        self.patterns.iter().position(|known| *known == pattern).unwrap_or_else(|| {
            self.patterns.push(pattern);
            self.patterns.len() - 1
        })
    }

    pub(super) fn pattern(&self, place: usize) -> &Pattern {
        &self.patterns[place]
    }

    /// Whether a pattern is for `key`.
    pub(super) fn has_pattern_for(&self, key: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(key))
    }

    /// By length first, which tells most keys apart.
    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.places.binary_search_by(|(known, _)| (known.len(), &**known).cmp(&(key.len(), key)))
    }
}

impl Pattern {
    pub(super) fn new(before: &str, after: &str) -> Self {
        Self { before: before.as_bytes().into(), after: after.as_bytes().into() }
    }

    pub(super) fn matches(&self, key: &[u8]) -> bool {
        // To compare nothing is slow with glibc: an empty box points to no memory, and its vectors stumble over that.
        let begins = self.before.is_empty() || key.starts_with(&self.before);
        let ends = self.after.is_empty() || key.ends_with(&self.after);
        begins && ends && key.len() >= self.before.len() + self.after.len()
    }
}

impl<'a> Found<'a> {
    /// Nothing yet of `keys`.
    pub(super) fn none_of(keys: &Keys) -> Self {
        Self { named: vec![None; keys.places.len()], others: Vec::new() }
    }

    /// Reads `attributes`. Of several with the same key the last is meant, as jsonb has it.
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

    /// The attribute at `place`.
    pub(super) fn at(&self, place: usize) -> Option<Pair<'a>> {
        self.named[place]
    }

    /// Its value; an empty one is as good as none.
    pub(super) fn value(&self, place: usize) -> Option<AnyValue<'a>> {
        self.named[place].map(|pair| pair.read.value).filter(|value| *value != AnyValue::Empty)
    }

    /// The attributes that no column names by their whole keys.
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
