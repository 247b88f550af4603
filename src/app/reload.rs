//! SIGHUP: the configuration is read again, and the keys that can change at run time are applied. The others are logged, and
//! need a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{App, check};
use crate::config::{Config, ConfigError};
use crate::receiver::Gates;
use crate::supervisor;

/// Reads the configuration from the same sources as at the start.
pub type Load = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// The longest that reading may take: a file may be on a hanging disk.
const READING: Duration = Duration::from_secs(10);

/// The keys that are applied; a path that ends with a dot stands for all keys under it.
const LIVE: &[&str] = &[
    "processors.batch.",
    "processors.memory_limiter.",
    "exporters.postgres.sending_queue.overflow",
    "exporters.postgres.sending_queue.overflow_weights.",
    "exporters.postgres.sending_queue.fairness.beyond",
    "exporters.postgres.retry_on_failure.",
    "exporters.postgres.shutdown_timeout",
    "service.telemetry.logs.level",
];

/// Whether a new value of the key at `path` is applied at run time.
pub fn is_live(path: &str) -> bool {
    LIVE.iter().any(|live| path == *live || (live.ends_with('.') && path.starts_with(live)))
}

/// Reads the configuration again. If it is valid, certificates, tokens and passwords are reloaded as well, since their files may
/// have changed under the same names. It takes up to twice [`READING`], while everything else goes on.
pub(super) async fn read_again(load: Load, gates: Arc<Gates>) -> Result<Config, String> {
    supervisor::reloading();
    let reading = tokio::task::spawn_blocking(move || {
        let config = load().map_err(|error| error.to_string())?;
        check(&config).map_err(|error| error.to_string())?;
        Ok(config)
    });
    let read = timeout(READING, reading).await;
    let read = read.unwrap_or_else(|_| Ok(Err(format!("it could not be read within {READING:?}"))));
    let config = read.unwrap_or_else(|error| Err(error.to_string()))?;
    if timeout(READING, tokio::task::spawn_blocking(move || gates.reload())).await.is_err() {
        error!("the files of TLS and authentication could not be read within {READING:?}");
    }
    Ok(config)
}

impl App {
    /// Applies a configuration that was read again, as far as possible. An invalid one changes nothing.
    pub(super) fn reload(&mut self, read: Result<Config, String>) {
        match read {
            Ok(config) => self.take_over(&config),
            Err(error) => error!(error, "the configuration is refused; the one in force stays"),
        }
        supervisor::ready();
    }

    fn take_over(&mut self, new: &Config) {
        let changes = self.config.changes(new);
        let (live, fixed): (Vec<_>, Vec<_>) = changes.into_iter().partition(|path| self.takes(path, new));
        let level = new.telemetry.logs.level;
        // If the new level logs less, the result of this reload is still logged.
        self.level.set(level.min(self.config.telemetry.logs.level));
        self.apply(new);
        if live.is_empty() && fixed.is_empty() {
            info!("the configuration was read again; nothing has changed");
        }
        if !live.is_empty() {
            info!(keys = live.join(", "), "the configuration was read again; these are in force");
        }
        if !fixed.is_empty() {
            warn!(keys = fixed.join(", "), "the configuration was read again; these need a restart");
        }
        self.level.set(level);
    }

    fn takes(&self, path: &str, new: &Config) -> bool {
        let has_limiter = self.limiter.is_some() && new.memory.is_some();
        is_live(path) && (has_limiter || !path.starts_with("processors.memory_limiter."))
    }

    /// Applies the live keys of `new`.
    fn apply(&mut self, new: &Config) {
        let Config { memory, batch, exporter, telemetry, .. } = new;
        let own = &mut self.config;
        own.batch = batch.clone();
        self.buffer.set_batch(batch);
        let (queue, own_queue) = (&exporter.sending_queue, &mut own.exporter.sending_queue);
        own_queue.overflow = queue.overflow;
        own_queue.overflow_weights = queue.overflow_weights;
        own_queue.fairness.beyond = queue.fairness.beyond;
        self.buffer.set_fairness(&queue.overflow_weights, queue.fairness.beyond);
        self.buffer.set_overflow(queue.overflow);
        own.exporter.retry_on_failure = exporter.retry_on_failure.clone();
        self.store.set_retry(exporter.retry_on_failure.clone());
        // It is read when the end begins.
        own.exporter.shutdown_timeout = exporter.shutdown_timeout;
        if let (Some(limiter), Some(memory)) = (&self.limiter, memory) {
            own.memory = Some(memory.clone());
            limiter.limit(memory);
        }
        own.telemetry.logs.level = telemetry.logs.level;
    }
}
