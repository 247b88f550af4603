//! What is known of a row beside its bytes.

use strum::VariantArray as _;

use super::severity::Severity;

/// Where a row ends, and of which severity and resource it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowEnd {
    end: u32,
    /// The place of its resource in [`Rows::resources`], above the three bits of its severity.
    origin: u32,
}

const SEVERITY_BITS: u32 = 3;
const _: () = assert!(Severity::VARIANTS.len() <= 1 << SEVERITY_BITS);

impl RowEnd {
    /// The row's resource is number `resource`. A request has no 2^29 of them, each of which takes some bytes.
    #[inline]
    pub(super) fn new(end: u32, severity: Severity, resource: usize) -> Self {
        Self { end, origin: (resource as u32) << SEVERITY_BITS | severity as u32 }
    }

    /// Where its bytes end among those of all rows.
    #[inline]
    pub(super) fn end(self) -> usize {
        self.end as usize
    }

    pub(super) fn severity(self) -> Severity {
        Severity::VARIANTS[(self.origin & ((1 << SEVERITY_BITS) - 1)) as usize]
    }

    /// The place of its resource.
    pub(super) fn resource(self) -> usize {
        (self.origin >> SEVERITY_BITS) as usize
    }
}
