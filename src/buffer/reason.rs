//! Why a record is not in the table of records: it was dropped, rejected, or lost in another way.

use strum::{IntoStaticStr, VariantArray};

/// Why a record was lost; in snake case it is the label `reason` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum DropReason {
    /// It arrived at a full buffer.
    DropNewest,
    /// It was the oldest waiting record of a full buffer.
    DropOldest,
    /// It is larger than the whole buffer.
    TooLarge,
    /// It was tried for longer than `retry_on_failure` allows, or than its sender waits.
    RetryExhausted,
    /// It was still buffered when forebay ended.
    Undelivered,
    /// Its bytes on disk are damaged or missing.
    Damaged,
    /// Its sender's share of the buffer, for its severity, was used.
    Share,
}

/// Why a record was rejected; in snake case it is the label `reason` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum RejectReason {
    /// The buffer was full and its policy is to refuse.
    Full,
    /// The process uses more than its memory limit.
    Memory,
    /// forebay is shutting down.
    Draining,
    /// It is not protobuf.
    Malformed,
    /// It exceeds a limit on structure, or needs more memory than a request may.
    TooComplex,
    /// There was no memory for its rows.
    NoRoom,
    /// The sender waits for the result, and it could not be written in time.
    Unavailable,
    /// The disk of the durable queue failed, or was too slow.
    Disk,
}

/// Why a record is not in the table of records; in snake case it is the column `reason` in the table of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum LossReason {
    /// It was dropped.
    #[strum(transparent)]
    Dropped(DropReason),
    /// It was not protobuf.
    Malformed,
    /// It exceeded a limit on structure.
    TooComplex,
    /// PostgreSQL refused it, and it is kept in the table of dead letters.
    DeadLetter,
}

impl LossReason {
    /// All of them.
    pub const ALL: [LossReason; 10] = [
        Self::Dropped(DropReason::DropNewest),
        Self::Dropped(DropReason::DropOldest),
        Self::Dropped(DropReason::TooLarge),
        Self::Dropped(DropReason::RetryExhausted),
        Self::Dropped(DropReason::Undelivered),
        Self::Dropped(DropReason::Damaged),
        Self::Dropped(DropReason::Share),
        Self::Malformed,
        Self::TooComplex,
        Self::DeadLetter,
    ];

    /// Its place among [`LossReason::ALL`].
    pub(super) fn index(self) -> usize {
        match self {
            Self::Dropped(reason) => reason as usize,
            Self::Malformed => DropReason::VARIANTS.len(),
            Self::TooComplex => DropReason::VARIANTS.len() + 1,
            Self::DeadLetter => DropReason::VARIANTS.len() + 2,
        }
    }
}
