//! The configuration: the Collector's YAML in, the [`Config`] that forebay runs on out.
//!
//! Only this module reads YAML and the environment. It merges the files in their order, applies `--set`, expands
//! `${env:NAME}`, and refuses every unknown key by name; nothing is ignored. Each stage owns its part (`receiver::config`,
//! `buffer::config`, ...) with its defaults; this module composes and checks them.

mod absent;
mod changes;
mod check;
mod document;
mod error;
mod expand;
mod extensions;
mod print;
mod source;
mod spellings;
mod storage;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

pub use error::{ConfigError, KeyError};
pub use expand::Env;
pub use print::mapping_to_yaml;

use crate::buffer::config::{BatchConfig, StorageConfig};
use crate::receiver::config::Protocols;
use crate::telemetry::config::HealthCheckConfig;
use crate::{exporter, memory, receiver, telemetry};

/// The complete configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// OTLP in.
    pub receiver: receiver::config::Config,
    /// The memory limit of the whole process, if the pipeline names it.
    pub memory: Option<memory::config::Config>,
    /// When a batch is written. Its sizes agree with each other and with the queue's.
    pub batch: BatchConfig,
    /// PostgreSQL out, with the queue in front of it.
    pub exporter: exporter::config::Config,
    /// The queue on disk, if there is one.
    pub storage: Option<StorageConfig>,
    /// The health page, if `service.extensions` names it.
    pub health: Option<HealthCheckConfig>,
    /// forebay's own logs and metrics.
    pub telemetry: telemetry::config::Config,
}

/// Loads `files` in their order (or the text of `env:NAME` or `yaml:TEXT`), or the shipped `otel-config.yaml` if there is none.
/// `sets` (`path=value`) override them; references are expanded with the process's environment.
pub fn load(files: &[PathBuf], sets: &[String]) -> Result<Config, ConfigError> {
    // A variable that is not UTF-8 must be refused by its value, not count as unset.
    load_with(files, sets, &|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

/// [`load`] with the caller's environment.
pub fn load_with(files: &[PathBuf], sets: &[String], env: Env<'_>) -> Result<Config, ConfigError> {
    load_texts(&source::texts(files, env)?, sets, env)
}

/// [`load_with`] for files that are read already: the name and text of each.
pub fn load_texts(texts: &[(String, String)], sets: &[String], env: Env<'_>) -> Result<Config, ConfigError> {
    let mut tree = source::tree(texts, sets)?;
    document::name_components(&mut tree);
    build(&tree, env).map_err(|error| {
        let variables = tree::variables_at(&tree, error.path(), env);
        ConfigError::Key(error.taken_from(variables))
    })
}

impl fmt::Display for Config {
    /// The way of a record through forebay, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Protocols { grpc, http } = &self.receiver.protocols;
        let grpc = grpc.as_ref().map(|grpc| format!("OTLP/gRPC on {}", grpc.endpoint));
        let http = http.as_ref().map(|http| format!("OTLP/HTTP on {}", http.endpoint));
        let disk = self.storage.as_ref().map(|storage| {
            format!(" in memory, {} in {}", storage.max_size, storage.files.directory.display())
        });
        write!(
            f,
            "{} -> {} records{} -> schema {} over {} connections",
            grpc.into_iter().chain(http).collect::<Vec<_>>().join(", "),
            self.exporter.sending_queue.queue_size,
            disk.unwrap_or_default(),
            self.exporter.schema,
            self.exporter.pool_size,
        )
    }
}

fn build(tree: &Value, env: Env<'_>) -> Result<Config, KeyError> {
    let document = tree::read::<document::Document>(tree, env).map_err(KeyError::explained)?;
    let mut config = document.resolve()?;
    spellings::fold(&mut config, tree)?;
    let largest = ["processors.batch.send_batch_max_size", "exporters.postgres.sending_queue.batch.max_size"];
    if !largest.iter().any(|key| spellings::written(tree, key)) {
        config.batch.send_batch_max_size = config.batch.send_batch_max_size.max(config.batch.send_batch_size);
    }
    check::check(&config)?;
    fit(&mut config.batch, config.exporter.sending_queue.queue_size);
    config.exporter.dsn.unset = unset_dsn(tree, env);
    Ok(config)
}

/// If nobody has set where PostgreSQL is: the key that is missing, or the unset variable in its value.
fn unset_dsn(tree: &Value, env: Env<'_>) -> Option<String> {
    let key = "exporters.postgres.dsn";
    if !spellings::written(tree, key) {
        return Some(key.to_owned());
    }
    let text = tree.pointer("/exporters/postgres/dsn").and_then(Value::as_str)?;
    let variables = expand::variables(text, env);
    let is_set = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.trim_end().is_empty());
    let is_default = variables.iter().all(|(_, value)| !is_set(value));
    variables.into_iter().next().filter(|_| is_default).map(|(name, _)| name)
}

/// Limits batches to the queue's size: a batch that waits for more would wait for `timeout` while the queue is full.
fn fit(batch: &mut BatchConfig, queue_size: usize) {
    if batch.send_batch_max_size == 0 {
        batch.send_batch_max_size = queue_size;
    }
    batch.send_batch_max_size = batch.send_batch_max_size.min(queue_size);
    batch.send_batch_size = batch.send_batch_size.min(queue_size);
}
