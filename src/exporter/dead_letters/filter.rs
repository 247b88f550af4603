//! Which dead letters are meant.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio_postgres::types::ToSql;

use crate::duration::GoDuration;

/// Which dead letters are meant: those for which everything holds that is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The ones with these ids; all where there are none.
    pub ids: Vec<i64>,
    /// The ones with this SQLSTATE.
    pub sqlstate: Option<String>,
    /// The ones of this service.
    pub service: Option<String>,
    /// The ones refused since then.
    pub since: Option<Since>,
}

/// The beginning of a span of time that ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before now, by the clock of the server, which also wrote the times.
    Ago(Duration),
    /// A point in time.
    Time(Timestamp),
}

/// What does not say since when.
#[derive(Debug, thiserror::Error)]
#[error("a span such as 90m or 24h, a date such as 2026-11-25 (UTC), or a time such as 2026-11-25T12:00:00Z")]
pub struct SinceError;

/// The filter as values of parameters.
pub(super) struct Parameters {
    ids: Option<Vec<i64>>,
    sqlstate: Option<String>,
    service: Option<String>,
    time: Option<SystemTime>,
    seconds: Option<f64>,
}

/// The condition on `dead_letters`, with the five parameters of [`Parameters::all`].
pub(super) const CONDITION: &str = "($1::bigint[] IS NULL OR id = ANY ($1)) \
     AND ($2::text IS NULL OR sqlstate = $2) AND ($3::text IS NULL OR service = $3) \
     AND ($4::timestamptz IS NULL OR at >= $4) \
     AND ($5::double precision IS NULL OR at >= now() - $5 * interval '1 second')";

impl Filter {
    pub(super) fn parameters(&self) -> Parameters {
        let (time, seconds) = match self.since {
            None => (None, None),
            Some(Since::Time(time)) => (Some(time.into()), None),
            Some(Since::Ago(ago)) => (None, Some(ago.as_secs_f64())),
        };
        Parameters {
            ids: (!self.ids.is_empty()).then(|| self.ids.clone()),
            sqlstate: self.sqlstate.clone(),
            service: self.service.clone(),
            time,
            seconds,
        }
    }
}

impl Parameters {
    pub(super) fn all(&self) -> [&(dyn ToSql + Sync); 5] {
        [&self.ids, &self.sqlstate, &self.service, &self.time, &self.seconds]
    }
}

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        if let Some(GoDuration(ago)) = GoDuration::parse(text) {
            return Ok(Self::Ago(ago));
        }
        let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|time| time.timestamp());
        text.parse().or_else(|_| text.parse().and_then(midnight)).map(Self::Time).map_err(|_| SinceError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_a_date_or_a_time() {
        let read = |text: &str| text.parse::<Since>().ok();
        assert_eq!(read("90m"), Some(Since::Ago(Duration::from_secs(5400))));
        let time = |text: &str| Some(Since::Time(text.parse().unwrap()));
        assert_eq!(read("2026-11-25"), time("2026-11-25T00:00:00Z"));
        assert_eq!(read("2026-11-25T12:30:00+02:00"), time("2026-11-25T10:30:00Z"));
        for text in ["", "yesterday", "5", "2026-13-01", "-1h"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
