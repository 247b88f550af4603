//! Health: the one thing that keeps forebay from accepting and writing right now, if there is one.
//!
//! The parts report what they meet; the health keeps the latest, says each change once in the log, and answers with
//! a [`Report`]. The reasons are a closed set of strings, for machines; the detail is for people and must hold no
//! secret, since the page may be seen by anyone who reaches it. Draining is final.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use strum::VariantArray as _;
use tracing::{info, warn};

use super::report::{Degraded, InGo, Report, StoreTrouble, UnreadyReason};

/// The program's health; clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    trouble: Option<(UnreadyReason, String)>,
    since: Timestamp,
    /// The wall clock may jump; durations are taken from this one.
    steady_since: Instant,
    /// What is to be said of the memory while there is too much taken, whatever the store does.
    memory: Option<Lasting>,
    /// Why the private PostgreSQL does not run, whatever those find who look for it meanwhile.
    private_server: Option<Lasting>,
    /// Whether the store is forebay's own PostgreSQL.
    private: bool,
    /// What is not as it should be while records are written, each with what is said of it.
    degraded: [Option<String>; Degraded::VARIANTS.len()],
}

/// A trouble that is told apart from what is heard of the store.
#[derive(Debug)]
struct Lasting {
    detail: String,
    since: Timestamp,
    steady_since: Instant,
}

impl Health {
    /// A program that is starting.
    #[expect(clippy::new_without_default, reason = "a health is created once, knowingly")]
    pub fn new() -> Self {
        let trouble = Some((UnreadyReason::Starting, "the store has not been met yet".to_owned()));
        let state = State {
            trouble,
            since: Timestamp::now(),
            steady_since: Instant::now(),
            memory: None,
            private_server: None,
            private: false,
            degraded: Default::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Shows it among the metrics: each reason is 1 while it holds, so that what an alert fires on has a name.
    pub fn observe(&self, meter: &Meter) {
        let health = self.clone();
        meter
            .u64_observable_gauge("log_buffer_unready")
            .with_description("1 for the reason for which forebay is not ready, as on the health page.")
            .with_callback(move |gauge| {
                let holds = health.report().trouble.map(|(reason, _)| reason);
                for reason in UnreadyReason::ALL {
                    let reason_is = [KeyValue::new("reason", <&str>::from(reason))];
                    gauge.observe(u64::from(holds == Some(reason)), &reason_is);
                }
            })
            .build();
        let health = self.clone();
        meter
            .u64_observable_gauge("log_buffer_degraded")
            .with_description(
                "1 for what is not as it should be while records are written, as on the health page.",
            )
            .with_callback(move |gauge| {
                let holds = health.report().degraded;
                for &degraded in Degraded::VARIANTS {
                    let is = holds.iter().any(|(held, _)| *held == degraded);
                    gauge.observe(u64::from(is), &[KeyValue::new("reason", <&str>::from(degraded))]);
                }
            })
            .build();
        let health = self.clone();
        meter
            .u64_observable_gauge("log_buffer_store_info")
            .with_description("1 for what the store is: forebay's private PostgreSQL, or an external one.")
            .with_callback(move |gauge| {
                let private = health.lock().private;
                gauge.observe(u64::from(!private), &[KeyValue::new("kind", "external")]);
                gauge.observe(u64::from(private), &[KeyValue::new("kind", "private")]);
            })
            .build();
    }

    /// The store is forebay's own PostgreSQL.
    pub fn store_is_private(&self) {
        self.lock().private = true;
    }

    /// The store takes rows.
    pub fn store_ready(&self) {
        self.change(None);
    }

    /// The store takes no rows. Cheap to repeat: the detail is brought up to date, the log hears of it once.
    pub fn store_unavailable(&self, trouble: StoreTrouble, detail: impl Into<String>) {
        self.change(Some((UnreadyReason::Store(trouble), detail.into())));
    }

    /// A batch is held up by its own records, of which the store says `detail`; it takes others. Cheap to repeat.
    pub fn stuck(&self, detail: impl Into<String>) {
        let detail = detail.into();
        let before = self.degraded(Degraded::Stuck, Some(detail.clone()));
        if before.is_none() {
            warn!(detail, "a batch is held up by its own records; PostgreSQL takes others");
        }
    }

    /// No batch is held up by its own records any more.
    pub fn moves(&self) {
        if self.degraded(Degraded::Stuck, None).is_some() {
            warn!("no batch is held up by its own records any more");
        }
    }

    /// Something of the store is older than it should be, as `waits` says; `None` while nothing is. Records are written.
    pub fn migration_waits(&self, waits: Option<String>) {
        self.degraded(Degraded::MigrationWaits, waits);
    }

    /// The private PostgreSQL does not run, because of `trouble`; `None` while it does.
    pub fn private_server(&self, trouble: Option<String>) {
        let mut state = self.lock();
        match (&mut state.private_server, trouble) {
            (Some(lasting), Some(detail)) => lasting.detail = detail,
            (lasting, trouble) => *lasting = trouble.map(Lasting::from_now),
        }
    }

    /// Gives what was said of this before.
    fn degraded(&self, what: Degraded, detail: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.lock().degraded[what as usize], detail)
    }

    /// The program is ending; whatever the store does from here on, this stays.
    pub fn draining(&self) {
        self.change(Some((UnreadyReason::Draining, "shutting down".to_owned())));
    }

    /// More memory is taken than may be, as `above` says; `None` while it is not. Cheap to repeat.
    pub fn memory(&self, above: Option<String>) {
        let mut state = self.lock();
        match (&mut state.memory, above) {
            (None, None) => {}
            (Some(memory), Some(detail)) => memory.detail = detail,
            (memory @ None, Some(detail)) => {
                warn!(detail, "too much memory is taken; requests are refused, to be sent again");
                *memory = Some(Lasting::from_now(detail));
            }
            (Some(_), None) => {
                let lasted = state.memory.take().map(|memory| InGo(memory.steady_since.elapsed()));
                warn!(lasted = lasted.map(tracing::field::display), "the memory is below its limit again");
            }
        }
    }

    /// How it stands now.
    pub fn report(&self) -> Report {
        let state = self.lock();
        let is_draining = state.reason() == Some(UnreadyReason::Draining);
        let memory = state.memory.as_ref().map(|lasting| (UnreadyReason::MemoryLimit, lasting));
        let away = UnreadyReason::Store(StoreTrouble::DatabaseUnreachable);
        let server = state.private_server.as_ref().map(|lasting| (away, lasting));
        if let Some((reason, lasting)) = memory.or(server).filter(|_| !is_draining) {
            let (trouble, since) = (Some((reason, lasting.detail.clone())), lasting.since);
            let lasting = lasting.steady_since.elapsed();
            return Report { trouble, degraded: Vec::new(), private: state.private, since, lasting };
        }
        let held = Degraded::VARIANTS.iter().copied().zip(&state.degraded);
        let held = held.filter_map(|(what, detail)| Some((what, detail.clone()?)));
        let degraded = held.filter(|_| state.trouble.is_none()).collect();
        let lasting = state.steady_since.elapsed();
        let (trouble, private) = (state.trouble.clone(), state.private);
        Report { trouble, degraded, private, since: state.since, lasting }
    }

    fn change(&self, to: Option<(UnreadyReason, String)>) {
        let mut state = self.lock();
        let (from, reason) = (state.reason(), to.as_ref().map(|(reason, _)| *reason));
        if from == Some(UnreadyReason::Draining) {
            return;
        }
        state.trouble = to;
        if from == reason {
            return;
        }
        let lasted = state.steady_since.elapsed();
        state.since = Timestamp::now();
        state.steady_since = Instant::now();
        let detail = state.trouble.as_ref().map(|(_, detail)| detail.clone()).unwrap_or_default();
        drop(state);
        announce(from, reason, lasted, &detail);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lasting {
    fn from_now(detail: String) -> Self {
        Self { detail, since: Timestamp::now(), steady_since: Instant::now() }
    }
}

impl State {
    fn reason(&self) -> Option<UnreadyReason> {
        self.trouble.as_ref().map(|(reason, _)| *reason)
    }
}

/// Says a change in the log. The good news after trouble is a warning, because who was warned must hear the end of it at the same
/// level.
fn announce(from: Option<UnreadyReason>, to: Option<UnreadyReason>, lasted: Duration, detail: &str) {
    match (from, to) {
        (Some(UnreadyReason::Store(trouble)), None) => {
            let (reason, lasted) = (<&str>::from(trouble), InGo(lasted));
            warn!(reason, %lasted, "the database takes rows again");
        }
        (_, None) => info!("ready: the database takes rows"),
        // Nothing to say, and the memory has words of its own.
        (_, Some(UnreadyReason::Starting | UnreadyReason::MemoryLimit)) => {}
        (_, Some(UnreadyReason::Store(trouble))) => {
            let what = match trouble {
                StoreTrouble::DatabaseUnreachable => "the database cannot be reached",
                StoreTrouble::SchemaMismatch => "the tables do not fit",
                StoreTrouble::DatabaseRefuses => "the database refuses rows",
            };
            let reason = <&str>::from(trouble);
            warn!(reason, detail, "{what}; records are held and shed by the overflow policy");
        }
        (_, Some(UnreadyReason::Draining)) => info!("draining: nothing more is accepted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREACHABLE: StoreTrouble = StoreTrouble::DatabaseUnreachable;

    fn reason(health: &Health) -> Option<&'static str> {
        health.report().trouble.map(|(reason, _)| reason.into())
    }

    #[test]
    fn it_follows_the_store() {
        let health = Health::new();
        assert_eq!(reason(&health), Some("starting"));
        health.store_unavailable(UNREACHABLE, "connection refused");
        assert_eq!(reason(&health.clone()), Some("database_unreachable"));
        health.store_unavailable(StoreTrouble::SchemaMismatch, "");
        assert_eq!(reason(&health), Some("schema_mismatch"));
        health.store_unavailable(StoreTrouble::DatabaseRefuses, "");
        assert_eq!(reason(&health), Some("database_refuses"));
        health.store_ready();
        assert_eq!(reason(&health), None);
        assert!(health.report().ready());
    }

    #[test]
    fn draining_is_final() {
        let health = Health::new();
        health.store_ready();
        health.draining();
        health.store_ready();
        health.store_unavailable(UNREACHABLE, "gone");
        assert_eq!(reason(&health), Some("draining"));
    }

    #[test]
    fn the_memory_goes_before_the_store_and_leaves_it_as_it_was() {
        let health = Health::new();
        health.store_ready();
        health.memory(Some("81 MiB".to_owned()));
        assert_eq!(reason(&health), Some("memory_limit"));
        health.store_unavailable(UNREACHABLE, "gone");
        health.memory(Some("82 MiB".to_owned()));
        assert_eq!(health.report().trouble, Some((UnreadyReason::MemoryLimit, "82 MiB".to_owned())));
        health.memory(None);
        assert_eq!(reason(&health), Some("database_unreachable"));
        health.memory(Some("83 MiB".to_owned()));
        health.draining();
        assert_eq!(reason(&health), Some("draining"));
    }

    #[test]
    fn a_batch_that_is_held_up_by_its_records_leaves_it_ready() {
        let metrics = crate::telemetry::Metrics::new().unwrap();
        let health = Health::new();
        health.observe(&metrics.meter("health"));
        let gauge = || {
            let page = metrics.render().unwrap();
            let line = page.lines().find(|line| line.starts_with(r#"log_buffer_degraded{reason="stuck"#));
            line.unwrap().to_owned()
        };
        health.store_ready();
        health.stuck("no (SQLSTATE XX000)");
        assert!(health.report().ready());
        assert_eq!(health.report().degraded, [(Degraded::Stuck, "no (SQLSTATE XX000)".to_owned())]);
        assert_eq!(gauge(), r#"log_buffer_degraded{reason="stuck_on_records"} 1"#);
        health.store_unavailable(UNREACHABLE, "gone");
        assert_eq!(health.report().degraded, [], "the store's trouble goes before");
        health.store_ready();
        health.moves();
        assert_eq!(health.report().degraded, []);
        assert_eq!(gauge(), r#"log_buffer_degraded{reason="stuck_on_records"} 0"#);
    }

    #[test]
    fn a_private_server_that_is_away_is_told_whatever_is_heard_of_the_store() {
        let health = Health::new();
        health.store_ready();
        health.private_server(Some("has ended".to_owned()));
        let first = health.report();
        assert_eq!(first.trouble, Some((UnreadyReason::Store(UNREACHABLE), "has ended".to_owned())));
        health.store_unavailable(UNREACHABLE, "connection refused");
        health.private_server(Some("cannot be started".to_owned()));
        let second = health.report();
        assert_eq!(second.trouble, Some((UnreadyReason::Store(UNREACHABLE), "cannot be started".to_owned())));
        assert_eq!(second.since, first.since);
        health.store_ready();
        assert_eq!(reason(&health), Some("database_unreachable"));
        health.private_server(None);
        assert!(health.report().ready());
        health.draining();
        health.private_server(Some("has ended".to_owned()));
        assert_eq!(reason(&health), Some("draining"));
    }

    #[test]
    fn a_migration_that_waits_leaves_it_ready() {
        let health = Health::new();
        health.store_ready();
        health.stuck("no");
        health.migration_waits(Some("the view".to_owned()));
        assert!(health.report().ready());
        let both = [(Degraded::Stuck, "no".to_owned()), (Degraded::MigrationWaits, "the view".to_owned())];
        assert_eq!(health.report().degraded, both);
        health.migration_waits(None);
        assert_eq!(health.report().degraded, both[..1]);
    }

    #[test]
    fn the_same_trouble_keeps_its_beginning_and_renews_its_detail() {
        let health = Health::new();
        health.store_unavailable(UNREACHABLE, "connection refused");
        let first = health.report();
        health.store_unavailable(UNREACHABLE, "no route to host");
        let second = health.report();
        assert_eq!(second.since, first.since);
        assert_eq!(second.trouble, Some((UnreadyReason::Store(UNREACHABLE), "no route to host".to_owned())));
    }

    #[test]
    fn the_reason_that_holds_is_one_among_the_metrics() {
        let metrics = crate::telemetry::Metrics::new().unwrap();
        let health = Health::new();
        health.observe(&metrics.meter("health"));
        let ones = || {
            let page = metrics.render().unwrap();
            let lines = page.lines().filter(|line| line.starts_with("log_buffer_unready{"));
            let (ones, zeros): (Vec<_>, Vec<_>) =
                lines.map(str::to_owned).partition(|line| line.ends_with(" 1"));
            assert_eq!(ones.len() + zeros.len(), UnreadyReason::ALL.len());
            ones
        };
        health.store_unavailable(UNREACHABLE, "gone");
        assert_eq!(ones(), [r#"log_buffer_unready{reason="database_unreachable"} 1"#]);
        health.store_ready();
        assert!(ones().is_empty());
    }
}
