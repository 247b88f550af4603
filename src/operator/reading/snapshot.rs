//! A transaction's snapshot, by which the next one knows which records are new.

/// PostgreSQL's snapshot: the transactions in progress, and those that had yet to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The first transaction that had not begun.
    next: u64,
    /// The transactions in progress.
    under_way: Vec<u64>,
}

impl Snapshot {
    /// Parses the result of `pg_current_snapshot`, `xmin:xmax:xip,xip,…`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, next, under_way) = (parts.next()?, parts.next()?, parts.next()?);
        let under_way = under_way.split(',').filter(|id| !id.is_empty()).map(str::parse);
        Some(Self { next: next.parse().ok()?, under_way: under_way.collect::<Result<_, _>>().ok()? })
    }

    /// Whether it was taken before `other`, on the same history.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.next <= other.next
    }

    /// The condition that a record is not in this snapshot: its transaction had not begun, or was in progress.
    ///
    /// A record has the lower 32 bits of its transaction's number, which wrap around; no window reaches back over half of them.
    pub(super) fn is_without(&self) -> String {
        let under_way: Vec<_> = self.under_way.iter().map(|id| bits(*id).to_string()).collect();
        format!(
            "(age(stored_by) <= age('{}'::xid) OR stored_by = ANY ('{{{}}}'::xid[]))",
            bits(self.next),
            under_way.join(",")
        )
    }
}

/// The part of a transaction's number that a record has.
fn bits(id: u64) -> u32 {
    id as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read() {
        let snapshot = |next, under_way: &[u64]| Some(Snapshot { next, under_way: under_way.to_vec() });
        assert_eq!(Snapshot::parse("740:745:740,742"), snapshot(745, &[740, 742]));
        assert_eq!(Snapshot::parse("8589934592:8589934592:"), snapshot(8_589_934_592, &[]));
        let around = Snapshot::parse("12884902642:12884902650:12884902642,12884902645").unwrap();
        let expected = "(age(stored_by) <= age('762'::xid) OR stored_by = ANY ('{754,757}'::xid[]))";
        assert_eq!(around.is_without(), expected);
        for text in ["", "740", "740:745", "740:x:", "740:745:,x"] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
    }
}
