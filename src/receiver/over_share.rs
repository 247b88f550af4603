//! The answer's words for records that were dropped because the shares of their senders were used.

use crate::buffer::share::Band;
use crate::table::Tally;

/// Records of a request that were dropped because the shares of their senders were used.
#[derive(Debug, Default)]
pub(super) struct OverShare {
    records: usize,
    /// How the answer says it; none without records.
    message: Option<String>,
}

impl OverShare {
    /// For the records in `shed`.
    pub(super) fn of(shed: &Tally) -> Self {
        let records = shed.total();
        Self { records, message: (records > 0).then(|| words(shed)) }
    }

    /// The number of records.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// How the answer says it.
    pub(super) fn message(&self) -> Option<String> {
        self.message.clone()
    }
}

fn words(shed: &Tally) -> String {
    let severities = shed.severities();
    let dropped = severities.iter().filter(|(_, records)| *records > 0);
    let below = match dropped.map(|(severity, _)| Band::of(severity)).max() {
        Some(Band::Debug) => " below INFO",
        Some(Band::Info) => " below WARN",
        Some(Band::Warn) => " below ERROR",
        Some(Band::Error) | None => "",
    };
    let mut services: Vec<_> =
        shed.by_service().filter(|(_, counts)| counts.total() > 0).map(|(service, _)| service).collect();
    services.sort_unstable();
    services.dedup();
    let (of, why) = match services[..] {
        [Some(service)] => (format!(" of service {service}"), "its share of the buffer is used"),
        [None] => (" without service.name".to_owned(), "their share of the buffer is used"),
        _ => (format!(" of {} services", services.len()), "their shares of the buffer are used"),
    };
    let (noun, verb) = if shed.total() == 1 { ("record", "was") } else { ("records", "were") };
    format!("{} {noun}{below}{of} {verb} dropped: {why}", shed.total())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::buffer::samples::resource_of;
    use crate::table::Severity;

    type Records<'a> = &'a [(Option<&'a str>, Severity)];

    fn message(records: Records<'_>) -> Option<String> {
        let mut shed = Tally::default();
        for (service, severity) in records {
            shed.add(Some(&Arc::new(resource_of(*service))), *severity);
        }
        let over = OverShare::of(&shed);
        assert_eq!(over.records(), records.len());
        over.message()
    }

    #[test]
    fn the_answer_names_number_severity_and_service() {
        use Severity::{Debug, Error, Info, Trace, Unspecified, Warn};
        let shop = Some("shop");
        assert_eq!(message(&[]), None);
        let cases: [(Records<'_>, &str); 5] = [
            (
                &[(shop, Warn), (shop, Debug)],
                "2 records below ERROR of service shop were dropped: its share of the buffer is used",
            ),
            (
                &[(shop, Trace)],
                "1 record below INFO of service shop was dropped: its share of the buffer is used",
            ),
            (
                &[(None, Unspecified)],
                "1 record below WARN without service.name was dropped: their share of the buffer is used",
            ),
            (
                &[(shop, Info), (Some("auth"), Error)],
                "2 records of 2 services were dropped: their shares of the buffer are used",
            ),
            (
                &[(shop, Error), (shop, Info)],
                "2 records of service shop were dropped: its share of the buffer is used",
            ),
        ];
        for (records, expected) in cases {
            assert_eq!(message(records).as_deref(), Some(expected));
        }
    }
}
