//! Counts of values that were replaced in a request: a value never costs its record.

use std::ops::AddAssign;

use strum::{IntoStaticStr, VariantArray};

/// Why a value was replaced; in snake case it is the label `kind` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum ReplacedKind {
    /// A NUL in text or JSON, replaced by U+FFFD.
    Nul,
    /// A byte sequence that is not UTF-8, replaced by U+FFFD.
    Utf8,
    /// An array or map nested too deeply, replaced by a text.
    Depth,
    /// A time beyond a bigint of nanoseconds, replaced by the largest bigint; or no time at all, which is left out.
    Time,
    /// A number beyond the type of its field or its column, replaced by the nearest value or its text.
    Number,
    /// A text longer than its column in an existing table, cut to the column's width.
    Width,
    /// A value that is not of its field's type in OTLP/JSON, replaced by the nearest value or its text; or not of its column's
    /// type in an existing table, replaced by the default or NULL.
    Type,
    /// The id of a trace or a span whose length is not OTLP's, replaced by NULL.
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
