//! A private PostgreSQL for `dsn: embedded`: forebay's first minutes without a database of one's own.
//!
//! The server is the one installed on the machine; nothing is downloaded. (The `postgresql_embedded` crate fetches binaries of
//! its own, for which no distribution provides fixes.) The cluster is kept between runs, durable, reachable from this machine
//! only, and its server ends with forebay. The leftovers of a killed forebay, a running server or a half-made cluster, are
//! cleaned up at the next start.
//!
//! forebay uses [`Embedded`]. [`Cluster`] and [`Server`] are its two halves, for tests that stop, kill and restart servers.

mod account;
mod binaries;
mod cluster;
mod error;
mod home;
mod keep;
mod lock;
mod log;
mod own;
mod passfile;
mod process;
mod server;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::metrics::Meter;
use tokio::time::{Instant, sleep};
use tracing::info;

pub use cluster::{Access, Cluster, Options};
pub use error::Error;
pub use process::Stop;
pub use server::Server;

/// The role that owns a cluster made here, and the database it is given.
pub const NAME: &str = "forebay";

/// The settings of forebay's own cluster that differ from PostgreSQL's defaults. They are written once, into the new cluster's
/// `postgresql.conf`, so that the operator can change them there.
const SETTINGS: &[(&str, &str)] = &[
    ("max_connections", "30"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_checkpoints", "off"),
    ("log_autovacuum_min_duration", "-1"),
    // The exporter reports refused rows; the logged statement would only repeat the COPY.
    ("log_min_error_statement", "panic"),
];

/// How long to wait for a server that another forebay is starting again.
const DOWN_LIMIT: Duration = Duration::from_secs(10);
/// How often to check whether it runs.
const LOOK: Duration = Duration::from_millis(200);

/// A private PostgreSQL that can be connected to.
#[derive(Debug)]
pub enum Reached {
    /// Another forebay runs it, or left it running; this is the connection string.
    Running(String),
    /// None was running.
    Started(Box<Embedded>),
    /// No forebay has made one yet.
    Nothing,
}

/// Reaches the private PostgreSQL in `dir` for a command: the one that another forebay runs, or one that is started for this.
pub async fn reach(dir: &Path) -> Result<Reached, Error> {
    if !dir.join("cluster").exists() && !home::is_kept(dir) {
        return Ok(Reached::Nothing);
    }
    let limit = Instant::now() + DOWN_LIMIT;
    loop {
        if let Some(dsn) = server::running(dir) {
            return Ok(Reached::Running(dsn));
        }
        match Embedded::start(dir).await {
            Err(Error::Locked { .. }) if Instant::now() < limit => sleep(LOOK).await,
            Err(Error::Locked { dir, pid }) => return Err(Error::Down { dir, pid }),
            started => return started.map(|embedded| Reached::Started(Box::new(embedded))),
        }
    }
}

/// The connection string of the private PostgreSQL in `dir`, if it runs.
pub fn running(dir: &Path) -> Option<String> {
    server::running(dir)
}

/// A running private PostgreSQL. Dropping it without [`stop`](Embedded::stop) still ends the server, unwaited for.
#[derive(Debug)]
pub struct Embedded {
    // Declared before the cluster, whose lock must be the last thing to go.
    server: Server,
    cluster: Cluster,
    /// How often it was started again after it had ended by itself.
    restarts: Arc<AtomicU64>,
}

impl Embedded {
    /// Starts the cluster that is kept in `data_dir`; makes both where they do not exist yet.
    ///
    /// A first start takes a second or two, most of it in `initdb`; every wait in it has a bound.
    pub async fn start(data_dir: &Path) -> Result<Self, Error> {
        let options = Options { access: Access::Password, durable: true, settings: SETTINGS, programs: None };
        let cluster = Cluster::open(data_dir, &options).await?;
        let server = cluster.start().await?;
        let embedded = Self { server, cluster, restarts: Arc::default() };
        let (version, port) = (embedded.cluster.version(), embedded.server.port());
        info!(version, port, "private PostgreSQL started");
        // On a line of its own, so that it can be copied whole.
        info!("to look in: {}", embedded.psql_command());
        Ok(embedded)
    }

    /// Registers the counter of restarts.
    pub fn observe(&self, meter: &Meter) {
        let restarts = self.restarts.clone();
        meter
            .u64_observable_counter("log_buffer_postgresql_restarts")
            .with_description(
                "Times that the private PostgreSQL was started again after it had ended by itself.",
            )
            .with_callback(move |counter| counter.observe(restarts.load(Ordering::Relaxed), &[]))
            .build();
    }

    /// The connection string: the Unix socket, the database and its owner, and the password.
    pub fn dsn(&self) -> String {
        self.server.dsn(NAME, self.cluster.password())
    }

    /// The line to paste into a shell to look into the database.
    pub fn psql_command(&self) -> String {
        let passfile = shell_word(&self.cluster.passfile().to_string_lossy());
        format!("PGPASSFILE={passfile} psql -h 127.0.0.1 -p {} -U {NAME} {NAME}", self.server.port())
    }

    /// Shuts the server down: fast, and by force if it takes too long.
    pub async fn stop(self) -> Result<(), Error> {
        self.server.stop(Stop::Fast).await?;
        info!("private PostgreSQL stopped");
        Ok(())
    }
}

/// `text` as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@,:%".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
