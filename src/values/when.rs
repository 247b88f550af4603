//! Points in time: now, and as people write them on the command line.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::values::duration::GoDuration;
use crate::values::scalar::Scalar as _;

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This long before now, by the server's clock, which also set the stored times.
    Ago(Duration),
    /// A point in time.
    Time(Timestamp),
}

/// A point in time as it was written: complete, or what a clock shows, which takes a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It needs no time zone.
    When(When),
    /// A date, or date and time, without an offset.
    Clock(DateTime),
}

/// A text that is not a point in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "allowed are a span before now such as 90m or 24h; 2026-11-25, 2026-11-25 17:05 or 2026-11-25 17:05:09.5, with a T instead \
     of the space or not; and these with an offset, such as 2026-11-25T17:05:09Z or 2026-11-25 17:05+01:00"
)]
pub struct WhenError;

/// Now, in nanoseconds since 1970.
pub fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl When {
    /// The point in time, if it is `now`.
    pub fn at(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::Time(time) => time.into(),
        }
    }
}

impl Written {
    /// The point in time, by the clocks of `zone`. A time that clocks skip is shifted by the length of the gap, and of a time that
    /// they show twice the first is meant.
    pub fn within(self, zone: &TimeZone) -> When {
        match self {
            Self::When(when) => when,
            // Only the last hours of the year 9999 are out of range.
            Self::Clock(clock) => {
                When::Time(zone.to_ambiguous_timestamp(clock).compatible().unwrap_or(Timestamp::MAX))
            }
        }
    }
}

impl FromStr for Written {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, WhenError> {
        if let Ok(GoDuration(ago)) = GoDuration::parse(text) {
            return Ok(Self::When(When::Ago(ago)));
        }
        // jiff ignores parts that it does not need, such as the time after a date, so the form is checked first.
        match form(text).ok_or(WhenError)? {
            Form::Clock => text.parse().map(Self::Clock),
            Form::Offset => text.parse().map(|time| Self::When(When::Time(time))),
        }
        .map_err(|_| WhenError)
    }
}

/// The form of a date or time.
enum Form {
    /// Without an offset.
    Clock,
    /// With an offset from UTC.
    Offset,
}

/// The form of the whole `text`; `None` if it has none of them.
fn form(text: &str) -> Option<Form> {
    let Some((date, rest)) = text.split_once(['T', 't', ' ']) else {
        return is_like(text, "0000-00-00").then_some(Form::Clock);
    };
    let (time, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, digits)| (time, Some(digits)));
    let has_fraction = |digits: &str| {
        time.len() > 5 && (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let is_time = is_like(date, "0000-00-00")
        && (is_like(time, "00:00") || is_like(time, "00:00:00"))
        && fraction.is_none_or(has_fraction)
        // A second that clocks hardly ever have would become the one before.
        && !time.ends_with(":60");
    match offset {
        _ if !is_time => None,
        "" => Some(Form::Clock),
        "Z" | "z" => Some(Form::Offset),
        signed => {
            ["00", "0000", "00:00"].iter().any(|form| is_like(&signed[1..], form)).then_some(Form::Offset)
        }
    }
}

/// Whether `text` has a digit where `form` has a 0, and else the same.
fn is_like(text: &str, form: &str) -> bool {
    let fits = |(byte, like): (u8, u8)| if like == b'0' { byte.is_ascii_digit() } else { byte == like };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use jiff::tz;
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Option<When> {
        Some(When::Time(text.parse().unwrap()))
    }

    fn read(text: &str, zone: &TimeZone) -> Option<When> {
        text.parse::<Written>().ok().map(|written| written.within(zone))
    }

    #[test]
    fn it_is_a_span_a_date_or_a_time() {
        let kathmandu = TimeZone::fixed(tz::Offset::from_seconds(20_700).unwrap());
        assert_eq!(read("90m", &kathmandu), Some(When::Ago(Duration::from_secs(5400))));
        for (text, expected) in [
            ("2026-11-25", "2026-11-24T18:15:00Z"),
            ("2026-11-25 17:05", "2026-11-25T11:20:00Z"),
            ("2026-11-25T17:05", "2026-11-25T11:20:00Z"),
            ("2026-11-25 17:05:09", "2026-11-25T11:20:09Z"),
            ("2026-11-25t17:05:09.123456789", "2026-11-25T11:20:09.123456789Z"),
            ("2026-11-25T17:05Z", "2026-11-25T17:05:00Z"),
            ("2026-11-25 17:05:09.5z", "2026-11-25T17:05:09.5Z"),
            ("2026-11-25T12:30:00+02:00", "2026-11-25T10:30:00Z"),
            ("2026-11-25 12:30-0330", "2026-11-25T16:00:00Z"),
            ("2026-11-25 12:30:00.25+02", "2026-11-25T10:30:00.25Z"),
        ] {
            assert_eq!(read(text, &kathmandu), time(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "yesterday",
            "5",
            "-1h",
            "2026-13-01",
            "2026-11-31",
            "2026-11-25 24:00",
            "2026-11-25 23:59:60",
            "2026-11-25 17",
            "2026-11-25 17:5",
            "2026-11-25 5:05 pm",
            "2026-11-25  17:05",
            " 2026-11-25",
            "2026-11-25 ",
            "2026-11-25T",
            "2026-11-25T17:05:",
            "2026-11-25T17:05.5",
            "2026-11-25T17:05:09.",
            "2026-11-25T17:05:09.1234567891",
            "2026-11-25Z",
            "2026-11-25T17:05:09 Z",
            "2026-11-25T17:05:09+1",
            "2026-11-25T17:05:09+01:00[Europe/Berlin]",
            "2026-11-25[Europe/Berlin]",
            "2026-11-25 17:05 CET",
            "20261125",
            "20261125T1705",
            "2026-W48-3",
            "2026-11",
            "25.11.2026",
            "2026-11-25,17:05",
            "2026-11-25 17:05h",
        ] {
            assert!(text.parse::<Written>().is_err(), "{text:?}");
        }
        assert!(WhenError.to_string().contains("24h") && WhenError.to_string().contains("2026-11-25 17:05"));
    }

    #[test]
    fn clocks_that_jump_are_followed() {
        // As in Berlin: forward at 02:00 on 29 March, back at 03:00 on 25 October.
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for (text, expected) in [
            ("2026-03-29 01:59", "2026-03-29T00:59:00Z"),
            ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            ("2026-03-29 03:00", "2026-03-29T01:00:00Z"),
            ("2026-10-25 02:30", "2026-10-25T00:30:00Z"),
            ("2026-10-25 03:00", "2026-10-25T02:00:00Z"),
            ("2026-07-01", "2026-06-30T22:00:00Z"),
            ("2026-10-25 02:30+01:00", "2026-10-25T01:30:00Z"),
        ] {
            assert_eq!(read(text, &berlin), time(expected), "{text}");
        }
        assert_eq!(
            read("9999-12-31 23:59", &TimeZone::fixed(tz::offset(-12))),
            Some(When::Time(Timestamp::MAX))
        );
    }

    proptest! {
        /// What is read is all that was written: said in the same form again, it is the same to the digit.
        #[test]
        fn nothing_is_cut(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]([Tt ][0-2][0-9]:[0-5][0-9](:[0-6][0-9](\\.[0-9]{1,10})?)?)?([Zz]|[+-][0-2][0-9](:?[0-5][0-9])?)?(\\[UTC\\]| )?"
        ) {
            match text.parse::<Written>() {
                Ok(Written::Clock(clock)) => {
                    let whole = format!("{}.{:09}", clock.strftime("%Y-%m-%dT%H:%M:%S"), clock.subsec_nanosecond());
                    let form = "0000-00-00T00:00:00.000000000";
                    prop_assert_eq!(text.replace([' ', 't'], "T") + form.get(text.len()..).unwrap(), whole);
                }
                Ok(Written::When(When::Time(time))) => {
                    let (clock, offset) = text.split_at(text.rfind(['Z', 'z', '+', '-']).unwrap());
                    let digits = |range: std::ops::Range<usize>| offset.replace(':', "").get(range).map_or(0, |digits| digits.parse::<i32>().unwrap());
                    let ahead = (digits(1..3) * 3600 + digits(3..5) * 60) * if offset.starts_with('-') { -1 } else { 1 };
                    let zone = TimeZone::fixed(tz::Offset::from_seconds(ahead).unwrap());
                    prop_assert_eq!(read(clock, &zone), Some(When::Time(time)), "{}", text);
                }
                Ok(Written::When(ago)) => prop_assert!(false, "{:?} is no span: {:?}", text, ago),
                Err(WhenError) => {}
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            let _ = text.parse::<Written>();
        }
    }
}
