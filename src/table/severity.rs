//! OpenTelemetry's six named severities, and unspecified.

use std::str::FromStr;

use strum::{IntoStaticStr, VariantArray};

/// A severity, by its range of severity numbers (OpenTelemetry, Logs Data Model, "Field: SeverityNumber"); in snake case it is
/// the label `severity` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Severity {
    /// 0, or a number outside 1 to 24.
    Unspecified,
    /// 1 to 4.
    Trace,
    /// 5 to 8.
    Debug,
    /// 9 to 12.
    Info,
    /// 13 to 16.
    Warn,
    /// 17 to 20.
    Error,
    /// 21 to 24.
    Fatal,
}

/// A number of records for each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeverityCounts([usize; Severity::VARIANTS.len()]);

impl Severity {
    /// The severity to which `number` belongs.
    pub fn from_number(number: i32) -> Self {
        match number {
            1..=24 => Self::VARIANTS[1 + (number as usize - 1) / 4],
            _ => Self::Unspecified,
        }
    }

    /// Its name in the view; `None` if unspecified.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Unspecified => None,
            Self::Trace => Some("TRACE"),
            Self::Debug => Some("DEBUG"),
            Self::Info => Some("INFO"),
            Self::Warn => Some("WARN"),
            Self::Error => Some("ERROR"),
            Self::Fatal => Some("FATAL"),
        }
    }

    /// The first of its numbers; `None` if unspecified.
    pub fn lowest_number(self) -> Option<i16> {
        let index = self as i16;
        (index > 0).then_some(index * 4 - 3)
    }
}

/// The text is no severity.
#[derive(Debug, thiserror::Error)]
#[error("one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL")]
pub struct SeverityError;

impl FromStr for Severity {
    type Err = SeverityError;

    /// Reads a name in any case, WARNING and CRITICAL included.
    fn from_str(text: &str) -> Result<Self, SeverityError> {
        let name = match text.to_ascii_uppercase() {
            name if name == "WARNING" => "WARN".to_owned(),
            name if name == "CRITICAL" => "FATAL".to_owned(),
            name => name,
        };
        Self::VARIANTS.iter().copied().find(|severity| severity.name() == Some(&*name)).ok_or(SeverityError)
    }
}

impl SeverityCounts {
    /// Counts `records` more of `severity`.
    pub fn add(&mut self, severity: Severity, records: usize) {
        self.0[severity as usize] += records;
    }

    /// Each severity with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Severity, usize)> + '_ {
        Severity::VARIANTS.iter().copied().zip(self.0)
    }

    /// The number of all severities together.
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

impl std::ops::AddAssign for SeverityCounts {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

impl FromIterator<Severity> for SeverityCounts {
    fn from_iter<I: IntoIterator<Item = Severity>>(severities: I) -> Self {
        let mut counts = Self::default();
        severities.into_iter().for_each(|severity| counts.add(severity, 1));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_into_their_ranges() {
        let ends = [(1, "trace"), (4, "trace"), (5, "debug"), (9, "info"), (12, "info"), (13, "warn")];
        for (number, label) in ends {
            assert_eq!(<&str>::from(Severity::from_number(number)), label, "{number}");
        }
        for (number, label) in
            [(17, "error"), (21, "fatal"), (24, "fatal"), (0, "unspecified"), (25, "unspecified")]
        {
            assert_eq!(<&str>::from(Severity::from_number(number)), label, "{number}");
        }
        assert_eq!(Severity::from_number(i32::MIN), Severity::Unspecified);
    }

    #[test]
    fn names_are_read_in_any_case() {
        let read = |text: &str| text.parse::<Severity>().ok().and_then(Severity::lowest_number);
        let names =
            ["trace", "Debug", "INFO", "warn", "error", "FATAL", "warning", "critical", "loud", "17", ""];
        let numbers = [1, 5, 9, 13, 17, 21, 13, 21].map(Some);
        assert_eq!(names.map(read), [&numbers[..], &[None; 3]].concat()[..]);
        assert_eq!(Severity::Unspecified.lowest_number(), None);
    }
}
