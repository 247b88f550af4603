//! Numbers of records by service and severity.

use std::sync::Arc;

use super::interned::Resource;
use super::severity::{Severity, SeverityCounts};

/// Numbers of records by service and severity.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// A request has the records of one resource together; each such block has an entry.
    blocks: Vec<(Option<Arc<Resource>>, SeverityCounts)>,
    others: SeverityCounts,
    total: usize,
}

/// The most blocks with an entry. Gateways send some dozens, but a request could have millions.
const MOST_BLOCKS: usize = 256;
/// The service name of all further blocks.
pub const OTHERS: &str = "(other)";

impl Tally {
    /// Counts one record; `None` means that its resource cannot be read.
    pub fn add(&mut self, resource: Option<&Arc<Resource>>, severity: Severity) {
        let same = |last: &Option<Arc<Resource>>| last.as_ref().map(Arc::as_ptr) == resource.map(Arc::as_ptr);
        let full = self.blocks.len() >= MOST_BLOCKS;
        match self.blocks.last_mut() {
            Some((last, counts)) if same(last) => counts.add(severity, 1),
            _ if full => self.others.add(severity, 1),
            _ => self.blocks.push((resource.cloned(), [severity].into_iter().collect())),
        }
        self.total += 1;
    }

    /// `records` records of which nothing else is known.
    pub fn of_unknown(records: usize) -> Self {
        let mut tally = Self::default();
        tally.others.add(Severity::Unspecified, records);
        tally.total = records;
        tally
    }

    /// The number of all records.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The memory of its resources, in bytes.
    pub fn memory(&self) -> usize {
        self.blocks.iter().filter_map(|(resource, _)| resource.as_ref()).map(|resource| resource.size()).sum()
    }

    /// The numbers by severity, for all services together.
    pub fn severities(&self) -> SeverityCounts {
        self.blocks.iter().fold(self.others, |mut sum, (_, counts)| {
            sum += *counts;
            sum
        })
    }

    /// The numbers of each block of records, with the name of its service. A service may have several.
    pub fn by_service(&self) -> impl Iterator<Item = (Option<&str>, &SeverityCounts)> {
        let blocks = self.blocks.iter().map(|(resource, counts)| {
            (resource.as_ref().and_then(|resource| resource.service_name.as_deref()), counts)
        });
        blocks.chain([(Some(OTHERS), &self.others)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::interned::Interner;
    use crate::table::space::Space;

    #[test]
    fn records_are_counted_by_block_and_severity() {
        let interner = Interner::default();
        let [one, two] = [&b"https://one"[..], b"https://two"]
            .map(|url| interner.resource(&[], url, &mut Space::unlimited()).unwrap().unwrap().content);
        let mut tally = Tally::default();
        for resource in [Some(&one), Some(&one), Some(&two), None, None] {
            tally.add(resource, Severity::Warn);
        }
        assert_eq!((tally.total(), tally.severities().total()), (5, 5));
        let blocks: Vec<_> = tally.by_service().map(|(_, counts)| counts.total()).collect();
        assert_eq!(blocks, [2, 1, 2, 0], "the last is for all others");
        for _ in 0..MOST_BLOCKS {
            tally.add(Some(&one), Severity::Info);
            tally.add(Some(&two), Severity::Info);
        }
        assert_eq!(tally.by_service().count(), MOST_BLOCKS + 1, "bounded");
        assert_eq!((tally.total(), tally.severities().total()), (5 + 2 * MOST_BLOCKS, 5 + 2 * MOST_BLOCKS));
    }
}
