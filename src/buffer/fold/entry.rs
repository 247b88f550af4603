//! The repeats of one record within a window.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::buffer::budget::Budget;
use crate::buffer::room::Room;
use crate::otlp::alone::{Value, retold};
use crate::table::Severity;

/// A record that is repeated, and what is known of its repeats.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) mark: u64,
    pub(super) key: u128,
    pub(super) severity: Severity,
    /// The end of its window.
    pub(super) until: Instant,
    /// The record, alone in a request.
    pub(super) request: Arc<[u8]>,
    pub(super) room: Room,
    pub(super) quota: Quota,
    repeats: AtomicU64,
    /// The earliest and the latest time of the repeats, in nanoseconds since 1970.
    first: AtomicU64,
    last: AtomicU64,
}

/// The part of the buffer that all entries may take.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    /// The entries without repeats. Their room is reserved, and no record is in it.
    unused: AtomicUsize,
}

/// The room of an entry within that part.
#[derive(Debug)]
pub(super) struct Quota {
    share: Arc<Share>,
    bytes: usize,
    is_used: AtomicBool,
}

/// Some repeats of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeats {
    pub(super) count: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// The record that stands for the repeats of another one.
#[derive(Debug)]
pub struct Folded {
    request: Arc<[u8]>,
    repeats: Repeats,
    pub(super) room: Room,
    _quota: Quota,
}

impl Share {
    pub(super) fn new(records: usize, bytes: usize) -> Self {
        Self { budget: Budget::new(records, bytes), unused: AtomicUsize::new(0) }
    }

    /// The number of records for which room is reserved, and that have not come.
    pub(super) fn unused(&self) -> usize {
        self.unused.load(Ordering::Relaxed)
    }
}

impl Quota {
    /// Room for one entry of so many bytes.
    pub(super) fn take(share: &Arc<Share>, bytes: usize) -> Option<Self> {
        let fits = |records, free| if records > 0 && bytes <= free { (1, bytes) } else { (0, 0) };
        (share.budget.take(fits).0 > 0).then(|| {
            share.unused.fetch_add(1, Ordering::Relaxed);
            Self { share: share.clone(), bytes, is_used: AtomicBool::new(false) }
        })
    }

    fn put_to_use(&self) {
        if !self.is_used.swap(true, Ordering::Relaxed) {
            self.share.unused.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.put_to_use();
        self.share.budget.free(1, self.bytes);
    }
}

impl Entry {
    pub(super) fn new(
        (mark, key): (u64, u128),
        severity: Severity,
        request: Arc<[u8]>,
        (room, quota): (Room, Quota),
        until: Instant,
    ) -> Self {
        Self {
            mark,
            key,
            severity,
            until,
            request,
            room,
            quota,
            repeats: AtomicU64::new(0),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
        }
    }

    /// The same record in its next window.
    pub(super) fn next(&self, room: (Room, Quota), until: Instant) -> Self {
        Self::new((self.mark, self.key), self.severity, self.request.clone(), room, until)
    }

    /// Counts `repeats`; returns how many of them are folded. The first of all is not: it is the one that is stored.
    pub(super) fn count(&self, repeats: Repeats) -> u64 {
        self.first.fetch_min(repeats.first, Ordering::Relaxed);
        self.last.fetch_max(repeats.last, Ordering::Relaxed);
        let before = self.repeats.fetch_add(repeats.count, Ordering::AcqRel);
        if before > 0 {
            return repeats.count;
        }
        self.quota.put_to_use();
        repeats.count - 1
    }

    /// Whether it has any repeats.
    pub(super) fn is_repeated(&self) -> bool {
        self.repeats.load(Ordering::Acquire) > 0
    }

    /// The record that stands for all repeats; `None` if there are none.
    pub(super) fn into_folded(self) -> Option<Folded> {
        let Self { request, room, quota, repeats, first, last, .. } = self;
        let repeats =
            Repeats { count: repeats.into_inner(), first: first.into_inner(), last: last.into_inner() };
        (repeats.count > 0).then_some(Folded { request, repeats, room, _quota: quota })
    }
}

impl Folded {
    /// A request of this record alone: with the time of the last repeat, with the number of the repeats and their first and last time
    /// as attributes, and without trace and span.
    pub fn request(&self) -> Vec<u8> {
        let Repeats { count, first, last } = self.repeats;
        let text = |nanos| {
            Timestamp::from_nanosecond(i128::from(nanos)).expect("64 bits end in the year 2554").to_string()
        };
        let attributes = [
            (COUNT, Value::Int(i64::try_from(count).unwrap_or(i64::MAX))),
            (FIRST_TIME, Value::String(&text(first))),
            (LAST_TIME, Value::String(&text(last))),
        ];
        retold(&self.request, last, &attributes).expect("it was a request before")
    }
}

/// The number of records that a folded one stands for.
pub const COUNT: &str = "forebay.folded.count";
const FIRST_TIME: &str = "forebay.folded.first_time";
const LAST_TIME: &str = "forebay.folded.last_time";
