//! Telemetry's part of the YAML: `extensions.health_check` and `service.telemetry`.

use serde::{Deserialize, Serialize};

/// `extensions.health_check`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheckConfig {
    /// Address and port of the health page.
    pub endpoint: String,
    /// Its path.
    pub path: String,
}

/// `service.telemetry`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// forebay's own messages, on stderr.
    pub logs: LogsConfig,
    /// forebay's own metrics.
    pub metrics: MetricsConfig,
}

/// `service.telemetry.logs`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// The least severe messages that are printed.
    pub level: Level,
    /// How they are printed.
    pub encoding: Encoding,
}

/// `service.telemetry.logs.level`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For those who work on forebay.
    Debug,
    /// What an operator wants to have read afterwards.
    #[default]
    Info,
    /// What an operator should look at.
    Warn,
    /// What an operator must look at.
    Error,
}

/// `service.telemetry.logs.encoding`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// One line for people.
    #[default]
    Console,
    /// One JSON object a line.
    Json,
}

/// `service.telemetry.metrics`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Who reads the metrics; an empty list turns the page off.
    pub readers: Vec<Reader>,
}

/// One element of `service.telemetry.metrics.readers`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reader {
    /// A reader that asks.
    pub pull: Pull,
}

/// `service.telemetry.metrics.readers[].pull`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pull {
    /// What it asks.
    pub exporter: PullExporter,
}

/// `service.telemetry.metrics.readers[].pull.exporter`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PullExporter {
    /// A page in Prometheus' format at `/metrics`.
    pub prometheus: PrometheusConfig,
}

/// `service.telemetry.metrics.readers[].pull.exporter.prometheus`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrometheusConfig {
    /// Address of the page.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self { endpoint: "127.0.0.1:13133".to_owned(), path: "/".to_owned() }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { readers: vec![Reader::default()] }
    }
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), port: 8888 }
    }
}
