//! Exponential backoff with jitter, with the Collector's `retry_on_failure` keys and meanings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::values::duration::GoDuration;

/// The waits between the attempts to write one batch.
#[derive(Debug)]
pub struct Backoff {
    config: RetryConfig,
    interval: Duration,
}

impl Backoff {
    /// The waits of a new batch, by `config`.
    pub fn new(config: RetryConfig) -> Self {
        let interval = config.initial_interval.0;
        Self { config, interval }
    }

    /// Uses `config` from the next wait on.
    pub fn follow(&mut self, config: RetryConfig) {
        self.config = config;
        self.interval = self.interval.min(self.longest());
    }

    /// The next wait: the interval, spread by the randomization factor; then the interval grows.
    pub fn next_wait(&mut self) -> Duration {
        let spread = 1.0 + self.config.randomization_factor * (fastrand::f64() * 2.0 - 1.0);
        let wait = self.interval.mul_f64(spread.max(0.0));
        let grown = self.interval.as_secs_f64() * self.config.multiplier;
        let max = self.longest();
        self.interval = Duration::try_from_secs_f64(grown).unwrap_or(max).min(max);
        wait
    }

    fn longest(&self) -> Duration {
        let max = self.config.max_interval.0;
        // 0 means no limit; a year is long enough.
        if max.is_zero() { Duration::from_secs(365 * 86_400) } else { max }
    }

    /// Whether to give up a batch that has been tried for `elapsed`.
    pub fn is_exhausted(&self, elapsed: Duration) -> bool {
        let max = self.config.max_elapsed_time.0;
        !self.config.enabled || (!max.is_zero() && elapsed >= max)
    }
}

/// `exporters.postgres.retry_on_failure`, with the Collector's keys and meanings.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// `false` drops a batch after its first failure.
    pub enabled: bool,
    /// The wait after the first failure.
    pub initial_interval: GoDuration,
    /// Each wait is spread by this share of itself, up and down (0 to 1).
    pub randomization_factor: f64,
    /// Each wait is this many times the one before (at least 1).
    pub multiplier: f64,
    /// The longest wait.
    pub max_interval: GoDuration,
    /// A batch is dropped after this long; 0 never gives up.
    pub max_elapsed_time: GoDuration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: GoDuration(Duration::from_millis(1500)),
            randomization_factor: 0.3,
            multiplier: 1.5,
            max_interval: GoDuration(Duration::from_secs(5)),
            max_elapsed_time: GoDuration(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RetryConfig {
        RetryConfig {
            enabled: true,
            initial_interval: GoDuration(Duration::from_secs(1)),
            randomization_factor: 0.25,
            multiplier: 2.0,
            max_interval: GoDuration(Duration::from_secs(5)),
            max_elapsed_time: GoDuration(Duration::from_secs(60)),
        }
    }

    #[test]
    fn waits_grow_to_the_longest_and_stay_within_the_jitter() {
        let mut backoff = Backoff::new(config());
        for expected in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let wait = backoff.next_wait().as_secs_f64();
            assert!((expected * 0.75..=expected * 1.25).contains(&wait), "{wait} is not about {expected}");
        }
    }

    #[test]
    fn without_randomization_the_waits_are_exact() {
        let config = RetryConfig { randomization_factor: 0.0, ..config() };
        let mut backoff = Backoff::new(config);
        assert_eq!([backoff.next_wait(), backoff.next_wait()].map(|wait| wait.as_millis()), [1000, 2000]);
    }

    #[test]
    fn no_longest_wait_is_no_overflow() {
        let max_interval = GoDuration(Duration::ZERO);
        let config = RetryConfig { max_interval, multiplier: 1e9, randomization_factor: 0.0, ..config() };
        let mut backoff = Backoff::new(config);
        assert_eq!(backoff.next_wait(), Duration::from_secs(1));
        assert!((0..100).map(|_| backoff.next_wait()).all(|wait| wait > Duration::from_secs(86_400)));
    }

    #[test]
    fn a_new_configuration_holds_from_the_next_wait_on() {
        let mut backoff = Backoff::new(RetryConfig { randomization_factor: 0.0, ..config() });
        assert_eq!([backoff.next_wait(), backoff.next_wait()].map(|wait| wait.as_secs()), [1, 2]);
        let max_interval = GoDuration(Duration::from_secs(3));
        backoff.follow(RetryConfig { max_interval, enabled: false, randomization_factor: 0.0, ..config() });
        assert_eq!(backoff.next_wait(), Duration::from_secs(3));
        assert!(backoff.is_exhausted(Duration::ZERO));
    }

    #[test]
    fn giving_up() {
        let mut config = config();
        assert!(!Backoff::new(config.clone()).is_exhausted(Duration::from_secs(59)));
        assert!(Backoff::new(config.clone()).is_exhausted(Duration::from_secs(60)));
        config.max_elapsed_time = GoDuration(Duration::ZERO);
        let for_days = Duration::from_secs(1_000_000);
        assert!(!Backoff::new(config.clone()).is_exhausted(for_days), "0 never gives up");
        config.enabled = false;
        assert!(Backoff::new(config).is_exhausted(Duration::ZERO));
    }
}
