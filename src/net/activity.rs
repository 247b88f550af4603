//! When a connection was last in use. Its task polls this: to wake it for each request would cost more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When one connection was last in use.
pub(super) struct Activity {
    began: Instant,
    in_flight: AtomicUsize,
    /// When a request was last answered or its client last read a part of an answer, in microseconds since `began`; 0 before that.
    answered: AtomicU64,
}

/// Marks a request as being in flight until it is dropped.
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), in_flight: AtomicUsize::new(0), answered: AtomicU64::new(0) }
    }

    /// How long the connection has been idle; `None` while a request is in flight.
    pub(super) fn idle(&self) -> Option<Duration> {
        if self.in_flight.load(Ordering::Acquire) > 0 {
            return None;
        }
        let answered = Duration::from_micros(self.answered.load(Ordering::Relaxed));
        Some(self.began.elapsed().saturating_sub(answered))
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed) > 0
    }

    /// Records that a request was answered, or that the client read a part of an answer.
    pub(super) fn answers(&self) {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.answered.store(now.max(1), Ordering::Relaxed);
    }
}

impl InFlight {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(activity)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.answers();
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}
