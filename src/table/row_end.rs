//! The end, severity and resource of a row.

use strum::VariantArray as _;

use super::severity::Severity;

/// The end of a row, its severity and its resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowEnd {
    end: u32,
    /// The index of its resource in [`Rows::resources`], above the three bits of its severity.
    origin: u32,
}

const SEVERITY_BITS: u32 = 3;
const _: () = assert!(Severity::VARIANTS.len() <= 1 << SEVERITY_BITS);

impl RowEnd {
    /// `resource` is the index of the row's resource. A request has fewer than 2^29, since each takes some bytes.
    #[inline]
    pub(super) fn new(end: u32, severity: Severity, resource: usize) -> Self {
        Self { end, origin: (resource as u32) << SEVERITY_BITS | severity as u32 }
    }

    /// It as two numbers.
    pub(super) fn to_words(self) -> [u32; 2] {
        [self.end, self.origin]
    }

    /// The inverse of [`RowEnd::to_words`]; `None` for a severity that does not exist.
    pub(super) fn from_words([end, origin]: [u32; 2]) -> Option<Self> {
        let severity = origin & ((1 << SEVERITY_BITS) - 1);
        ((severity as usize) < Severity::VARIANTS.len()).then_some(Self { end, origin })
    }

    /// The end of its bytes among those of all rows.
    #[inline]
    pub(super) fn end(self) -> usize {
        self.end as usize
    }

    pub(super) fn severity(self) -> Severity {
        Severity::VARIANTS[(self.origin & ((1 << SEVERITY_BITS) - 1)) as usize]
    }

    /// Whether `other` has the same resource and severity.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.origin == other.origin
    }

    /// The index of its resource.
    pub(super) fn resource(self) -> usize {
        (self.origin >> SEVERITY_BITS) as usize
    }
}
