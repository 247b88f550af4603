//! The composition root: builds all parts, runs them, and ends them in order.
//!
//! The start is downstream first (the store's tasks before the receiver), the shutdown upstream first: readiness off,
//! listeners closed, buffer drained to a deadline, connections closed, pages and messages last. Tasks are spawned only
//! here, and each one is joined.

mod commands;
mod ending;
mod error;
mod reading;
mod reload;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

pub use commands::{Diagnosis, dead_letters, doctor, health, mapping, partitions, queue};
pub use ending::Summary;
pub use error::Error;
pub use reading::{query, tail};
use reload::read_again;
pub use reload::{Load, is_live};
use tasks::Tasks;

use crate::buffer::Buffer;
use crate::buffer::disk::DurableQueue;
use crate::config::Config;
use crate::embedded::Embedded;
use crate::exporter::Exporter;
use crate::memory::{self, Limiter};
use crate::postgres::dsn::Target;
use crate::postgres::dsn::surroundings::of_process;
use crate::receiver::{self, Gates, Intake, Ports};
use crate::shutdown::Signals;
use crate::store::Store;
use crate::supervisor;
use crate::telemetry::{Health, Metrics, Push, Threshold};
use crate::version;

/// Everything that runs.
struct App {
    config: Config,
    health: Health,
    metrics: Metrics,
    /// Empty once they run.
    pushes: Vec<Push>,
    buffer: Arc<Buffer>,
    store: Arc<Store>,
    exporter: Arc<Exporter>,
    intake: Arc<Intake>,
    gates: Arc<Gates>,
    limiter: Option<Arc<Limiter>>,
    level: Threshold,
    /// `None` once its task runs.
    embedded: Option<Embedded>,
}

/// The ports, bound before anything else, so that a port in use is reported at once.
struct Listeners {
    receiver: Ports,
    health: Option<TcpListener>,
    metrics: Vec<TcpListener>,
}

/// Checks `config` as far as possible without a database: the connection string, and the files of TLS and authentication.
/// Returns warnings, a line each.
///
/// # Errors
///
/// The reason why forebay cannot run with it.
pub fn check(config: &Config) -> Result<Vec<String>, Error> {
    let target = target_of_writes(config)?;
    let gates = Gates::open(&config.receiver).map_err(receiver::Error::from)?;
    let of_store = warning_of_store(config, target.as_ref());
    Ok(gates.warnings().lines().map(str::to_owned).chain(of_store).collect())
}

/// A warning about the destination of records, if it may be a mistake.
fn warning_of_store(config: &Config, target: Option<&Target>) -> Option<String> {
    match (target, config.exporter.dsn.unnamed_by()) {
        (Some(target), _) => target.warning(),
        (None, setting) => Some(format!(
            "no database is named: records go to {}; set {} to name one, or to `embedded` where this one is meant",
            private_store(config),
            setting?,
        )),
    }
}

/// The private PostgreSQL, and where it is.
fn private_store(config: &Config) -> String {
    let dir = &config.exporter.data_dir;
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    format!("a private PostgreSQL in {}", dir.join("cluster").display())
}

/// The address of the store; `None` is the private PostgreSQL.
fn target(config: &Config) -> Result<Option<Target>, Error> {
    if config.exporter.dsn.is_embedded() {
        return Ok(None);
    }
    let target = Target::open(&config.exporter.dsn.text, &of_process)?;
    target.check_certificates()?;
    Ok(Some(target))
}

/// The same for a forebay that writes, which needs a writable server.
fn target_of_writes(config: &Config) -> Result<Option<Target>, Error> {
    let target = target(config)?;
    target.as_ref().map(Target::check_writes).transpose()?;
    Ok(target)
}

/// Runs forebay until a signal ends it. At SIGHUP it calls `load` for the configuration.
///
/// # Errors
///
/// The reason why it cannot start. A database that is down does not keep it from starting.
pub fn run(config: Config, load: &Load) -> Result<Summary, Error> {
    let target = target_of_writes(&config)?;
    let gates = Gates::open(&config.receiver).map_err(receiver::Error::from)?;
    let logs = crate::telemetry::logs::init(&config.telemetry.logs)?;
    std::thread::spawn(logs.writer());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(receiver::worker_threads())
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let level = logs.threshold();
    let (end_of_repeats, told) = watch::channel(false);
    let repeats = runtime.spawn(logs.tell_repeats(flagged(told)));
    gates.warnings().log();
    let result = runtime.block_on(start_and_serve(config, target, gates, level, load));
    end_of_repeats.send_replace(true);
    let _ = runtime.block_on(repeats);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn start_and_serve(
    config: Config,
    target: Option<Target>,
    gates: Gates,
    level: Threshold,
    load: &Load,
) -> Result<Summary, Error> {
    let mut signals = Signals::listen().map_err(Error::Runtime)?;
    // From here on SIGHUP does not end the process.
    let reloads = signal(SignalKind::hangup()).map_err(Error::Runtime)?;
    let listeners = Listeners::bind(&config).await?;
    if let Some(text) = warning_of_store(&config, target.as_ref()) {
        warn!("{text}");
    }
    let (target, embedded) = match target {
        Some(target) => (target, None),
        None => {
            let embedded = tokio::select! {
                embedded = Embedded::start(&config.exporter.data_dir) => embedded?,
                signal = signals.next() => {
                    info!(signal, "asked to end while the private PostgreSQL was starting");
                    return Ok(Summary::default());
                }
            };
            (Target::parse(&embedded.dsn())?, Some(embedded))
        }
    };
    let app = App::build(config, &target, embedded, gates, level)?;
    app.serve(listeners, signals, reloads, load, &target).await
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, Error> {
        let receiver = Ports::bind(&config.receiver.protocols).await?;
        let health = match &config.health {
            Some(health) => Some(bind(&health.endpoint, "extensions.health_check.endpoint").await?),
            None => None,
        };
        let mut metrics = Vec::new();
        for pull in config.telemetry.metrics.readers.iter().filter_map(|reader| reader.pull.as_ref()) {
            let page = &pull.exporter.prometheus;
            let host = if page.host.contains(':') { format!("[{}]", page.host) } else { page.host.clone() };
            let key = "service.telemetry.metrics.readers.pull.exporter.prometheus";
            metrics.push(bind(&format!("{host}:{}", page.port), key).await?);
        }
        Ok(Self { receiver, health, metrics })
    }
}

async fn bind(endpoint: &str, key: &'static str) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { endpoint: endpoint.to_owned(), key, source };
    TcpListener::bind(endpoint).await.map_err(failed)
}

impl App {
    fn build(
        config: Config,
        target: &Target,
        embedded: Option<Embedded>,
        gates: Gates,
        level: Threshold,
    ) -> Result<Self, Error> {
        let (metrics, pushes) = Metrics::with(&config.telemetry)?;
        let health = Health::new();
        health.observe(&metrics.meter("health"));
        if let Some(embedded) = &embedded {
            health.store_is_private();
            embedded.observe(&metrics.meter("embedded"));
        }
        let queue = &config.exporter.sending_queue;
        let store = config.exporter.store();
        let destination = store.destination().expect("the configuration was checked");
        let mut buffer = Buffer::new(queue, &config.batch);
        if let Some(storage) = config.storage.clone() {
            let durable = DurableQueue::open(storage, destination.row_format(), health.clone())?;
            buffer = buffer.durably(durable);
        }
        let buffer = Arc::new(buffer);
        buffer.observe(&metrics.meter("buffer"));
        let mapping = destination.mapping().cloned();
        let retry = config.exporter.retry_on_failure.clone();
        let meter = metrics.meter("exporter");
        let store = Arc::new(Store::new(store, retry, destination, target.clone(), health.clone(), &meter)?);
        let exporter = Exporter::new(config.exporter.clone(), store.clone(), buffer.clone(), &meter);
        // Senders that wait for the result wait a little longer than a batch may take.
        let result_timeout = config.exporter.timeout.0 + Duration::from_secs(1);
        let limiter = config.memory.as_ref().map(|memory| Arc::new(Limiter::new(memory, health.clone())));
        let allowance = limiter.as_ref().map_or_else(Arc::default, |limiter| limiter.allowance());
        let admission = &config.receiver.admission;
        let mut intake = Intake::new(buffer.clone(), !queue.enabled, result_timeout)
            .writing(config.exporter.partition, mapping, config.receiver.limits())
            .within(admission.request_limit.bytes(), allowance);
        intake.observe(&metrics.meter("receiver"));
        gates.observe(&metrics.meter("receiver"));
        if let Some(limiter) = &limiter {
            intake = intake.refusing_while(limiter.refusing());
        }
        memory::observe(limiter.clone(), &metrics.meter("memory"));
        Ok(Self {
            health,
            metrics,
            pushes,
            buffer,
            store,
            exporter: Arc::new(exporter),
            intake: Arc::new(intake),
            gates: Arc::new(gates),
            limiter,
            level,
            embedded,
            config,
        })
    }

    async fn serve(
        mut self,
        listeners: Listeners,
        mut signals: Signals,
        mut reloads: Signal,
        load: &Load,
        target: &Target,
    ) -> Result<Summary, Error> {
        info!(
            version = env!("CARGO_PKG_VERSION"),
            commit = version::COMMIT,
            grpc = listeners.receiver.grpc.as_ref().map(address),
            http = listeners.receiver.http.as_ref().map(address),
            health = listeners.health.as_ref().map(address),
            metrics = listeners.metrics.first().map(address),
            database = target.describe(),
            "forebay takes records"
        );
        let pushes = std::mem::take(&mut self.pushes);
        let embedded = self.embedded.take();
        let mut tasks = Tasks::start(&self, listeners, pushes, embedded);
        supervisor::ready();
        // A task of its own, so that a file on a hanging disk delays no signal.
        let mut reading = JoinSet::new();
        let outcome = loop {
            tokio::select! {
                signal = signals.next() => {
                    info!(signal, held = self.buffer.budget().records(), "asked to end; draining the buffer");
                    break Ok(());
                }
                name = tasks.ended_early() => break Err(Error::Ended(name)),
                Some(()) = reloads.recv(), if reading.is_empty() => {
                    reading.spawn(read_again(load.clone(), self.gates.clone()));
                }
                Some(read) = reading.join_next() => self.reload(read.unwrap_or_else(|error| Err(error.to_string()))),
            }
        };
        let summary = ending::end(self, tasks, signals).await;
        outcome.map(|()| summary)
    }
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
}

/// Waits until `flag` is set, or its sender is gone.
async fn flagged(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|set| *set).await;
}
