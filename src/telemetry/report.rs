//! The contents of the health page.

use std::fmt::{self, Display};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use strum::{IntoStaticStr, VariantArray};

/// Why forebay is not ready. The health page has it in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum UnreadyReason {
    /// It has not reached the store yet.
    Starting,
    /// The store accepts no rows.
    #[strum(transparent)]
    Store(StoreTrouble),
    /// Memory use is above its limit, and requests are refused.
    MemoryLimit,
    /// The disk of the durable queue accepts no records, and requests are refused.
    Disk,
    /// It is shutting down.
    Draining,
}

/// Why the store accepts no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum StoreTrouble {
    /// No connection, or it does not answer.
    DatabaseUnreachable,
    /// The tables are not the ones that forebay writes to.
    SchemaMismatch,
    /// It answers with an error: login, rights, read-only, disk full.
    DatabaseRefuses,
}

/// The contents of the health page.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Why forebay is not ready, and the detail for people; `None` while it is.
    pub trouble: Option<(UnreadyReason, String)>,
    /// The degradations while forebay is ready, each with its detail; the worst first.
    pub degraded: Vec<(Degraded, String)>,
    /// Whether the store is forebay's private PostgreSQL.
    pub private: bool,
    /// When this state began.
    pub since: Timestamp,
    /// How long it has lasted.
    pub lasting: Duration,
}

/// A problem while records are accepted and written. The health page has it in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Degraded {
    /// A batch is held up by its own records.
    #[strum(serialize = "stuck_on_records")]
    Stuck,
    /// A step of a migration cannot be done yet.
    MigrationWaits,
}

/// A sender that holds much of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeSender {
    /// Its name.
    pub service: String,
    /// The records that it holds.
    pub records: u64,
    /// The bytes of their rows.
    pub bytes: u64,
}

impl Report {
    /// Whether forebay can accept and write records.
    pub fn ready(&self) -> bool {
        self.trouble.is_none()
    }

    /// The report in the format of the Collector's health_check extension, with the `largest` senders, if there are any to show.
    pub fn to_json(&self, largest: &[LargeSender]) -> String {
        let since = format!("{:.0}", self.since);
        let mut page = match &self.trouble {
            None => {
                let uptime = InGo(self.lasting).to_string();
                let mut page = json!({ "status": "Server available", "upSince": since, "uptime": uptime });
                if let Some((what, detail)) = self.degraded.first() {
                    page["degraded"] = <&str>::from(what).into();
                    page["detail"] = detail.as_str().into();
                }
                page
            }
            Some((reason, detail)) => json!({
                "status": "Server not available",
                "reason": <&str>::from(reason),
                "detail": detail,
                "since": since,
            }),
        };
        if self.private {
            page["store"] = "private PostgreSQL".into();
        }
        if !largest.is_empty() {
            let sender = |LargeSender { service, records, bytes }: &LargeSender| json!({ "service": service, "records": records, "bytes": bytes });
            page["largest_senders"] = largest.iter().map(sender).collect();
        }
        page.to_string()
    }
}

impl UnreadyReason {
    pub(super) const ALL: [Self; 7] = [
        Self::Starting,
        Self::Store(StoreTrouble::DatabaseUnreachable),
        Self::Store(StoreTrouble::SchemaMismatch),
        Self::Store(StoreTrouble::DatabaseRefuses),
        Self::MemoryLimit,
        Self::Disk,
        Self::Draining,
    ];

    /// The reason with this name on the health page.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| <&str>::from(reason) == name)
    }

    /// Whether records are accepted and buffered nevertheless.
    pub fn lets_accept(self) -> bool {
        match self {
            Self::Starting | Self::Store(_) => true,
            Self::MemoryLimit | Self::Disk | Self::Draining => false,
        }
    }
}

/// A duration in whole seconds in Go's format: `45s`, `3m2s`, `1h0m5s`.
pub(super) struct InGo(pub(super) Duration);

impl Display for InGo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (hours, minutes) {
            (0, 0) => write!(f, "{seconds}s"),
            (0, _) => write!(f, "{minutes}m{seconds}s"),
            _ => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREACHABLE: StoreTrouble = StoreTrouble::DatabaseUnreachable;

    #[test]
    fn the_page_has_the_collectors_format() {
        let since = Timestamp::from_second(1_795_428_000).unwrap();
        let lasting = Duration::from_millis(182_900);
        let mut report = Report { trouble: None, degraded: Vec::new(), private: false, since, lasting };
        assert_eq!(
            report.to_json(&[]),
            r#"{"status":"Server available","upSince":"2026-11-23T10:00:00Z","uptime":"3m2s"}"#
        );
        report.degraded = vec![(Degraded::Stuck, "invalid memory alloc request (SQLSTATE XX000)".to_owned())];
        assert_eq!(
            report.to_json(&[]),
            concat!(
                r#"{"status":"Server available","upSince":"2026-11-23T10:00:00Z","uptime":"3m2s","#,
                r#""degraded":"stuck_on_records","detail":"invalid memory alloc request (SQLSTATE XX000)"}"#
            )
        );
        report.trouble =
            Some((UnreadyReason::Store(UNREACHABLE), "connection refused (127.0.0.1:5432)".to_owned()));
        assert_eq!(
            report.to_json(&[]),
            concat!(
                r#"{"status":"Server not available","reason":"database_unreachable","#,
                r#""detail":"connection refused (127.0.0.1:5432)","since":"2026-11-23T10:00:00Z"}"#
            )
        );
        report.private = true;
        assert!(
            report.to_json(&[]).ends_with(r#","store":"private PostgreSQL"}"#),
            "{}",
            report.to_json(&[])
        );
        let largest = [LargeSender { service: "shop".to_owned(), records: 8, bytes: 1600 }];
        let page = report.to_json(&largest);
        assert!(
            page.ends_with(r#","largest_senders":[{"service":"shop","records":8,"bytes":1600}]}"#),
            "{page}"
        );
        report.trouble = None;
        assert!(
            report.to_json(&[]).ends_with(r#","store":"private PostgreSQL"}"#),
            "{}",
            report.to_json(&[])
        );
    }

    #[test]
    fn names_are_a_closed_set() {
        assert!(UnreadyReason::ALL.iter().map(<&str>::from).eq([
            "starting",
            "database_unreachable",
            "schema_mismatch",
            "database_refuses",
            "memory_limit",
            "disk",
            "draining",
        ]));
        assert!(Degraded::VARIANTS.iter().map(<&str>::from).eq(["stuck_on_records", "migration_waits"]));
    }

    #[test]
    fn durations_read_as_in_go() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m0s"), (3605, "1h0m5s"), (90_061, "25h1m1s")] {
            assert_eq!(InGo(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
