//! The table of senders, whose places are their numbers.
//!
//! Finding a number takes no lock. A name keeps its place as long as the process lives. Names that find no place are one sender.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::table::{OTHERS, Resource};

/// The places for names.
const PLACES: usize = 1023;
/// All numbers: the places, and one for the names that find none.
pub(super) const SENDERS: usize = PLACES + 1;
/// Places that are tried for a name.
const LOOKS: usize = 16;
/// The longest name that has a place of its own.
const LONGEST_NAME: usize = 256;
/// The seconds between two log lines about a sender.
const WINDOW: u64 = 10;

/// The senders, by their names.
#[derive(Debug)]
pub(super) struct Senders {
    /// The resource attribute that names them.
    by: String,
    places: Box<[OnceLock<Box<str>>]>,
    logs: Box<[Logged]>,
    hasher: RandomState,
    start: Instant,
}

/// The log lines about a sender.
#[derive(Debug, Default)]
struct Logged {
    /// The second after the last one, since the start; 0 without one.
    next: AtomicU64,
    /// Dropped records that no line has.
    records: AtomicU64,
}

impl Senders {
    /// No sender yet; the resource attribute `by` names them.
    pub(super) fn new(by: &str) -> Self {
        Self {
            by: by.to_owned(),
            places: (0..PLACES).map(|_| OnceLock::new()).collect(),
            logs: (0..SENDERS).map(|_| Logged::default()).collect(),
            hasher: RandomState::new(),
            start: Instant::now(),
        }
    }

    /// The number of the sender of records of `resource`. Resources without a name are one sender.
    #[inline]
    pub(super) fn number(&self, resource: &Resource) -> usize {
        usize::from(resource.sender(|resource| match &*self.by {
            "service.name" => self.find(resource.service_name.as_deref().unwrap_or_default()),
            by => self.find(&resource.attribute(by).unwrap_or_default()),
        }))
    }

    /// The name of sender `number`.
    pub(super) fn name(&self, number: usize) -> &str {
        match self.places.get(number).and_then(OnceLock::get).map(|name| &**name) {
            Some("") => "(none)",
            Some(name) => name,
            None => OTHERS,
        }
    }

    /// Notes `records` dropped records of sender `number`. Returns how many to log now, if a line is due.
    pub(super) fn dropped(&self, number: usize, records: usize) -> Option<u64> {
        let Logged { next, records: unlogged } = &self.logs[number];
        unlogged.fetch_add(records as u64, Ordering::Relaxed);
        let now = self.start.elapsed().as_secs();
        let due = next.load(Ordering::Relaxed);
        let is_mine = due <= now
            && next.compare_exchange(due, now + WINDOW, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_mine.then(|| unlogged.swap(0, Ordering::Relaxed))
    }

    fn find(&self, name: &str) -> u16 {
        if name == OTHERS || name.len() > LONGEST_NAME {
            return PLACES as u16;
        }
        let first = self.hasher.hash_one(name) as usize % PLACES;
        let places = (first..first + LOOKS).map(|place| place % PLACES);
        let found = places.into_iter().find(|&place| {
            // Another thread may have been quicker, with this name or another.
            &**self.places[place].get_or_init(|| name.into()) == name
        });
        found.unwrap_or(PLACES) as u16
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::buffer::samples::resource_of;

    #[test]
    fn each_name_has_a_number_and_those_beyond_the_table_are_one_sender() {
        let senders = Senders::new("service.name");
        let number = |name: &str| senders.number(&resource_of(Some(name)));
        let numbers: Vec<_> = (0..10_000).map(|name| number(&format!("service {name}"))).collect();
        let distinct: HashSet<_> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), SENDERS, "all places are used");
        for (name, number) in numbers.iter().enumerate() {
            let expected = if *number == PLACES { OTHERS.to_owned() } else { format!("service {name}") };
            assert_eq!(senders.name(*number), expected);
        }
        assert_eq!(number("service 0"), numbers[0]);
        assert_eq!(number(&"x".repeat(LONGEST_NAME + 1)), PLACES);
    }

    #[test]
    fn resources_without_a_name_are_one_sender() {
        let senders = Senders::new("service.name");
        let nameless = senders.number(&resource_of(None));
        assert_eq!(senders.number(&resource_of(Some(""))), nameless);
        assert_eq!(senders.name(nameless), "(none)");
        assert_ne!(senders.number(&resource_of(Some("shop"))), nameless);
    }

    #[test]
    fn another_attribute_may_name_the_sender() {
        let senders = Senders::new("service.version");
        let number = senders.number(&resource_of(Some("shop")));
        assert_eq!(senders.name(number), "(none)", "it has no such attribute");
        assert_eq!(resource_of(Some("shop")).attribute("service.name").as_deref(), Some("shop"));
    }

    #[test]
    fn a_sender_has_one_line_in_a_window_with_all_records_since_the_last() {
        let senders = Senders::new("service.name");
        assert_eq!(senders.dropped(3, 5), Some(5));
        assert_eq!(senders.dropped(3, 7), None);
        assert_eq!(senders.dropped(4, 1), Some(1), "another sender has its own");
        senders.logs[3].next.store(0, Ordering::Relaxed);
        assert_eq!(senders.dropped(3, 1), Some(8));
    }
}
