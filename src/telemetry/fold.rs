//! The fold: of a message that repeats, one line in a window, with the count of those left out.
//!
//! A message is known by the place in the code that emits it, whatever its fields say. The first one is printed at
//! once. Those that follow within the window are counted and only the latest is kept; it is printed when the window
//! is over, so that the last thing said is always the latest news. Printed lines plus their repeats are the messages
//! emitted, exactly. Time comes from the caller.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Places known one by one; there are fewer in the program. Those above share one window, so memory has a bound.
const PLACES: usize = 1024;

/// What was said lately, by place.
pub(super) struct Fold<K> {
    window: Duration,
    places: Mutex<HashMap<Option<K>, Place>>,
}

/// A line to print now.
#[derive(Debug, PartialEq)]
pub(super) struct Printed {
    /// The message.
    pub(super) line: String,
    /// How many from the same place were left out since the last line that was printed.
    pub(super) repeats: u64,
}

struct Place {
    printed: Instant,
    held: Option<Held>,
}

/// The latest of the messages left out, and how many there are, itself included.
struct Held {
    line: String,
    at: Instant,
    count: u64,
}

impl<K: Eq + Hash> Fold<K> {
    /// A fold that lets one line per place and `window` through.
    pub(super) fn new(window: Duration) -> Self {
        Self { window, places: Mutex::default() }
    }

    /// Takes the `line` said at `key`, and gives it back if it is to be printed now.
    pub(super) fn admit(&self, key: K, line: String, now: Instant) -> Option<Printed> {
        let mut places = self.lock();
        let key = Some(key);
        let known = places.len() < PLACES || places.contains_key(&key);
        match places.entry(if known { key } else { None }) {
            Entry::Vacant(entry) => {
                entry.insert(Place { printed: now, held: None });
                Some(Printed { line, repeats: 0 })
            }
            Entry::Occupied(entry) => entry.into_mut().admit(line, now, self.window),
        }
    }

    /// What is left to print of the windows that are over.
    pub(super) fn due(&self, now: Instant) -> Vec<Printed> {
        let window = self.window;
        self.release(now, |place| place.is_over(now, window))
    }

    /// What is left to print of all windows.
    pub(super) fn rest(&self, now: Instant) -> Vec<Printed> {
        self.release(now, |_| true)
    }

    fn release(&self, now: Instant, which: impl Fn(&Place) -> bool) -> Vec<Printed> {
        let mut places = self.lock();
        let mut held: Vec<Held> = places
            .values_mut()
            .filter(|place| which(place))
            .filter_map(|place| place.held.take().inspect(|_| place.printed = now))
            .collect();
        held.sort_by_key(|held| held.at);
        held.into_iter().map(|held| Printed { line: held.line, repeats: held.count - 1 }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<K>, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn admit(&mut self, line: String, now: Instant, window: Duration) -> Option<Printed> {
        if self.is_over(now, window) {
            self.printed = now;
            let repeats = self.held.take().map_or(0, |held| held.count);
            return Some(Printed { line, repeats });
        }
        let count = self.held.as_ref().map_or(0, |held| held.count) + 1;
        self.held = Some(Held { line, at: now, count });
        None
    }

    fn is_over(&self, now: Instant, window: Duration) -> bool {
        now.saturating_duration_since(self.printed) >= window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn printed(line: &str, repeats: u64) -> Printed {
        Printed { line: line.to_owned(), repeats }
    }

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_is_printed_and_the_next_waits_for_the_window() {
        let (fold, start) = (Fold::new(WINDOW), Instant::now());
        assert_eq!(fold.admit("a", "one".into(), start), Some(printed("one", 0)));
        assert_eq!(fold.admit("a", "two".into(), seconds(start, 1)), None);
        assert_eq!(fold.admit("a", "three".into(), seconds(start, 9)), None);
        assert_eq!(fold.admit("a", "four".into(), seconds(start, 10)), Some(printed("four", 2)));
        assert_eq!(fold.admit("a", "five".into(), seconds(start, 11)), None);
    }

    #[test]
    fn places_do_not_fold_each_other() {
        let (fold, now) = (Fold::new(WINDOW), Instant::now());
        assert_eq!(fold.admit("a", "one".into(), now), Some(printed("one", 0)));
        assert_eq!(fold.admit("b", "two".into(), now), Some(printed("two", 0)));
    }

    #[test]
    fn the_latest_is_printed_when_the_window_is_over() {
        let (fold, start) = (Fold::new(WINDOW), Instant::now());
        for (line, at) in [("one", 0), ("two", 1), ("three", 2)] {
            fold.admit("a", line.into(), seconds(start, at));
        }
        assert_eq!(fold.due(seconds(start, 9)), []);
        assert_eq!(fold.due(seconds(start, 10)), [printed("three", 1)]);
        // That line opened a window of its own.
        assert_eq!(fold.admit("a", "four".into(), seconds(start, 11)), None);
        assert_eq!(fold.due(seconds(start, 19)), []);
        assert_eq!(fold.due(seconds(start, 20)), [printed("four", 0)]);
    }

    #[test]
    fn the_end_prints_everything_in_the_order_it_was_said() {
        let (fold, start) = (Fold::new(WINDOW), Instant::now());
        for (key, line, at) in
            [("a", "a1", 0), ("b", "b1", 0), ("b", "b2", 1), ("a", "a2", 2), ("a", "a3", 3)]
        {
            fold.admit(key, line.into(), seconds(start, at));
        }
        assert_eq!(fold.rest(seconds(start, 4)), [printed("b2", 0), printed("a3", 1)]);
        assert_eq!(fold.rest(seconds(start, 5)), []);
    }

    #[test]
    fn lines_and_repeats_add_up_to_what_was_said() {
        let (fold, start) = (Fold::new(WINDOW), Instant::now());
        let mut lines = Vec::new();
        for tenth in 0..1_000u64 {
            let now = start + Duration::from_millis(tenth * 100);
            lines.extend(fold.admit("a", String::new(), now));
            if tenth % 10 == 0 {
                lines.extend(fold.due(now));
            }
        }
        lines.extend(fold.rest(seconds(start, 100)));
        assert_eq!(lines.iter().map(|line| 1 + line.repeats).sum::<u64>(), 1_000);
        assert!(lines.len() <= 11, "{} lines in ten windows", lines.len());
    }

    #[test]
    fn places_beyond_the_bound_share_one_window() {
        let (fold, now) = (Fold::new(WINDOW), Instant::now());
        let through = (0..10 * PLACES).filter(|key| fold.admit(*key, String::new(), now).is_some()).count();
        assert_eq!(through, PLACES + 1);
        assert_eq!(fold.lock().len(), PLACES + 1);
    }
}
