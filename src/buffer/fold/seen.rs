//! The marks of recent records, in a table of fixed size without a lock. A mark may be forgotten early, for those of later records.

use std::sync::atomic::{AtomicU64, Ordering};

/// The recent marks.
#[derive(Debug)]
pub(super) struct Seen(Box<[[AtomicU64; WAYS]]>);

const SETS: usize = 1 << 12;
const WAYS: usize = 4;
/// The lowest bits of a word are a time, the others are those of a mark. The lowest bits of a mark choose the set.
const TIME_BITS: u32 = 20;
const TIMES: u64 = (1 << TIME_BITS) - 1;
/// The parts of a window in which times are counted.
pub(super) const PARTS: u64 = 16;

impl Default for Seen {
    fn default() -> Self {
        Self((0..SETS).map(|_| Default::default()).collect())
    }
}

impl Seen {
    /// Notes `mark` at `time`, in parts of a window; returns whether it was noted within the last window.
    #[inline]
    pub(super) fn note(&self, mark: u64, time: u64) -> bool {
        let set = &self.0[mark as usize % SETS];
        let word = mark & !TIMES | time & TIMES;
        let age = |word: u64| if word == 0 { u64::MAX } else { time.wrapping_sub(word) & TIMES };
        let (mut oldest, mut before) = (&set[0], 0);
        let mut greatest = 0;
        for place in set {
            let found = place.load(Ordering::Relaxed);
            if found & !TIMES == mark & !TIMES && found != 0 {
                place.store(word, Ordering::Relaxed);
                return age(found) <= PARTS;
            }
            if age(found) > greatest {
                (oldest, before, greatest) = (place, found, age(found));
            }
        }
        // Another thread may note the same mark, which is a repeat then.
        let noted = oldest.compare_exchange(before, word, Ordering::Relaxed, Ordering::Relaxed);
        noted.is_err_and(|found| found & !TIMES == mark & !TIMES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_known_for_a_window_after_each_time() {
        let (seen, mark) = (Seen::default(), 0xabcd_ef01_2345_6789);
        let times = [5, 6, 5 + PARTS + 1, 5 + 2 * PARTS + 2];
        assert_eq!(times.map(|time| seen.note(mark, time)), [false, true, true, false]);
        assert!(seen.note(mark, TIMES + 1 + times[3]), "times go around");
    }

    #[test]
    fn the_oldest_marks_of_a_set_are_forgotten() {
        let seen = Seen::default();
        let mark = |number: u64| number << 32 | 7;
        for number in 1..=WAYS as u64 + 1 {
            assert!(!seen.note(mark(number), number));
        }
        assert!((2..=WAYS as u64 + 1).all(|number| seen.note(mark(number), 9)));
        assert!(!seen.note(mark(1), 9));
    }
}
