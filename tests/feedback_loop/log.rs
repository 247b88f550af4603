//! Where the application's log entries go, and what that takes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{Pool, PoolError};

use crate::application::PATIENCE;

/// The application's own table of errors.
pub const TABLE: &str = "CREATE TABLE errors (id bigserial PRIMARY KEY, time timestamptz NOT NULL DEFAULT now(), \
                         request bigint NOT NULL, patience_ms bigint NOT NULL, error text NOT NULL, message text NOT NULL)";
const INSERT: &str = "INSERT INTO errors (request, patience_ms, error, message) VALUES ($1, $2, $3, $4)";
const MESSAGE: &str = "no connection to the database";

/// The application's log.
pub struct Log {
    sink: Sink,
    calls: Mutex<Vec<Duration>>,
    lost: AtomicU64,
    connections: Level,
}

/// Where entries go.
pub enum Sink {
    Nowhere,
    /// Each one by a transaction, on a connection of this pool.
    Database(Pool),
    /// To whom the thread's subscriber hands them.
    Traces,
    /// The same, and each request is an entry at DEBUG as well.
    ChattyTraces,
}

impl Log {
    pub fn new(sink: Sink) -> Self {
        Self { sink, calls: Mutex::default(), lost: AtomicU64::new(0), connections: Level::default() }
    }

    /// A request begins.
    pub fn request(&self, request: u64) {
        if matches!(self.sink, Sink::ChattyTraces) {
            tracing::debug!(request, "the database is asked");
        }
    }

    /// Makes the entry of a failed request.
    pub async fn failure(&self, request: u64, error: &PoolError) {
        let began = Instant::now();
        let patience = PATIENCE.as_millis() as i64;
        match &self.sink {
            Sink::Nowhere => return,
            Sink::Database(pool) => {
                if self.insert(pool, request, patience, error).await.is_err() {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            Sink::Traces | Sink::ChattyTraces => {
                tracing::error!(request, patience_ms = patience, %error, "{MESSAGE}")
            }
        }
        let took = began.elapsed();
        self.calls.lock().unwrap().push(took);
    }

    async fn insert(
        &self,
        pool: &Pool,
        request: u64,
        patience: i64,
        error: &PoolError,
    ) -> Result<(), PoolError> {
        let mut connection = pool.get().await?;
        let _held = self.connections.rise();
        let insert = connection.prepare_cached(INSERT).await?;
        let transaction = connection.transaction().await?;
        transaction.execute(&insert, &[&(request as i64), &patience, &error.to_string(), &MESSAGE]).await?;
        Ok(transaction.commit().await?)
    }

    /// What each call took so far, shortest first.
    pub fn calls(&self) -> Vec<Duration> {
        let mut calls = self.calls.lock().unwrap().clone();
        calls.sort();
        calls
    }

    /// The entries that it knows to have lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The most connections of the application that were held for logging at once.
    pub fn most_connections(&self) -> u64 {
        self.connections.most.load(Ordering::Relaxed)
    }
}

/// A level that rises and falls, and its highest.
#[derive(Default)]
struct Level {
    now: AtomicU64,
    most: AtomicU64,
}

/// One step of it; it falls when this is dropped.
struct Step<'a>(&'a Level);

impl Level {
    fn rise(&self) -> Step<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Step(self)
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}
