//! The answer to a sender that waits for the result, and the count of the outcomes that depend on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::books::Books;
use super::reason::{LossReason, RejectReason};
use crate::table::Tally;

/// Answers a waiting sender when the last of its records is settled.
///
/// Records that are not stored are lost only if the answer tells the sender not to send them again. A sender that is told to
/// send the whole request again, or that left without an answer, keeps them: they count as rejected. Only the answer decides
/// that, so these records are counted with it.
#[derive(Debug)]
pub(super) struct Receipt {
    books: &'static Books,
    flushed: AtomicUsize,
    dead_lettered: AtomicUsize,
    lost: AtomicUsize,
    not_stored: Mutex<Vec<(LossReason, Tally)>>,
    /// `None` once the sender was answered.
    reply: Option<oneshot::Sender<Settled>>,
}

/// The outcomes of a request's queued records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Records in PostgreSQL.
    pub flushed: usize,
    /// Records in the table of dead letters.
    pub dead_lettered: usize,
    /// Records in neither.
    pub lost: usize,
}

impl Settled {
    /// Whether the sender is to send the whole request again. If some of its records are stored, that would store them twice.
    pub fn is_to_be_sent_again(&self) -> bool {
        self.lost > 0 && self.flushed + self.dead_lettered == 0
    }
}

impl Receipt {
    /// A receipt for a request whose records in `left_out` were not queued.
    pub(super) fn new(
        books: &'static Books,
        left_out: Vec<(LossReason, Tally)>,
        reply: oneshot::Sender<Settled>,
    ) -> Self {
        Self {
            books,
            flushed: AtomicUsize::new(0),
            dead_lettered: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            not_stored: Mutex::new(left_out),
            reply: Some(reply),
        }
    }

    pub(super) fn flush(&self, records: usize) {
        self.flushed.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn dead_letter(&self, records: usize) {
        self.dead_lettered.fetch_add(records, Ordering::Relaxed);
    }

    /// Notes queued records that are not stored.
    pub(super) fn lose(&self, reason: LossReason, records: Tally) {
        self.lost.fetch_add(records.total(), Ordering::Relaxed);
        self.not_stored.lock().unwrap_or_else(PoisonError::into_inner).push((reason, records));
    }

    /// Whether the sender has left, or was told that there was no result in time.
    pub(super) fn is_given_up(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let settled = Settled {
            flushed: *self.flushed.get_mut(),
            dead_lettered: *self.dead_lettered.get_mut(),
            lost: *self.lost.get_mut(),
        };
        let is_told = self.reply.take().is_some_and(|reply| reply.send(settled).is_ok());
        let is_lost = is_told && !settled.is_to_be_sent_again();
        for (reason, records) in self.not_stored.get_mut().unwrap_or_else(PoisonError::into_inner) {
            if is_lost {
                self.books.lose(*reason, records);
            } else {
                self.books.reject(RejectReason::Unavailable, records.total());
            }
        }
    }
}
