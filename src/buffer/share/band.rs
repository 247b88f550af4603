//! The bands of severity that fair shedding tells apart.

use crate::table::Severity;

/// A band of severity numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Band {
    /// 1 to 8.
    Debug,
    /// 9 to 12, and unspecified.
    Info,
    /// 13 to 16.
    Warn,
    /// 17 and above.
    Error,
}

/// The number of bands.
pub(super) const BANDS: usize = 4;

impl Band {
    /// All of them, the first to be dropped first.
    pub(in crate::buffer) const ALL: [Self; BANDS] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The band of `severity`.
    #[inline]
    pub fn of(severity: Severity) -> Self {
        match severity {
            Severity::Trace | Severity::Debug => Self::Debug,
            Severity::Unspecified | Severity::Info => Self::Info,
            Severity::Warn => Self::Warn,
            Severity::Error | Severity::Fatal => Self::Error,
        }
    }
}
