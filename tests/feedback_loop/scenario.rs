//! One run: an application with one way of logging under the load, and what became of requests and entries.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Pool, PoolError, TimeoutType};
use forebay::embedded::Stop;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use support::forebay::Forebay;
use support::metrics::Scrape;
use support::postgres::{Database, Postgres};
use tokio_postgres::Client;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::application::{self, Application};
use crate::load::{Answer, Phase, drive};
use crate::log::{Log, Sink, TABLE};

/// forebay's `pool_size` as it comes.
pub const FOREBAY_POOL: u64 = 2;

/// PostgreSQL as it comes and durable, on a disk that takes 5 ms for a flush, as one on a network may. The disk of the
/// machine at hand may answer from its own memory, and a log entry would seem to cost nothing.
const SETTINGS: &[(&str, &str)] = &[("commit_delay", "5000"), ("commit_siblings", "0")];

/// As many as the SDK's queue has room for, nearly.
const CALLS: u64 = 2_000;

/// The ways to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Nowhere,
    Pool,
    Forebay,
    ForebayStopped,
}

/// The servers.
pub struct Bench {
    /// The application's, and forebay's as long as the two share one.
    postgres: Postgres,
    /// forebay's alone, which is stopped.
    stopped: Postgres,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    pub answers: Vec<Answer>,
    /// What each log call took, shortest first.
    pub calls: Vec<Duration>,
    pub entries: Entries,
    pub connections: Connections,
}

/// The entries' books.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entries {
    pub made: u64,
    /// In the database in the end.
    pub stored: u64,
    /// Not in the database in the end, and counted.
    pub lost: u64,
    /// In forebay's buffer when the load ended and the SDK had sent all of them.
    pub held: u64,
    /// Those of `stored` that are ERROR.
    pub errors: u64,
}

/// The most connections that were held for logging.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connections {
    /// Of the application's pool.
    pub application: u64,
    /// forebay's.
    pub forebay: u64,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Nowhere, Self::Pool, Self::Forebay, Self::ForebayStopped];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "no logging",
            Self::Pool => "INSERT by the same pool",
            Self::Forebay => "forebay, same database",
            Self::ForebayStopped => "forebay, its database stopped",
        }
    }
}

impl Bench {
    pub async fn start() -> Self {
        Self {
            postgres: Postgres::start_durable(SETTINGS).await,
            stopped: Postgres::start_durable(SETTINGS).await,
        }
    }

    /// All ways, one after the other.
    pub async fn round(&mut self, phases: &[Phase]) -> [Run; 4] {
        [
            self.run(Way::Nowhere, phases, &[]).await,
            self.run(Way::Pool, phases, &[]).await,
            self.run(Way::Forebay, phases, &[]).await,
            self.run(Way::ForebayStopped, phases, &[]).await,
        ]
    }

    /// What log calls take with nothing between them, shortest first. Under the load, each one finds the processor's
    /// caches as a failed request has left them.
    pub async fn calls_in_a_row(&self) -> Vec<Duration> {
        let database = self.postgres.database().await;
        let forebay = Forebay::ready(database.dsn(), &[]).await;
        let (provider, traces) = sdk(&forebay.endpoint());
        let log = Log::new(Sink::Traces);
        let error = PoolError::Timeout(TimeoutType::Wait);
        let calling = async {
            for number in 0..CALLS {
                log.failure(number, &error).await;
            }
        };
        calling.with_subscriber(traces).await;
        shut(provider).await;
        assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), CALLS);
        log.calls()
    }

    /// One way, in a new database; `sets` are forebay's.
    pub async fn run(&mut self, way: Way, phases: &[Phase], sets: &[&str]) -> Run {
        let database = self.postgres.database().await;
        match way {
            Way::Nowhere => logging_nowhere(&database, phases).await,
            Way::Pool => logging_by_the_pool(&database, phases).await,
            Way::Forebay => {
                let forebay = Forebay::ready(database.dsn(), sets).await;
                let logged = logging_by_forebay(&database, &forebay, phases, false).await;
                logged.settle(forebay, &database).await
            }
            Way::ForebayStopped => self.run_stopped(phases, sets, false).await,
        }
    }

    /// The way of [`Way::ForebayStopped`]; where it is `chatty`, the application logs each request at DEBUG as well.
    pub async fn run_stopped(&mut self, phases: &[Phase], sets: &[&str], chatty: bool) -> Run {
        let (database, own) = (self.postgres.database().await, self.stopped.database().await);
        let forebay = Forebay::ready(own.dsn(), sets).await;
        self.stopped.stop(Stop::Fast).await;
        let logged = logging_by_forebay(&database, &forebay, phases, chatty).await;
        self.stopped.start_again().await;
        logged.settle(forebay, &own).await
    }
}

async fn logging_nowhere(database: &Database, phases: &[Phase]) -> Run {
    let log = Arc::new(Log::new(Sink::Nowhere));
    let pool = application::pool(database.dsn());
    let (answers, _) = load(database, pool, &log, Dispatch::none(), phases).await;
    Run { answers, calls: Vec::new(), entries: Entries::default(), connections: Connections::default() }
}

async fn logging_by_the_pool(database: &Database, phases: &[Phase]) -> Run {
    let client = database.connect().await;
    client.batch_execute(TABLE).await.expect("a table");
    let pool = application::pool(database.dsn());
    let log = Arc::new(Log::new(Sink::Database(pool.clone())));
    let (answers, _) = load(database, pool, &log, Dispatch::none(), phases).await;
    let stored = count(&client, "SELECT count(DISTINCT request) FROM errors").await;
    let calls = log.calls();
    let entries = Entries { made: calls.len() as u64, stored, lost: log.lost(), held: 0, errors: stored };
    let connections = Connections { application: log.most_connections(), forebay: 0 };
    Run { answers, calls, entries, connections }
}

/// The load with the application's SDK sending to `forebay`; the SDK has sent everything.
async fn logging_by_forebay(
    database: &Database,
    forebay: &Forebay,
    phases: &[Phase],
    chatty: bool,
) -> Logged {
    let (provider, traces) = sdk(&forebay.endpoint());
    let log = Arc::new(Log::new(if chatty { Sink::ChattyTraces } else { Sink::Traces }));
    let pool = application::pool(database.dsn());
    let (answers, most) = load(database, pool, &log, traces, phases).await;
    shut(provider).await;
    let calls = log.calls();
    let connections = Connections { application: log.most_connections(), forebay: most };
    let requests = if chatty { answers.len() } else { 0 };
    let entries = Entries { made: (calls.len() + requests) as u64, ..Entries::default() };
    let scrape = forebay.scrape().await;
    assert_eq!(scrape.value("log_buffer_received_total"), entries.made, "all that the application logged");
    let entries = Entries { held: scrape.value("log_buffer_size"), ..entries };
    Logged(Run { answers, calls, entries, connections })
}

/// A run whose entries are still on their way through forebay.
struct Logged(Run);

impl Logged {
    /// Waits until forebay holds nothing any more, and compares its books with the rows in `database`.
    async fn settle(self, forebay: Forebay, database: &Database) -> Run {
        let Self(mut run) = self;
        forebay.becomes_ready().await;
        let scrape = forebay.settles().await;
        let client = database.connect().await;
        let distinct = "SELECT count(DISTINCT (attributes->>'request', severity)) FROM otel.logs";
        run.entries.stored = count(&client, "SELECT count(*) FROM otel.logs").await;
        run.entries.errors = count(&client, "SELECT count(*) FROM otel.logs WHERE severity = 'ERROR'").await;
        assert_eq!(count(&client, distinct).await, run.entries.stored, "no entry is stored twice");
        assert_eq!(scrape.value("log_buffer_flushed_total"), run.entries.stored);
        run.entries.lost = counted_losses(&scrape);
        assert_eq!(forebay.terminate().await.0, Some(0));
        run
    }
}

fn counted_losses(scrape: &Scrape) -> u64 {
    let names = ["log_buffer_dropped_total", "log_buffer_rejected_total", "log_buffer_dead_lettered_total"];
    names.into_iter().map(|name| scrape.value(name)).sum()
}

/// The SDK as README.md has it, and the subscriber that hands it what is traced.
fn sdk(endpoint: &str) -> (SdkLoggerProvider, Dispatch) {
    let exporter = opentelemetry_otlp::LogExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .expect("an exporter");
    let resource = Resource::builder().with_service_name("application").build();
    let provider = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let own = env!("CARGO_CRATE_NAME");
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target(own, LevelFilter::DEBUG);
    let bridge = OpenTelemetryTracingBridge::new(&provider).with_filter(filter);
    (provider, Dispatch::new(tracing_subscriber::registry().with(bridge)))
}

/// Ends the SDK, which sends what it still has.
async fn shut(provider: SdkLoggerProvider) {
    let end = tokio::task::spawn_blocking(move || provider.shutdown()).await;
    end.expect("its end").expect("all entries are sent");
}

/// Drives an application by `phases`; gives the answers, and the most connections that forebay had to the
/// application's server.
async fn load(
    database: &Database,
    pool: Pool,
    log: &Arc<Log>,
    traces: Dispatch,
    phases: &[Phase],
) -> (Vec<Answer>, u64) {
    let client = database.connect().await;
    let application = Application::start(pool, log.clone(), traces);
    let mut most = 0;
    let sampling = async {
        loop {
            let held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forebay'";
            most = most.max(count(&client, held).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answers = tokio::select! {
        answers = drive(application.address(), phases) => answers,
        () = sampling => unreachable!("it has no end"),
    };
    (answers, most)
}

async fn count(client: &Client, query: &str) -> u64 {
    client.query_one(query, &[]).await.expect("a number").get::<_, i64>(0) as u64
}

impl Run {
    pub fn failed(&self) -> u64 {
        self.answers.iter().filter(|answer| !answer.served).count() as u64
    }

    pub fn served(&self) -> u64 {
        self.answers.len() as u64 - self.failed()
    }

    /// What requests took, shortest first.
    pub fn latencies(&self) -> Vec<Duration> {
        let mut latencies: Vec<_> = self.answers.iter().map(|answer| answer.took).collect();
        latencies.sort();
        latencies
    }
}
