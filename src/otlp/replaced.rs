//! What had to be replaced in a request: a value never costs its record.

use std::ops::AddAssign;

use strum::{IntoStaticStr, VariantArray};

/// Why a value was replaced; in snake case it is the label `kind` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum ReplacedKind {
    /// A NUL in text or JSON: U+FFFD stands there now.
    Nul,
    /// A byte sequence that is not UTF-8: U+FFFD stands there now.
    Utf8,
    /// An array or map nested too deep: a text stands there now.
    Depth,
    /// A time beyond what a bigint of nanoseconds holds: the largest bigint stands there now. One that is no time: none is there.
    Time,
    /// A number beyond the type of its field or its column: the nearest value or its text stands there now.
    Number,
    /// A text longer than its column in an existing table: its first characters stand there now.
    Width,
    /// A value that is none of its field's type in OTLP/JSON: the nearest value or its text stands there now. One that is none of
    /// its column's type in an existing table: the default or NULL stands there now.
    Type,
    /// The id of a trace or a span that has another length than OTLP's: NULL stands there now.
    Id,
}

/// How many values were replaced, for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    counts: [u64; ReplacedKind::VARIANTS.len()],
    total: u64,
}

impl Replaced {
    /// Counts one more.
    pub fn count(&mut self, kind: ReplacedKind) {
        self.counts[kind as usize] += 1;
        self.total += 1;
    }

    /// Whether nothing was replaced.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Each kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (ReplacedKind, u64)> + '_ {
        ReplacedKind::VARIANTS.iter().copied().zip(self.counts)
    }
}

impl AddAssign for Replaced {
    fn add_assign(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, more)| *sum += more);
        self.total += other.total;
    }
}
