//! The limiter's part of the YAML: `processors.memory_limiter`, with the Collector's keys and meanings.

use serde::{Deserialize, Serialize};

use super::Limits;
use crate::values::duration::GoDuration;
use crate::values::percent;
use crate::values::size::{self, ByteSize};

/// `processors.memory_limiter`. A limit of 0 is not set.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The time between two measurements of the process's memory.
    pub check_interval: GoDuration,
    /// The most memory that the process should use. It takes precedence over `limit_percentage`.
    #[serde(rename = "limit_mib", with = "size::mib")]
    pub limit: ByteSize,
    /// Requests are refused above the limit minus this; 0 is a fifth of the limit.
    #[serde(rename = "spike_limit_mib", with = "size::mib")]
    pub spike_limit: ByteSize,
    /// The most memory that the process should use, in percent of the memory available to it.
    #[serde(deserialize_with = "percent::number")]
    pub limit_percentage: u32,
    /// `spike_limit` in percent of the memory available to the process; 0 is a fifth of the limit.
    #[serde(deserialize_with = "percent::number")]
    pub spike_limit_percentage: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            check_interval: GoDuration::seconds(1),
            limit: ByteSize::default(),
            spike_limit: ByteSize::default(),
            limit_percentage: 0,
            spike_limit_percentage: 0,
        }
    }
}

impl Config {
    /// The limits in bytes, if `total` bytes are available to the process.
    pub(super) fn limits(&self, total: u64) -> Limits {
        let percent = |share: u32| total / 100 * u64::from(share);
        let (hard, spike) = match self.limit.0 {
            0 => (percent(self.limit_percentage), percent(self.spike_limit_percentage)),
            limit => (limit, self.spike_limit.0),
        };
        let spike = if spike == 0 { hard / 5 } else { spike };
        Limits { interval: self.check_interval.0, soft: hard.saturating_sub(spike), hard }
    }
}
