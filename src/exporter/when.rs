//! Points in time as people write them on the command line.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::duration::GoDuration;

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long before now, by the clock of the server, which also wrote the times.
    Ago(Duration),
    /// A point in time.
    Time(Timestamp),
}

/// What does not say when.
#[derive(Debug, thiserror::Error)]
#[error("a span such as 90m or 24h, a date such as 2026-11-25 (UTC), or a time such as 2026-11-25T12:00:00Z")]
pub struct WhenError;

impl When {
    /// The point in time, where it is `now`.
    pub(super) fn at(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::Time(time) => time.into(),
        }
    }
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, WhenError> {
        if let Some(GoDuration(ago)) = GoDuration::parse(text) {
            return Ok(Self::Ago(ago));
        }
        let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|time| time.timestamp());
        text.parse().or_else(|_| text.parse().and_then(midnight)).map(Self::Time).map_err(|_| WhenError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_span_a_date_or_a_time() {
        let read = |text: &str| text.parse::<When>().ok();
        assert_eq!(read("90m"), Some(When::Ago(Duration::from_secs(5400))));
        let time = |text: &str| Some(When::Time(text.parse().unwrap()));
        assert_eq!(read("2026-11-25"), time("2026-11-25T00:00:00Z"));
        assert_eq!(read("2026-11-25T12:30:00+02:00"), time("2026-11-25T10:30:00Z"));
        for text in ["", "yesterday", "5", "2026-13-01", "-1h"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
