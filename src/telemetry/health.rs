//! Health: the reason, if any, why forebay cannot accept and write records now.
//!
//! Parts of the program report their state. The health keeps the latest, logs each change once, and answers with a [`Report`].
//! Reasons are a closed set of strings, for machines. The detail is for people and must hold no secret, because anyone who can reach
//! the page can read it. Draining is final.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use strum::VariantArray as _;
use tracing::{info, warn};

use super::condition::Condition;
use super::report::{Degraded, InGo, Report, StoreTrouble, UnreadyReason};

/// The program's health, shared by its clones.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    trouble: Option<(UnreadyReason, String)>,
    since: Timestamp,
    /// For durations, because the wall clock may jump.
    steady_since: Instant,
    /// Set while memory use is above its limit; hides the state of the store.
    memory: Option<Condition>,
    /// Set while the durable queue accepts no records; hides the state of the store.
    disk: Option<Condition>,
    /// Set while the private PostgreSQL does not run; hides the state of the store.
    private_server: Option<Condition>,
    /// Whether the store is forebay's private PostgreSQL.
    private: bool,
    /// The detail of each degradation that holds.
    degraded: [Option<String>; Degraded::VARIANTS.len()],
}

impl Health {
    /// The health of a program that is starting.
    #[expect(clippy::new_without_default, reason = "a health is created once, knowingly")]
    pub fn new() -> Self {
        let state = State {
            trouble: Some((UnreadyReason::Starting, "no connection to the store yet".to_owned())),
            since: Timestamp::now(),
            steady_since: Instant::now(),
            memory: None,
            disk: None,
            private_server: None,
            private: false,
            degraded: Default::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Registers its gauges. Each reason has a value of its own, so that an alert can name it.
    pub fn observe(&self, meter: &Meter) {
        type Values = Vec<(&'static str, bool)>;
        let gauge = |name, description, label: &'static str, values: fn(&Report) -> Values| {
            let health = self.clone();
            let observable = meter.u64_observable_gauge(name).with_description(description);
            let observe = move |gauge: &dyn AsyncInstrument<u64>| {
                for (value, holds) in values(&health.report()) {
                    gauge.observe(u64::from(holds), &[KeyValue::new(label, value)]);
                }
            };
            observable.with_callback(observe).build();
        };
        let description = "1 for the reason why forebay is not ready, as on the health page.";
        gauge("log_buffer_unready", description, "reason", |report| {
            let current = report.trouble.as_ref().map(|(reason, _)| *reason);
            UnreadyReason::ALL.map(|reason| (reason.into(), current == Some(reason))).into()
        });
        let description = "1 for each degradation while records are written, as on the health page.";
        gauge("log_buffer_degraded", description, "reason", |report| {
            let holds = |degraded| report.degraded.iter().any(|(held, _)| *held == degraded);
            Degraded::VARIANTS.iter().map(|&degraded| (degraded.into(), holds(degraded))).collect()
        });
        let description = "1 for the kind of store: forebay's private PostgreSQL, or an external one.";
        gauge("log_buffer_store_info", description, "kind", |report| {
            vec![("external", !report.private), ("private", report.private)]
        });
    }

    /// Records that the store is forebay's private PostgreSQL.
    pub fn store_is_private(&self) {
        self.lock().private = true;
    }

    /// Records that the store accepts rows.
    pub fn store_ready(&self) {
        self.change(None);
    }

    /// Records that the store accepts no rows. Repeated calls update the detail and log nothing.
    pub fn store_unavailable(&self, trouble: StoreTrouble, detail: impl Into<String>) {
        self.change(Some((UnreadyReason::Store(trouble), detail.into())));
    }

    /// Records that the store refuses one batch because of its records, with `detail`, and accepts others. Repeated calls log
    /// nothing.
    pub fn stuck(&self, detail: impl Into<String>) {
        let detail = detail.into();
        let before = self.degraded(Degraded::Stuck, Some(detail.clone()));
        if before.is_none() {
            warn!(detail, "a batch is held up by its own records; PostgreSQL takes others");
        }
    }

    /// Records that no batch is held up by its own records any more.
    pub fn moves(&self) {
        if self.degraded(Degraded::Stuck, None).is_some() {
            warn!("no batch is held up by its own records any more");
        }
    }

    /// Sets why a migration of the store has to wait; `None` if none waits. Records are written meanwhile.
    pub fn migration_waits(&self, waits: Option<String>) {
        self.degraded(Degraded::MigrationWaits, waits);
    }

    /// Sets why the private PostgreSQL does not run; `None` while it runs.
    pub fn private_server(&self, trouble: Option<String>) {
        let mut state = self.lock();
        match (&mut state.private_server, trouble) {
            (Some(condition), Some(detail)) => condition.detail = detail,
            (condition, trouble) => *condition = trouble.map(Condition::from_now),
        }
    }

    /// Sets the detail of a degradation, and returns the previous one.
    fn degraded(&self, degraded: Degraded, detail: Option<String>) -> Option<String> {
        std::mem::replace(&mut self.lock().degraded[degraded as usize], detail)
    }

    /// Records that the program is ending. No later call changes that.
    pub fn draining(&self) {
        self.change(Some((UnreadyReason::Draining, "shutting down".to_owned())));
    }

    /// Sets by how much memory use is above its limit; `None` while it is below. Repeated calls log nothing.
    pub fn memory(&self, above: Option<String>) {
        let begins = "memory use is above its limit; requests are refused and can be retried";
        self.set(|state| &mut state.memory, above, begins, "memory use is below its limit again");
    }

    /// Sets why the durable queue accepts no records; `None` while it does. Repeated calls log nothing.
    pub fn disk(&self, trouble: Option<String>) {
        let begins =
            "the durable queue accepts no records; requests are dropped or refused by the overflow policy";
        self.set(|state| &mut state.disk, trouble, begins, "the durable queue accepts records again");
    }

    /// Sets or ends a condition, and logs its beginning and its end.
    fn set(
        &self,
        place: impl Fn(&mut State) -> &mut Option<Condition>,
        detail: Option<String>,
        begins: &str,
        ends: &str,
    ) {
        let mut state = self.lock();
        match (place(&mut state), detail) {
            (None, None) => {}
            (Some(condition), Some(detail)) => condition.detail = detail,
            (condition @ None, Some(detail)) => {
                warn!(detail, "{begins}");
                *condition = Some(Condition::from_now(detail));
            }
            (condition, None) => {
                let lasted = condition.take().map(|condition| InGo(condition.steady_since.elapsed()));
                warn!(lasted = lasted.map(tracing::field::display), "{ends}");
            }
        }
    }

    /// The current state.
    pub fn report(&self) -> Report {
        let state = self.lock();
        let is_draining = state.reason() == Some(UnreadyReason::Draining);
        let memory = state.memory.as_ref().map(|memory| (UnreadyReason::MemoryLimit, memory));
        let disk = state.disk.as_ref().map(|disk| (UnreadyReason::Disk, disk));
        let unreachable = UnreadyReason::Store(StoreTrouble::DatabaseUnreachable);
        let server = state.private_server.as_ref().map(|server| (unreachable, server));
        let (trouble, since, steady_since) = match memory.or(disk).or(server).filter(|_| !is_draining) {
            Some((reason, Condition { detail, since, steady_since })) => {
                (Some((reason, detail.clone())), *since, *steady_since)
            }
            None => (state.trouble.clone(), state.since, state.steady_since),
        };
        let degraded = Degraded::VARIANTS.iter().copied().zip(&state.degraded);
        let degraded = degraded.filter_map(|(degraded, detail)| Some((degraded, detail.clone()?)));
        let degraded = degraded.filter(|_| trouble.is_none()).collect();
        Report { trouble, degraded, private: state.private, since, lasting: steady_since.elapsed() }
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

impl State {
    fn reason(&self) -> Option<UnreadyReason> {
        self.trouble.as_ref().map(|(reason, _)| *reason)
    }
}

/// Logs a change. The end of a trouble is a warning as well, so that every log level that shows the beginning shows the end.
fn announce(from: Option<UnreadyReason>, to: Option<UnreadyReason>, lasted: Duration, detail: &str) {
    match (from, to) {
        (Some(UnreadyReason::Store(trouble)), None) => {
            let (reason, lasted) = (<&str>::from(trouble), InGo(lasted));
            warn!(reason, %lasted, "the database accepts rows again");
        }
        (_, None) => info!("ready: the database accepts rows"),
        // `memory` and `disk` log their own changes.
        (_, Some(UnreadyReason::Starting | UnreadyReason::MemoryLimit | UnreadyReason::Disk)) => {}
        (_, Some(UnreadyReason::Store(trouble))) => {
            let what = match trouble {
                StoreTrouble::DatabaseUnreachable => "the database cannot be reached",
                StoreTrouble::SchemaMismatch => "the tables do not match",
                StoreTrouble::DatabaseRefuses => "the database refuses rows",
            };
            let reason = <&str>::from(trouble);
            warn!(reason, detail, "{what}; records are buffered, and dropped by the overflow policy");
        }
        (_, Some(UnreadyReason::Draining)) => info!("draining: new requests are refused"),
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
    fn the_memory_limit_hides_the_state_of_the_store_until_it_is_over() {
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
        assert_eq!(health.report().degraded, [], "the store's trouble hides it");
        health.store_ready();
        health.moves();
        assert_eq!(health.report().degraded, []);
        assert_eq!(gauge(), r#"log_buffer_degraded{reason="stuck_on_records"} 0"#);
    }

    #[test]
    fn a_private_server_that_does_not_run_hides_the_state_of_the_store() {
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
