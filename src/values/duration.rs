//! Durations as the Collector's YAML writes them: Go's syntax, `300ms`, `1.5s`, `1m30s`, and days and weeks as well.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// What a duration in the configuration may look like, for error messages.
pub const EXPECTED: &str = "a duration with its unit, such as 200ms, 1m30s or 30d";

/// A [`Duration`] that is read from Go's syntax: numbers with the units `ns`, `us`, `ms`, `s`, `m`, `h`,
/// and `d` (24 hours) and `w` (7 days), which Go does not have and everybody writes.
///
/// A number without a unit is refused: the Collector would read it as nanoseconds, which nobody means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Reads `text`; `None` where it is not a non-negative Go duration or does not fit. What is less than a nanosecond
    /// is left out.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self(Duration::ZERO));
        }
        let mut rest = text;
        let mut total = 0u128;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(number);
            let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            total += nanos(number, unit_nanos(unit)?)?;
            rest = tail;
        }
        let nanos = u64::try_from(total).ok().filter(|nanos| i64::try_from(*nanos).is_ok())?;
        Some(Self(Duration::from_nanos(nanos)))
    }
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

/// A decimal number of units.
fn nanos(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || whole.len() > 20 || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Fifteen digits are below a nanosecond of any unit.
    let digits = fraction.bytes().map(|digit| u128::from(digit - b'0')).chain(std::iter::repeat(0)).take(15);
    let fraction = digits.fold(0, |number, digit| number * 10 + digit);
    Some(whole * unit + fraction * unit / 1_000_000_000_000_000)
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
        struct GoVisitor;
        impl Visitor<'_> for GoVisitor {
            type Value = GoDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GoDuration, E> {
                GoDuration::parse(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<GoDuration, E> {
                if number == 0 {
                    Ok(GoDuration(Duration::ZERO))
                } else {
                    Err(E::invalid_value(Unexpected::Unsigned(number), &self))
                }
            }
        }
        deserializer.deserialize_any(GoVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let read = |text| GoDuration::parse(text).map(|d| d.0);
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
            assert_eq!(GoDuration::parse(text), Some(duration));
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in [
            "",
            "1",
            "10",
            "s",
            ".s",
            "1 s",
            "1sec",
            "-1s",
            "1.2.3s",
            "1mo",
            "1y",
            "999999999h",
            "one second",
        ] {
            assert_eq!(GoDuration::parse(text), None, "{text:?}");
        }
    }
}
