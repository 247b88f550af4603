//! Durations as the Collector's YAML writes them: Go's syntax, `300ms`, `1.5s`, `1m30s`, and days and weeks as well.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::scalar::{self, Scalar, Words};

const EXPECTED: &str = "a duration with its unit (ns, us, ms, s, m, h, d, w), such as 200ms, 1m30s or 30d";

/// A [`Duration`] that is read from Go's syntax: numbers with the units `ns`, `us`, `ms`, `s`, `m`, `h`,
/// and `d` (24 hours) and `w` (7 days), which Go does not have. Spaces may separate them.
///
/// A number without a unit is refused: the Collector would read it as nanoseconds, which nobody means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl Scalar for GoDuration {
    fn expected() -> Words {
        EXPECTED.into()
    }

    /// Fractions of a nanosecond are cut off; a value that would become 0 is refused.
    fn parse(text: &str) -> Result<Self, Words> {
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest
            .strip_prefix('-')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        {
            return Err("a duration of 0 or more, such as 10s".into());
        }
        let mut total = Some(0u128);
        loop {
            let (number, tail) = split(rest, |c| !c.is_ascii_digit() && c != '.');
            let (unit, tail) = split(tail.trim_start(), |c| !c.is_alphabetic());
            let nanos = nanos(number, unit_nanos(unit).ok_or(EXPECTED)?).ok_or(EXPECTED)?;
            total = total.and_then(|total| total.checked_add(nanos?));
            rest = tail.trim_start();
            if rest.is_empty() {
                break;
            }
        }
        let nanos =
            total.and_then(|nanos| i64::try_from(nanos).ok()).ok_or("a duration of at most 106751d")?;
        if nanos == 0 && text.contains(|c| matches!(c, '1'..='9')) {
            return Err("a duration of 1ns or more, or 0".into());
        }
        Ok(Self(Duration::from_nanos(nanos as u64)))
    }
}

/// Splits `text` at the first character that `ends` it.
fn split(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "w" => 604_800_000_000_000,
        _ => return None,
    })
}

/// A decimal number of units in nanoseconds: `None` if it is not a number, `Some(None)` if it is too large.
fn nanos(number: &str, unit: u128) -> Option<Option<u128>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    // Fifteen digits are below a nanosecond of any unit.
    let digits = fraction.bytes().map(|digit| u128::from(digit - b'0')).chain(std::iter::repeat(0)).take(15);
    let fraction = digits.fold(0, |number, digit| number * 10 + digit) * unit / 1_000_000_000_000_000;
    let whole = if whole.is_empty() { Some(0) } else { whole.parse::<u128>().ok() };
    Some(whole.and_then(|whole| whole.checked_mul(unit)?.checked_add(fraction)))
}

/// In the largest unit that needs no more than a decimal point: `200ms`, `1.5s`, `90s`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]
            .into_iter()
            .find(|(unit, _)| nanos >= *unit)
            .unwrap_or((1, if nanos == 0 { "s" } else { "ns" }));
        let fraction = format!("{:09}", nanos % unit * (1_000_000_000 / unit));
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{}{point}{fraction}{name}", nanos / unit)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::read(deserializer, None)
    }
}

/// Defines (de)serializers for keys where a number alone has its own unit.
macro_rules! bare {
    ($name:ident, $unit:literal, $nanos:literal) => {
        #[doc = concat!("Keys where a number alone is one of ", stringify!($name), ".")]
        pub mod $name {
            use super::{Deserializer, GoDuration, Serialize, Serializer, scalar};

            /// Writes it as a number where it is a whole one.
            pub fn serialize<S: Serializer>(span: &GoDuration, serializer: S) -> Result<S::Ok, S::Error> {
                let nanos = span.0.as_nanos();
                match u64::try_from(nanos / $nanos) {
                    Ok(whole) if nanos.is_multiple_of($nanos) => serializer.serialize_u64(whole),
                    _ => span.serialize(serializer),
                }
            }

            /// Reads a number, or a duration.
            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GoDuration, D::Error> {
                scalar::read(deserializer, Some(($unit, stringify!($name))))
            }
        }
    };
}

bare!(milliseconds, "ms", 1_000_000);
bare!(seconds, "s", 1_000_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let read = |text| GoDuration::parse(text).ok().map(|d| d.0);
        assert_eq!(read("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(read("1.0s"), Some(Duration::from_secs(1)));
        assert_eq!(read("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(read("0.2s"), Some(Duration::from_millis(200)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(read("30d"), Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(read("2w1d12h"), Some(Duration::from_secs(15 * 86_400 + 43_200)));
        assert_eq!(read("0.5d"), Some(Duration::from_secs(43_200)));
        assert_eq!(read("106751d"), Some(Duration::from_secs(106_751 * 86_400)));
        assert_eq!(read("106752d"), None);
        assert_eq!(read("7ns"), Some(Duration::from_nanos(7)));
        assert_eq!(read(".5m1.s"), Some(Duration::from_secs(31)));
        assert_eq!(read("9223372036.854775807s"), Some(Duration::from_nanos(i64::MAX as u64)));
        assert_eq!(read("9223372036.854775808s"), None);
        assert_eq!(read("99999999999999999999999s"), None);
        assert_eq!(read(" 30 d "), read("30d"));
        assert_eq!(read("1 h 30 m"), read("90m"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5us"),
            (200_000_000, "200ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "90s"),
            (1_000_000_001, "1.000000001s"),
            (3_600_000_001_000, "3600.000001s"),
            (i64::MAX as u64, "9223372036.854775807s"),
        ] {
            let duration = GoDuration(Duration::from_nanos(nanos));
            assert_eq!(duration.to_string(), text);
            assert_eq!(GoDuration::parse(text), Ok(duration));
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        let all = "|1|10|s|.s|1sec|1.2.3s|1mo|1y|one second|30 days|1h-5m|1,5s|-|5S";
        for text in all.split('|') {
            assert_eq!(GoDuration::parse(text), Err(GoDuration::expected()), "{text:?}");
        }
        for (text, expected) in [
            ("-1s", "a duration of 0 or more, such as 10s"),
            ("-.5h", "a duration of 0 or more, such as 10s"),
            ("999999999h", "a duration of at most 106751d"),
            ("9223372036854775807w9223372036854775807w", "a duration of at most 106751d"),
            ("1000000000000000000000000000000000000000000w", "a duration of at most 106751d"),
            ("0.1ns", "a duration of 1ns or more, or 0"),
        ] {
            assert_eq!(GoDuration::parse(text), Err(expected.into()), "{text}");
        }
    }
}
