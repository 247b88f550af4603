//! The configuration: the Collector's YAML in, the [`Config`] that forebay runs on out.
//!
//! This is the only place that reads YAML and the environment. Files are merged in their order,
//! `--set` goes on top, `${env:NAME}` is expanded, and then every key is either understood or
//! refused by name; nothing is ignored. Each stage owns its own part (`receiver::config`,
//! `buffer::config`, ...) with its defaults; here they are composed and checked.

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
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

pub use error::{ConfigError, KeyError};
pub use expand::Env;
pub use print::mapping_to_yaml;

use crate::buffer::config::BatchConfig;
use crate::receiver::config::Protocols;
use crate::telemetry::config::HealthCheckConfig;
use crate::{exporter, memory, receiver, telemetry};

/// What forebay runs on.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// OTLP in.
    pub receiver: receiver::config::Config,
    /// The bound on the whole process, where the pipeline names it.
    pub memory: Option<memory::config::Config>,
    /// When a batch is due. Its sizes agree with each other and with the queue's.
    pub batch: BatchConfig,
    /// PostgreSQL out, with the queue in front of it.
    pub exporter: exporter::config::Config,
    /// The health page, where `service.extensions` names it.
    pub health: Option<HealthCheckConfig>,
    /// forebay's own logs and metrics.
    pub telemetry: telemetry::config::Config,
}

/// Loads `files` (or what stands in `env:NAME` or `yaml:TEXT`) in their order, or the shipped `otel-config.yaml` where there is none, with
/// `sets` (`path=value`) on top and the process's environment.
pub fn load(files: &[PathBuf], sets: &[String]) -> Result<Config, ConfigError> {
    // A value that is not UTF-8 must fail as the value it is, not pass for a variable that is unset.
    load_with(files, sets, &|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

/// [`load`] with an environment of the caller's.
pub fn load_with(files: &[PathBuf], sets: &[String], env: Env<'_>) -> Result<Config, ConfigError> {
    load_texts(&source::texts(files, env)?, sets, env)
}

/// [`load_with`] of files that have been read already: name and text of each.
pub fn load_texts(texts: &[(String, String)], sets: &[String], env: Env<'_>) -> Result<Config, ConfigError> {
    let mut tree = source::tree(texts, sets)?;
    document::name_components(&mut tree);
    build(&tree, env).map_err(|error| {
        let variables = tree::variables_at(&tree, error.path(), env);
        ConfigError::Key(error.taken_from(variables))
    })
}

impl fmt::Display for Config {
    /// The record's way in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Protocols { grpc, http } = &self.receiver.protocols;
        let grpc = grpc.as_ref().map(|grpc| format!("OTLP/gRPC on {}", grpc.endpoint));
        let http = http.as_ref().map(|http| format!("OTLP/HTTP on {}", http.endpoint));
        write!(
            f,
            "{} -> {} records -> schema {} over {} connections",
            grpc.into_iter().chain(http).collect::<Vec<_>>().join(", "),
            self.exporter.sending_queue.queue_size,
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

/// The setting of where PostgreSQL is, where it is not set: the key, or the variable in whose place it has a default.
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

/// A batch can never hold more than the queue, and one that waits for more would wait for `timeout`
/// with the queue full.
fn fit(batch: &mut BatchConfig, queue_size: usize) {
    if batch.send_batch_max_size == 0 {
        batch.send_batch_max_size = queue_size;
    }
    batch.send_batch_max_size = batch.send_batch_max_size.min(queue_size);
    batch.send_batch_size = batch.send_batch_size.min(queue_size);
}
