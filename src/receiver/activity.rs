//! What goes on on a connection. Nobody is woken for it, since that would cost something with each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What goes on on one connection.
pub(super) struct Activity {
    began: Instant,
    under_way: AtomicUsize,
    /// When a request was last answered, in microseconds since the beginning.
    answered: AtomicU64,
}

/// A request that is under way on its connection.
pub(super) struct UnderWay(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), under_way: AtomicUsize::new(0), answered: AtomicU64::new(0) }
    }

    /// How long no request has been under way; `None` while one is.
    pub(super) fn quiet(&self) -> Option<Duration> {
        if self.under_way.load(Ordering::Acquire) > 0 {
            return None;
        }
        let answered = Duration::from_micros(self.answered.load(Ordering::Relaxed));
        Some(self.began.elapsed().saturating_sub(answered))
    }
}

impl UnderWay {
    pub(super) fn one_more(of: Arc<Activity>) -> Self {
        of.under_way.fetch_add(1, Ordering::Relaxed);
        Self(of)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let answered = self.0.began.elapsed().as_micros();
        self.0.answered.store(u64::try_from(answered).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}
