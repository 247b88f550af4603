//! The limiter's part of the YAML: `processors.memory_limiter`, with the Collector's keys and meanings.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

use super::Limits;
use crate::values::duration::GoDuration;

/// `processors.memory_limiter`. A limit of 0 is not set.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The time between two looks at what the process takes.
    pub check_interval: GoDuration,
    /// The most that the process should take, in MiB. It goes before `limit_percentage`.
    pub limit_mib: u32,
    /// Requests are refused from this much below the limit on; 0 is a fifth of it.
    pub spike_limit_mib: u32,
    /// The most that the process should take, in percent of what it may have.
    #[serde(deserialize_with = "percent")]
    pub limit_percentage: u32,
    /// `spike_limit_mib` in percent of what the process may have; 0 is a fifth of the limit.
    #[serde(deserialize_with = "percent")]
    pub spike_limit_percentage: u32,
}

/// A number of hundredths, with or without its sign.
fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Percent;
    impl Visitor<'_> for Percent {
        type Value = u32;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number of percent, such as 80")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
            let number = text.trim().trim_end_matches('%').trim_end();
            number.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
        fn visit_u64<E: Error>(self, number: u64) -> Result<u32, E> {
            number.try_into().map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }
    deserializer.deserialize_any(Percent)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            check_interval: GoDuration(Duration::from_secs(1)),
            limit_mib: 0,
            spike_limit_mib: 0,
            limit_percentage: 0,
            spike_limit_percentage: 0,
        }
    }
}

impl Config {
    /// The limits in bytes, where the process may have `total` bytes.
    pub(super) fn limits(&self, total: u64) -> Limits {
        let mib = |mib: u32| u64::from(mib) << 20;
        let percent = |share: u32| total / 100 * u64::from(share);
        let (hard, spike) = match self.limit_mib {
            0 => (percent(self.limit_percentage), percent(self.spike_limit_percentage)),
            limit => (mib(limit), mib(self.spike_limit_mib)),
        };
        let spike = if spike == 0 { hard / 5 } else { spike };
        Limits { interval: self.check_interval.0, soft: hard.saturating_sub(spike), hard }
    }
}
