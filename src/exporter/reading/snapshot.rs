//! What a transaction sees, by which the next one knows what is new.

use super::filter::Condition;

/// PostgreSQL's snapshot: the transactions that were under way, and those that had yet to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// All from this one on were not there yet.
    next: i64,
    /// Nor were these done.
    under_way: Vec<i64>,
}

impl Snapshot {
    /// Reads what `pg_current_snapshot` says, `xmin:xmax:xip,xip,…`.
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

    /// Adds to `condition` that a record is not in this snapshot; `now` is the one in which it is read.
    ///
    /// A record has the lower 32 bits of its transaction's number. The transaction is the last one that has these bits
    /// and had begun by now.
    pub(super) fn leaves_to(&self, now: &Self, condition: &mut Condition) {
        let bits = "stored_by::text::bigint";
        let number = format!("{bits} + ((({} - {bits}) >> 32) << 32)", now.next - 1);
        let under_way = format!("{number} = ANY (?)");
        condition.and(&format!("({number} >= {} OR {under_way})", self.next), self.under_way.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read() {
        let snapshot = |next, under_way: &[i64]| Some(Snapshot { next, under_way: under_way.to_vec() });
        assert_eq!(Snapshot::parse("740:745:740,742"), snapshot(745, &[740, 742]));
        assert_eq!(Snapshot::parse("8589934592:8589934592:"), snapshot(8_589_934_592, &[]));
        for text in ["", "740", "740:745", "740:x:", "740:745:,x"] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
    }
}
