//! Whole numbers of percent, with or without their sign.

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::scalar::{self, Scalar, Words};

/// A whole number of percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u32);

impl Scalar for Percent {
    fn expected() -> Words {
        "a whole number of percent, such as 80".into()
    }

    fn parse(text: &str) -> Result<Self, Words> {
        let number = text.trim().trim_end_matches('%').trim_end();
        number.parse().map(Self).map_err(|_| Self::expected())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::read(deserializer, None)
    }
}

/// Reads the number of a key that has `percentage` in its name.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Percent::deserialize(deserializer).map(|Percent(number)| number)
}
