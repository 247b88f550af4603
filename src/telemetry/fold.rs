//! Folds repeated messages: one line per window, with the count of those left out.
//!
//! Messages are the same if they come from the same place in the code and have the same subject, such as a partition. The first is
//! printed at once. Those that follow within the window are counted, and the latest is printed when the window is over, so that the
//! last line is always the latest news. Printed lines plus their repeats are exactly the messages emitted. The caller passes the time.
//!
//! Senders can influence subjects and must not be able to fill the log: beyond [`SUBJECTS`] in a window, a place has one subject.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most messages, by place and subject, with a window of their own. Further ones share one window, which bounds memory.
const KNOWN: usize = 4096;
/// The most subjects of one place.
const SUBJECTS: usize = 32;

/// The recent messages.
pub(super) struct Fold<K> {
    window: Duration,
    said: Mutex<Said<K>>,
}

struct Said<K> {
    messages: HashMap<Option<(K, Subject)>, Message>,
    /// Number of messages of each place.
    subjects: HashMap<K, usize>,
}

/// A hash of what a message is about; 0 if it does not say.
pub(super) type Subject = u64;

/// A line to print now.
#[derive(Debug, PartialEq)]
pub(super) struct Printed {
    pub(super) line: String,
    /// Number of messages left out since the last printed line.
    pub(super) repeats: u64,
}

struct Message {
    printed: Instant,
    held: Option<Repeats>,
}

/// The latest of the messages left out, and their number, itself included.
struct Repeats {
    line: String,
    at: Instant,
    count: u64,
}

impl<K: Eq + Hash + Clone> Fold<K> {
    /// Prints one line of each message per `window`.
    pub(super) fn new(window: Duration) -> Self {
        Self { window, said: Mutex::new(Said { messages: HashMap::new(), subjects: HashMap::new() }) }
    }

    /// Takes the `line` from `place` about `subject`, and returns it if it is to be printed now.
    pub(super) fn admit(&self, place: K, subject: Subject, line: String, now: Instant) -> Option<Printed> {
        let mut said = self.lock();
        let key = said.key(place, subject);
        match said.messages.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Message { printed: now, held: None });
                Some(Printed { line, repeats: 0 })
            }
            Entry::Occupied(entry) => entry.into_mut().admit(line, now, self.window),
        }
    }

    /// The lines left to print of windows that are over.
    pub(super) fn due(&self, now: Instant) -> Vec<Printed> {
        let window = self.window;
        let due = self.release(now, |message| message.is_over(now, window));
        self.lock().forget(now, window);
        due
    }

    /// The lines left to print of all windows.
    pub(super) fn rest(&self, now: Instant) -> Vec<Printed> {
        self.release(now, |_| true)
    }

    fn release(&self, now: Instant, which: impl Fn(&Message) -> bool) -> Vec<Printed> {
        let mut said = self.lock();
        let mut held: Vec<Repeats> = said
            .messages
            .values_mut()
            .filter(|message| which(message))
            .filter_map(|message| message.held.take().inspect(|_| message.printed = now))
            .collect();
        held.sort_by_key(|held| held.at);
        held.into_iter().map(|held| Printed { line: held.line, repeats: held.count - 1 }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Said<K>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Said<K> {
    /// The key of a message, within the bounds.
    fn key(&mut self, place: K, subject: Subject) -> Option<(K, Subject)> {
        let known = Some((place.clone(), subject));
        if self.messages.contains_key(&known) {
            return known;
        }
        let has_room = self.messages.len() < KNOWN;
        let subjects = self.subjects.entry(place.clone()).or_default();
        if has_room && *subjects < SUBJECTS {
            *subjects += 1;
            return known;
        }
        let alone = Some((place, 0));
        if has_room || self.messages.contains_key(&alone) { alone } else { None }
    }

    /// Forgets messages older than the window.
    fn forget(&mut self, now: Instant, window: Duration) {
        self.messages.retain(|_, message| message.held.is_some() || !message.is_over(now, window));
        self.subjects.clear();
        for (place, _) in self.messages.keys().flatten() {
            *self.subjects.entry(place.clone()).or_default() += 1;
        }
    }
}

impl Message {
    fn admit(&mut self, line: String, now: Instant, window: Duration) -> Option<Printed> {
        if self.is_over(now, window) {
            self.printed = now;
            let repeats = self.held.take().map_or(0, |held| held.count);
            return Some(Printed { line, repeats });
        }
        let count = self.held.as_ref().map_or(0, |held| held.count) + 1;
        self.held = Some(Repeats { line, at: now, count });
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
        assert_eq!(fold.admit("a", 0, "one".into(), start), Some(printed("one", 0)));
        assert_eq!(fold.admit("a", 0, "two".into(), seconds(start, 1)), None);
        assert_eq!(fold.admit("a", 0, "three".into(), seconds(start, 9)), None);
        assert_eq!(fold.admit("a", 0, "four".into(), seconds(start, 10)), Some(printed("four", 2)));
        assert_eq!(fold.admit("a", 0, "five".into(), seconds(start, 11)), None);
    }

    #[test]
    fn places_do_not_fold_each_other() {
        let (fold, now) = (Fold::new(WINDOW), Instant::now());
        assert_eq!(fold.admit("a", 0, "one".into(), now), Some(printed("one", 0)));
        assert_eq!(fold.admit("b", 0, "two".into(), now), Some(printed("two", 0)));
    }

    #[test]
    fn the_latest_is_printed_when_the_window_is_over() {
        let (fold, start) = (Fold::new(WINDOW), Instant::now());
        for (line, at) in [("one", 0), ("two", 1), ("three", 2)] {
            fold.admit("a", 0, line.into(), seconds(start, at));
        }
        assert_eq!(fold.due(seconds(start, 9)), []);
        assert_eq!(fold.due(seconds(start, 10)), [printed("three", 1)]);
        // That line opened a window of its own.
        assert_eq!(fold.admit("a", 0, "four".into(), seconds(start, 11)), None);
        assert_eq!(fold.due(seconds(start, 19)), []);
        assert_eq!(fold.due(seconds(start, 20)), [printed("four", 0)]);
    }

    #[test]
    fn the_end_prints_everything_in_the_order_it_was_said() {
        let (fold, start) = (Fold::new(WINDOW), Instant::now());
        for (key, line, at) in
            [("a", "a1", 0), ("b", "b1", 0), ("b", "b2", 1), ("a", "a2", 2), ("a", "a3", 3)]
        {
            fold.admit(key, 0, line.into(), seconds(start, at));
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
            lines.extend(fold.admit("a", 0, String::new(), now));
            if tenth % 10 == 0 {
                lines.extend(fold.due(now));
            }
        }
        lines.extend(fold.rest(seconds(start, 100)));
        assert_eq!(lines.iter().map(|line| 1 + line.repeats).sum::<u64>(), 1_000);
        assert!(lines.len() <= 11, "{} lines in ten windows", lines.len());
    }

    #[test]
    fn what_a_message_is_about_tells_it_apart() {
        let (fold, start) = (Fold::new(WINDOW), Instant::now());
        assert_eq!(fold.admit("a", 1, "one".into(), start), Some(printed("one", 0)));
        assert_eq!(fold.admit("a", 2, "two".into(), start), Some(printed("two", 0)));
        assert_eq!(fold.admit("a", 1, "one again".into(), seconds(start, 1)), None);
        assert_eq!(fold.admit("a", 2, "two again".into(), seconds(start, 2)), None);
        assert_eq!(fold.due(seconds(start, 10)), [printed("one again", 0), printed("two again", 0)]);
    }

    #[test]
    fn subjects_beyond_the_bound_are_one_and_no_other_places() {
        let (fold, start) = (Fold::new(WINDOW), Instant::now());
        let say = |subject, now| fold.admit("a", subject, String::new(), now).is_some();
        let through = (1..=1000).filter(|subject| say(*subject, start)).count();
        assert_eq!(through, SUBJECTS + 1);
        assert_eq!(fold.admit("b", 1, "other".into(), start), Some(printed("other", 0)));
        assert_eq!(fold.due(seconds(start, 10)), [printed("", 1000 - SUBJECTS as u64 - 2)]);
        assert!(fold.due(seconds(start, 20)).is_empty());
        let through = (2001..=3000).filter(|subject| say(*subject, seconds(start, 20))).count();
        assert_eq!(through, SUBJECTS + 1, "the earlier ones are forgotten");
    }

    #[test]
    fn messages_beyond_the_bound_share_one_window() {
        let (fold, now) = (Fold::new(WINDOW), Instant::now());
        let through = (0..10 * KNOWN).filter(|key| fold.admit(*key, 0, String::new(), now).is_some()).count();
        assert_eq!(through, KNOWN + 1);
        assert_eq!(fold.lock().messages.len(), KNOWN + 1);
    }
}
