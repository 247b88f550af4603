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
