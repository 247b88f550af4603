//! Sets of positions. A record's position in the durable queue is the run that accepted it, and its number in that run.

use std::collections::BTreeMap;
use std::ops::Range;

/// One run of forebay on a directory: the nanosecond since 1970 at which it began, so that runs are in the order of time.
pub type Run = i64;

/// A set of positions, as ranges of numbers by run. Ranges that meet are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    runs: BTreeMap<Run, BTreeMap<u64, u64>>,
}

impl Positions {
    /// Adds the records `numbers` of `run`.
    pub fn insert(&mut self, run: Run, numbers: Range<u64>) {
        if numbers.is_empty() {
            return;
        }
        let ranges = self.runs.entry(run).or_default();
        let (mut start, mut end) = (numbers.start, numbers.end);
        // Ranges are disjoint, so that the last ones that begin within are all that overlap.
        while let Some((&first, &last)) = ranges.range(..=end).next_back()
            && last >= start
        {
            (start, end) = (start.min(first), end.max(last));
            ranges.remove(&first);
        }
        ranges.insert(start, end);
    }

    /// Removes the records `numbers` of `run`.
    pub fn remove(&mut self, run: Run, numbers: Range<u64>) {
        let Some(ranges) = self.runs.get_mut(&run).filter(|_| !numbers.is_empty()) else { return };
        while let Some((&first, &last)) = ranges.range(..numbers.end).next_back()
            && last > numbers.start
        {
            ranges.remove(&first);
            if last > numbers.end {
                ranges.insert(numbers.end, last);
            }
            if first < numbers.start {
                ranges.insert(first, numbers.start);
            }
        }
        if ranges.is_empty() {
            self.runs.remove(&run);
        }
    }

    /// Adds all of `others`.
    pub fn add(&mut self, others: &Self) {
        others.iter().for_each(|(run, numbers)| self.insert(run, numbers));
    }

    /// Removes all of `others`.
    pub fn subtract(&mut self, others: &Self) {
        others.iter().for_each(|(run, numbers)| self.remove(run, numbers));
    }

    /// Removes all runs before `run`.
    pub fn forget_before(&mut self, run: Run) {
        self.runs = self.runs.split_off(&run);
    }

    /// The first run that it has records of.
    pub fn first_run(&self) -> Option<Run> {
        self.runs.keys().next().copied()
    }

    /// Whether it has all the records `numbers` of `run`.
    pub fn covers(&self, run: Run, numbers: Range<u64>) -> bool {
        self.gap(run, numbers).is_none()
    }

    /// The first range among `numbers` of `run` that it does not have.
    pub fn gap(&self, run: Run, numbers: Range<u64>) -> Option<Range<u64>> {
        if numbers.is_empty() {
            return None;
        }
        let Some(ranges) = self.runs.get(&run) else { return Some(numbers) };
        let before = ranges.range(..=numbers.start).next_back();
        let start = before.map_or(numbers.start, |(_, &last)| last.max(numbers.start));
        if start >= numbers.end {
            return None;
        }
        // Ranges that meet are one, so that no range begins where another one ends.
        let next = ranges.range(start..numbers.end).next().map_or(numbers.end, |(&first, _)| first);
        Some(start..next)
    }

    /// How many of the records `numbers` of `run` it has.
    pub fn count_within(&self, run: Run, numbers: Range<u64>) -> u64 {
        let Some(ranges) = self.runs.get(&run).filter(|_| !numbers.is_empty()) else { return 0 };
        let overlap =
            |(&first, &last): (&u64, &u64)| last.min(numbers.end).saturating_sub(first.max(numbers.start));
        let before = ranges.range(..numbers.start).next_back().map_or(0, overlap);
        before + ranges.range(numbers.start..numbers.end).map(overlap).sum::<u64>()
    }

    /// Its number of records.
    pub fn len(&self) -> u64 {
        self.iter().map(|(_, numbers)| numbers.end - numbers.start).sum()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Its number of ranges.
    pub fn ranges(&self) -> usize {
        self.runs.values().map(BTreeMap::len).sum()
    }

    /// Its ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Run, Range<u64>)> {
        let of = |(run, ranges): (&Run, &'_ BTreeMap<u64, u64>)| {
            let run = *run;
            ranges.iter().map(move |(first, last)| (run, *first..*last)).collect::<Vec<_>>()
        };
        self.runs.iter().flat_map(of)
    }

    /// The ranges as numbers, as the database holds them: run, first, end, for each.
    pub fn to_numbers(&self) -> Vec<i64> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.iter().flat_map(|(run, numbers)| [run, number(numbers.start), number(numbers.end)]).collect()
    }

    /// The inverse of [`Positions::to_numbers`]. Numbers that are no range are passed over.
    pub fn from_numbers(numbers: &[i64]) -> Self {
        let mut positions = Self::default();
        for [run, first, end] in numbers.as_chunks::<3>().0 {
            if let (Ok(first), Ok(end)) = (u64::try_from(*first), u64::try_from(*end)) {
                positions.insert(*run, first..end);
            }
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn positions_are_the_set_that_a_set_of_numbers_would_be() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut positions, mut model) = (Positions::default(), BTreeSet::new());
            for _ in 0..60 {
                let run = random.i64(0..3);
                let start = random.u64(0..40);
                let numbers = start..start + random.u64(0..12);
                if random.bool() {
                    positions.insert(run, numbers.clone());
                    model.extend(numbers.clone().map(|number| (run, number)));
                } else {
                    positions.remove(run, numbers.clone());
                    model.retain(|(of, number)| *of != run || !numbers.contains(number));
                }
                let all: BTreeSet<_> =
                    positions.iter().flat_map(|(run, range)| range.map(move |n| (run, n))).collect();
                assert_eq!(all, model, "seed {seed}");
                assert_eq!(positions.len(), model.len() as u64);
                let start = random.u64(0..40);
                let within = start..start + random.u64(0..20);
                let missing = within.clone().find(|number| !model.contains(&(run, *number)));
                let gap = positions.gap(run, within.clone());
                assert_eq!(gap.as_ref().map(|gap| gap.start), missing, "seed {seed}");
                assert!(gap.is_none_or(|gap| gap.clone().all(|number| !model.contains(&(run, number)))
                    && (gap.end == within.end || model.contains(&(run, gap.end)))));
                assert_eq!(positions.covers(run, within.clone()), missing.is_none());
                let count = within.clone().filter(|number| model.contains(&(run, *number))).count();
                assert_eq!(positions.count_within(run, within), count as u64);
            }
            assert_eq!(Positions::from_numbers(&positions.to_numbers()), positions);
        }
    }

    #[test]
    fn ranges_that_meet_are_one() {
        let mut positions = Positions::default();
        positions.insert(1, 0..10);
        positions.insert(1, 20..30);
        assert_eq!(positions.ranges(), 2);
        positions.insert(1, 10..20);
        assert_eq!(positions.to_numbers(), [1, 0, 30]);
        let mut less = positions.clone();
        less.remove(1, 5..6);
        positions.subtract(&less);
        assert_eq!(positions.to_numbers(), [1, 5, 6]);
        positions.insert(2, 0..1);
        positions.forget_before(2);
        assert_eq!(positions.to_numbers(), [2, 0, 1]);
    }
}
