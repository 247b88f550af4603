//! Sizes as people write them: `50GiB`, `512MiB`, or a number of bytes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteSize(pub u64);

const EXPECTED: &str =
    "a size such as 50GiB or 512MiB (KiB, MiB, GiB, TiB; KB, MB, GB, TB are of 1000), or a number of bytes";

/// Units that are shown; those of 1000 are only read.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl ByteSize {
    /// Reads `text`; `None` where it is no size, or does not fit.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = u128::from(unit_bytes(unit.trim_start())?);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        // Nine digits are a byte of a TiB.
        let is_short = whole.len() <= 19 && (1..=9).contains(&fraction.len());
        let scale = 10u128.pow(u32::try_from(fraction.len()).ok().filter(|_| is_short)?);
        let number = whole.parse::<u128>().ok()? * scale + fraction.parse::<u128>().ok()?;
        u64::try_from(number * unit / scale).ok().filter(|bytes| i64::try_from(*bytes).is_ok()).map(Self)
    }

    /// As people read it: `210.3 MiB`.
    pub fn rounded(self) -> String {
        match UNITS.into_iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) => format!("{:.1} {name}", self.0 as f64 / unit as f64),
            None => format!("{} B", self.0),
        }
    }

    /// The largest unit of which it is a whole number.
    fn unit(self) -> Option<(&'static str, u64)> {
        UNITS.into_iter().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit))
    }
}

/// The bytes of a unit: `MiB` and Kubernetes' `Mi` are of 1024, `MB` and `M` of 1000, in whatever case.
fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, thousand) = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => return Some(1),
        prefix => prefix.strip_suffix('i').map_or((prefix, 1000), |prefix| (prefix, 1024)),
    };
    let power = ["k", "m", "g", "t"].iter().position(|known| *known == prefix)?;
    Some(u64::pow(thousand, power as u32 + 1))
}

/// Reads a number of bytes that may be written as a size.
pub fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let ByteSize(bytes) = ByteSize::deserialize(deserializer)?;
    usize::try_from(bytes).map_err(serde::de::Error::custom)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit() {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.unit() {
            Some(_) => serializer.collect_str(self),
            None => serializer.serialize_u64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                ByteSize::parse(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ByteSize, E> {
                let fits = i64::try_from(number).is_ok();
                fits.then_some(ByteSize(number))
                    .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("1000", 1000, "1000"),
            ("50GiB", 50 << 30, "50GiB"),
            ("50 GiB", 50 << 30, "50GiB"),
            ("2048KiB", 2 << 20, "2MiB"),
            ("1536MiB", 1536 << 20, "1536MiB"),
            ("3TiB", 3 << 40, "3TiB"),
            ("64Mi", 64 << 20, "64MiB"),
            ("50gib", 50 << 30, "50GiB"),
            ("1.5GiB", 1536 << 20, "1536MiB"),
            ("1GB", 1_000_000_000, "1000000000"),
            ("1.5 kB", 1500, "1500"),
            ("2M", 2_000_000, "2000000"),
            ("512B", 512, "512"),
        ] {
            let size = ByteSize::parse(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
            assert_eq!(ByteSize::parse(shown), Some(size));
        }
        assert_eq!(ByteSize(220_512_256).rounded(), "210.3 MiB");
        assert_eq!(ByteSize(1000).rounded(), "1000 B");
        for text in [
            "",
            "GiB",
            "-1",
            "1.5.1GiB",
            ".GiB",
            "50GiBs",
            "50i",
            "50PB",
            "1e9",
            "9999999999TiB",
            "9223372036854775808",
        ] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
    }
}
