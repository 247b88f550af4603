//! Whether the store is there and takes rows, as the lanes and the keeper last saw it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::postgres::error::{Class, Failure};
use crate::telemetry::{Health, StoreTrouble};

/// The state of the store, which is reported to health.
#[derive(Debug)]
pub struct Standing {
    health: Health,
    ready: watch::Sender<bool>,
    /// A lane has written a batch since the keeper last looked.
    wrote_lately: AtomicBool,
    /// Lanes whose batch the store does not take.
    troubled: AtomicUsize,
    /// Lanes whose batch is held up by its own records.
    stuck: AtomicUsize,
    /// Whether the last answer of the store to any lane was that it took rows.
    took_last: AtomicBool,
}

/// A guard: the store does not take a lane's batch while this lives.
pub struct Trouble<'a>(&'a AtomicUsize);

/// A guard: a lane's batch is held up by its own records, while the store takes others, as long as this lives.
pub struct Stuck<'a>(&'a Standing);

impl Standing {
    pub(super) fn new(health: Health) -> Self {
        Self {
            health,
            ready: watch::Sender::new(false),
            wrote_lately: AtomicBool::new(false),
            troubled: AtomicUsize::new(0),
            stuck: AtomicUsize::new(0),
            took_last: AtomicBool::new(true),
        }
    }

    /// The schema is there.
    pub(super) fn is_prepared(&self) {
        self.health.store_ready();
        self.ready.send_replace(true);
    }

    /// The schema cannot be used.
    pub(super) fn does_not_fit(&self, why: String) {
        self.health.store_unavailable(StoreTrouble::SchemaMismatch, why);
    }

    /// Waits until the schema is there. Lanes take no batch before, so that the overflow policy sees all waiting records.
    pub async fn ready(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether the schema is there.
    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Whether the store is there and takes rows, even if the batch of one lane fails.
    pub fn takes_batches(&self) -> bool {
        let takes = self.troubled.load(Ordering::Acquire) == 0 || self.took_last.load(Ordering::Acquire);
        self.is_ready() && takes
    }

    /// A lane has written a batch.
    pub fn wrote(&self) {
        self.wrote_lately.store(true, Ordering::Relaxed);
        self.took();
    }

    /// Whether a lane has written a batch since this was last asked.
    pub(super) fn wrote_lately(&self) -> bool {
        self.wrote_lately.swap(false, Ordering::Relaxed)
    }

    /// The store has taken a row.
    pub fn took(&self) {
        self.took_last.store(true, Ordering::Release);
        self.answered();
    }

    /// Reports a failure of the store to health.
    pub fn report(&self, failure: &Failure) {
        self.took_last.store(false, Ordering::Release);
        let trouble = match failure.class {
            Class::Refused if failure.is_a_mismatch() => StoreTrouble::SchemaMismatch,
            // If no record is at fault, as with an event trigger on DDL, the database refuses.
            Class::Refused | Class::DiskFull | Class::Unknown | Class::Poison => {
                StoreTrouble::DatabaseRefuses
            }
            Class::Connection if failure.sqlstate.as_deref() == Some("25006") => {
                StoreTrouble::DatabaseRefuses
            }
            Class::Busy if failure.sqlstate.as_deref() == Some("53400") => StoreTrouble::DatabaseRefuses,
            Class::Connection | Class::Busy => StoreTrouble::DatabaseUnreachable,
        };
        self.health.store_unavailable(trouble, failure.to_string());
    }

    /// Reports to health that the store answered, unless a lane is in trouble: a database whose disk is full still accepts
    /// sessions.
    pub(super) fn answered(&self) {
        if self.troubled.load(Ordering::Acquire) == 0 {
            self.health.store_ready();
        }
    }

    /// A lane's batch is not taken.
    pub fn trouble(&self) -> Trouble<'_> {
        self.troubled.fetch_add(1, Ordering::AcqRel);
        Trouble(&self.troubled)
    }

    /// A lane's batch is held up by its own records: `failure`.
    pub fn stuck(&self, failure: &Failure) -> Stuck<'_> {
        self.stuck.fetch_add(1, Ordering::AcqRel);
        self.health.stuck(failure.to_string());
        Stuck(self)
    }
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        if self.0.stuck.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.health.moves();
        }
    }
}
