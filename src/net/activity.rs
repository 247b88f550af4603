//! When a connection was in use last. Its own task looks from time to time; waking it would cost something with each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When one connection was in use last.
pub(super) struct Activity {
    began: Instant,
    in_flight: AtomicUsize,
    /// When a request was last answered, or a part of its answer taken, in microseconds since the beginning; 0 before.
    answered: AtomicU64,
}

/// A request that is under way on its connection.
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), in_flight: AtomicUsize::new(0), answered: AtomicU64::new(0) }
    }

    /// For how long it has not been in use; `None` while a request is under way.
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

    /// A request is answered, or a part of its answer is taken.
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
