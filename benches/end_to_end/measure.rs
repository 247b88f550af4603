//! One measurement: a fresh forebay, an empty table, and what each process has used meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::corpus::Corpus;
use support::forebay::{Forebay, arguments, command_of};
use support::postgres::{Database, Postgres};
use support::usage;

use crate::generator::{self, Answers, Load};
use crate::raw_copy;
use crate::transport::Transport;

/// PostgreSQL as it comes, durable, but with its checkpoints out of the way, and with the WAL's files used again, as in
/// a server that has run for a while.
const SETTINGS: &[(&str, &str)] = &[
    ("max_wal_size", "8GB"),
    ("min_wal_size", "2GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    // For the freshness.
    ("track_commit_timestamp", "on"),
];

/// The server, and the rows for the limit.
pub struct Bench {
    postgres: Postgres,
    database: Database,
    rows: Arc<Vec<Bytes>>,
    size: u64,
}

/// What has no room is not lost, and shows in the table.
const REFUSE: [&str; 1] = ["exporters.postgres.sending_queue.overflow=reject"];

/// What came of one measurement.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub records: u64,
    pub elapsed: Duration,
    /// Until the last answer.
    pub answered: Duration,
    /// Bytes to the disk, by forebay.
    pub written: u64,
    pub cpu_forebay: Duration,
    pub cpu_postgres: Duration,
    pub cpu_generator: Duration,
    pub peak_resident: u64,
    pub peak_held: u64,
    pub batches: u64,
    /// Sorted.
    pub waits: Vec<Duration>,
    pub refused: u64,
    /// From the record's time to its commit, 50th and 99th percentile.
    pub freshness: Option<(Duration, Duration)>,
}

impl Bench {
    pub async fn start(corpus: &Corpus) -> Self {
        let postgres = Postgres::start_durable(SETTINGS).await;
        let database = postgres.database().await;
        Self { postgres, database, rows: raw_copy::bytes(&corpus.rows()), size: corpus.size }
    }

    /// Sends as fast as forebay takes it.
    pub async fn full_speed(
        &self,
        binary: &str,
        corpus: &Arc<Corpus>,
        load: &Load,
        sets: &[&str],
        durable: bool,
    ) -> Run {
        let sets = [&REFUSE, sets].concat();
        let send = async |address| generator::at_full_speed(address, corpus, load).await;
        self.measure(binary, load.transport, &sets, durable, corpus.size, send).await
    }

    /// Sends a request every `pace`.
    pub async fn paced(
        &self,
        binary: &str,
        corpus: &Arc<Corpus>,
        pace: Duration,
        length: Duration,
        durable: bool,
    ) -> Run {
        let send = async |address| generator::at_a_pace(address, corpus, pace, length).await;
        let mut run = self.measure(binary, Transport::Grpc, &REFUSE, durable, corpus.size, send).await;
        run.freshness = Some(self.freshness().await);
        run
    }

    /// Replays the rows of as many requests by plain COPY, those of `in_one` requests at a time, or all.
    pub async fn raw_copy(&self, requests: u64, in_one: Option<usize>) -> Run {
        self.empty_table().await;
        let before = usage::cpu_with_children(self.postgres.pid());
        let elapsed = raw_copy::replay(&self.database, &self.rows, requests, in_one).await;
        let cpu_postgres = usage::cpu_with_children(self.postgres.pid()) - before;
        Run {
            records: requests * self.size,
            elapsed,
            cpu_postgres,
            batches: in_one.map_or(2, |in_one| requests / in_one as u64),
            ..Run::default()
        }
    }

    async fn measure(
        &self,
        binary: &str,
        transport: Transport,
        sets: &[&str],
        durable: bool,
        size: u64,
        send: impl AsyncFnOnce(SocketAddr) -> Answers,
    ) -> Run {
        let mut command = command_of(binary);
        command.env("DATABASE_URL", self.database.dsn()).args(arguments(sets));
        let queue = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        if durable {
            command.env("LOG_BUFFER_STORAGE_DIRECTORY", queue.path());
        }
        let forebay = Forebay::spawn(command).await;
        forebay.becomes_ready().await;
        self.empty_table().await;
        let (own, pid, server) = (std::process::id(), forebay.pid(), self.postgres.pid());
        let used = || [usage::cpu(own), usage::cpu(pid), usage::cpu_with_children(server)];
        let before = used();
        let started = Instant::now();
        let grpc = forebay.endpoint();
        let address = match transport {
            Transport::Grpc => grpc.trim_start_matches("http://"),
            Transport::Http | Transport::Json => forebay.http_address(),
        };
        let address = address.parse().unwrap();
        let mut peak_held = 0;
        let sampling = async {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                peak_held = peak_held.max(forebay.scrape().await.value("log_buffer_bytes"));
            }
        };
        let mut answers = tokio::select! {
            answers = send(address) => answers,
            () = sampling => unreachable!("it has no end"),
        };
        let answered = started.elapsed();
        let scrape = loop {
            let scrape = forebay.scrape().await;
            let on_disk = if durable { scrape.value("log_buffer_disk_records") } else { 0 };
            if scrape.value("log_buffer_size") + on_disk == 0 {
                break scrape;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        let elapsed = started.elapsed();
        let after = used();
        scrape.assert_balanced();
        let flushed = scrape.value("log_buffer_flushed_total");
        assert_eq!(flushed, answers.waits.len() as u64 * size, "what was taken is stored");
        answers.waits.sort();
        let [cpu_generator, cpu_forebay, cpu_postgres] = [0, 1, 2].map(|index| after[index] - before[index]);
        let run = Run {
            records: flushed,
            elapsed,
            answered,
            written: usage::written(pid),
            cpu_forebay,
            cpu_postgres,
            cpu_generator,
            peak_resident: usage::peak_resident(pid),
            peak_held,
            batches: scrape.value("log_buffer_batch_size_count"),
            waits: answers.waits,
            refused: answers.refused,
            freshness: None,
        };
        assert_eq!(forebay.terminate().await.0, Some(0));
        run
    }

    /// The server's version.
    pub async fn version(&self) -> String {
        self.database.connect().await.query_one("SHOW server_version", &[]).await.unwrap().get(0)
    }

    async fn empty_table(&self) {
        let client = self.database.connect().await;
        let exists = "SELECT to_regclass('otel.log_records') IS NOT NULL";
        if client.query_one(exists, &[]).await.unwrap().get(0) {
            client.batch_execute("TRUNCATE otel.log_records").await.unwrap();
        }
        client.batch_execute("CHECKPOINT").await.unwrap();
    }

    async fn freshness(&self) -> (Duration, Duration) {
        let client = self.database.connect().await;
        let percentiles = "SELECT percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY
            extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 - time_unix_nano / 1e9::float8)
            FROM otel.log_records";
        let found: Vec<f64> = client.query_one(percentiles, &[]).await.unwrap().get(0);
        (Duration::from_secs_f64(found[0].max(0.0)), Duration::from_secs_f64(found[1].max(0.0)))
    }
}

impl Run {
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    /// Microseconds of `cpu` for each record.
    pub fn per_record(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.records as f64
    }

    /// The wait for an answer at this share of the answers, in milliseconds.
    pub fn wait(&self, share: f64) -> f64 {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get((last as f64 * share) as usize).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
    }
}
