//! Sizes as people write them: `50GiB`, `512MiB`, or a number of bytes.

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::scalar::{self, Scalar, Words};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const EXPECTED: &str = "a size such as 50GiB or 512MiB (KiB, MiB, GiB, TiB; KB, MB, GB, TB are of 1000)";

/// Units that are shown; those of 1000 are only read.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", MIB), ("KiB", 1 << 10)];

const MIB: u64 = 1 << 20;

impl ByteSize {
    /// So many MiB.
    pub const fn mib(mib: u64) -> Self {
        Self(mib * MIB)
    }

    /// The number of bytes, for what lies in memory.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The number of MiB, with a fraction where there is one.
    pub fn in_mib(self) -> f64 {
        self.0 as f64 / MIB as f64
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

impl Scalar for ByteSize {
    fn expected() -> Words {
        EXPECTED.into()
    }

    /// Fractions of a byte are cut off, except in a bare number of bytes; a value that would become 0 is refused.
    fn parse(text: &str) -> Result<Self, Words> {
        let text = text.trim();
        if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            return Err("a size of 0 or more, such as 512MiB".into());
        }
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit_bytes(unit.trim_start()).ok_or(EXPECTED)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_decimal = ![whole, fraction].iter().any(|part| part.is_empty() || part.contains('.'));
        // Nine digits are a byte of a TiB.
        if !is_decimal || fraction.len() > 9 {
            return Err(EXPECTED.into());
        }
        let too_large = || Words::from("a size below 8388608TiB");
        let scale = 10u128.pow(fraction.len() as u32);
        let whole = whole.parse::<u64>().map_err(|_| too_large())?;
        let number = u128::from(whole) * scale + fraction.parse::<u128>().unwrap_or_default();
        let bytes = number * u128::from(unit) / scale;
        if (bytes == 0 && number > 0) || (unit == 1 && !number.is_multiple_of(scale)) {
            return Err("a whole number of bytes".into());
        }
        i64::try_from(bytes).map_err(|_| too_large()).map(|bytes| Self(bytes as u64))
    }
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
        scalar::read(deserializer, Some(("B", "bytes")))
    }
}

/// Keys with MiB in their names, where a number alone is one of MiB, as in the Collector.
pub mod mib {
    use super::{ByteSize, Deserializer, MIB, Serializer, scalar};

    /// Writes whole MiB as a number.
    pub fn serialize<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
        match size.unit() {
            _ if size.0.is_multiple_of(MIB) => serializer.serialize_u64(size.0 / MIB),
            Some(_) => serializer.collect_str(size),
            None => serializer.collect_str(&format_args!("{size}B")),
        }
    }

    /// Reads a number of MiB, or a size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        scalar::read(deserializer, Some(("MiB", "MiB")))
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
            (" 64mb ", 64_000_000, "62500KiB"),
            ("4.0", 4, "4"),
        ] {
            let size = ByteSize::parse(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
            assert_eq!(ByteSize::parse(shown), Ok(size));
        }
        assert_eq!(ByteSize(220_512_256).rounded(), "210.3 MiB");
        assert_eq!(ByteSize(1000).rounded(), "1000 B");
        for (text, expected) in [
            ("", EXPECTED),
            ("GiB", EXPECTED),
            ("1.5.1GiB", EXPECTED),
            (".GiB", EXPECTED),
            ("50GiBs", EXPECTED),
            ("50i", EXPECTED),
            ("50PB", EXPECTED),
            ("10,000", EXPECTED),
            ("-1", "a size of 0 or more, such as 512MiB"),
            ("-1.5GiB", "a size of 0 or more, such as 512MiB"),
            ("9999999999TiB", "a size below 8388608TiB"),
            ("9223372036854775808", "a size below 8388608TiB"),
            ("99999999999999999999999999999999999999999999", "a size below 8388608TiB"),
            ("1.5", "a whole number of bytes"),
            ("0.0001KiB", "a whole number of bytes"),
        ] {
            assert_eq!(ByteSize::parse(text), Err(expected.into()), "{text}");
        }
    }
}
