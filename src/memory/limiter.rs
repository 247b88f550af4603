//! Measures the process's memory regularly, and sets a flag for the receiver and the state of health.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Limits;
use super::allowance::Allowance;
use super::config::Config;
use super::total::total_bytes;
use crate::telemetry::{Health, resident_bytes};

/// The memory limiter.
#[derive(Debug)]
pub struct Limiter {
    limits: Mutex<Limits>,
    refusing: Arc<AtomicBool>,
    allowance: Arc<Allowance>,
    health: Health,
}

/// The limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// The soft limit: requests are refused.
    Soft,
    /// The hard limit as well, by so many bytes.
    Hard(u64),
}

impl Limiter {
    /// A limiter with the limits of `config`. It reports to `health`.
    pub fn new(config: &Config, health: Health) -> Self {
        let refusing = Arc::new(AtomicBool::new(false));
        Self { limits: Mutex::new(limits(config)), refusing, allowance: Arc::default(), health }
    }

    /// The flag that is set while requests are to be refused.
    pub fn refusing(&self) -> Arc<AtomicBool> {
        self.refusing.clone()
    }

    /// The memory that requests and buffer may use until the next measurement.
    pub fn allowance(&self) -> Arc<Allowance> {
        self.allowance.clone()
    }

    /// Uses the limits of `config` from the next measurement on.
    pub fn limit(&self, config: &Config) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits(config);
    }

    /// The hard limit, in bytes.
    pub fn most(&self) -> u64 {
        self.limits().hard
    }

    /// Measures for as long as it is polled, and calls `relieve` while a limit is exceeded. `counted` returns the bytes of
    /// requests and buffer.
    pub async fn run(&self, counted: impl Fn() -> u64, relieve: impl Fn(Pressure)) {
        loop {
            // A system that does not report the resident set has no limit either.
            if let Some(pressure) = self.look(resident_bytes().unwrap_or(0), counted()) {
                relieve(pressure);
            }
            tokio::time::sleep(self.limits().interval).await;
        }
    }

    /// Evaluates a measurement: the process uses `bytes`, of which `counted` belong to requests and buffer.
    fn look(&self, bytes: u64, counted: u64) -> Option<Pressure> {
        let Limits { soft, hard, .. } = self.limits();
        self.allowance.renew(soft, bytes, counted);
        let above = bytes > soft;
        self.refusing.store(above, Ordering::Relaxed);
        let mib = |bytes: u64| bytes >> 20;
        let detail = || format!("{} MiB resident, above the soft limit of {} MiB", mib(bytes), mib(soft));
        self.health.memory(above.then(detail));
        match bytes.checked_sub(hard) {
            Some(over @ 1..) => Some(Pressure::Hard(over)),
            _ => above.then_some(Pressure::Soft),
        }
    }

    fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limits(config: &Config) -> Limits {
    config.limits(total_bytes().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::size::ByteSize;

    const MIB: u64 = 1 << 20;

    fn in_mib(config: &Config) -> (u64, u64) {
        let Limits { soft, hard, .. } = config.limits(1000 * MIB);
        (soft / MIB, hard / MIB)
    }

    #[test]
    fn limits_are_the_collectors() {
        let mib = Config { limit: ByteSize::mib(4000), spike_limit: ByteSize::mib(800), ..Config::default() };
        assert_eq!(in_mib(&mib), (3200, 4000));
        let percent = Config { limit_percentage: 80, spike_limit_percentage: 15, ..Config::default() };
        assert_eq!(in_mib(&percent), (650, 800));
        assert_eq!(
            in_mib(&Config { limit: ByteSize::mib(500), ..percent }),
            (400, 500),
            "MiB go first, and a fifth is the default"
        );
        assert_eq!(in_mib(&Config { limit_percentage: 50, ..Config::default() }), (400, 500));
    }

    #[test]
    fn requests_are_refused_between_the_limits_and_above() {
        let health = Health::new();
        health.store_ready();
        let config = Config { limit: ByteSize::mib(100), ..Config::default() };
        let limiter = Limiter::new(&config, health.clone());
        let refusing = limiter.refusing();
        let look = |mib: u64| {
            let pressure = limiter.look(mib * MIB, 0);
            assert_eq!(refusing.load(Ordering::Relaxed), pressure.is_some());
            assert_eq!(health.report().ready(), pressure.is_none(), "health says so");
            pressure
        };
        assert_eq!(look(80), None);
        assert_eq!(look(81), Some(Pressure::Soft));
        assert_eq!(look(100), Some(Pressure::Soft));
        assert_eq!(look(103), Some(Pressure::Hard(3 * MIB)));
        assert_eq!(look(80), None, "and no longer");
        limiter.limit(&Config { limit: ByteSize::mib(50), ..config });
        assert_eq!(look(45), Some(Pressure::Soft), "by the new limit");
    }
}
