//! When work on a partition is retried after a failure.

use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::error::{Class, Failure};

/// The time of the next attempt, and the wait before it.
#[derive(Debug)]
pub(super) struct Again {
    at: Instant,
    wait: Duration,
}

const SHORTEST: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Again {
    /// In ten minutes.
    pub(super) fn soon() -> Self {
        Self { at: Instant::now() + SHORTEST, wait: SHORTEST }
    }

    /// In ten minutes; the wait doubles with each further failure other than contention, up to a day, since each attempt may have
    /// read the whole partition.
    pub(super) fn after(before: Option<&Self>, failure: &Failure) -> Self {
        match before {
            Some(before) if failure.class != Class::Busy => {
                let wait = (before.wait * 2).min(LONGEST);
                Self { at: Instant::now() + wait, wait }
            }
            _ => Self::soon(),
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.at <= Instant::now()
    }

    pub(super) fn wait(&self) -> Duration {
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_its_own_sake_is_tried_less_and_less_often() {
        let of_its_own = Failure::new(Class::Poison, "too long");
        let mut again = Again::after(None, &of_its_own);
        let mut waits = vec![again.wait().as_secs() / 60];
        for _ in 0..9 {
            again = Again::after(Some(&again), &of_its_own);
            waits.push(again.wait().as_secs() / 60);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440], "minutes");
        tokio::time::advance(LONGEST - Duration::from_secs(1)).await;
        assert!(!again.is_due());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(again.is_due());
        let again = Again::after(Some(&again), &Failure::new(Class::Busy, "writing goes first"));
        assert_eq!(again.wait(), SHORTEST);
    }
}
