//! Telemetry's part of the YAML: `extensions.health_check` and `service.telemetry`.

use std::collections::BTreeMap;

use opentelemetry_otlp::OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT;
use serde::{Deserialize, Serialize};

pub use super::headers::Headers;
use crate::values::duration::{self, GoDuration};

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
    /// Resource attributes of the metrics, which add to forebay's own or replace them. One without a value is removed.
    pub resource: BTreeMap<String, Option<String>>,
}

/// `service.telemetry.logs`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// The lowest level that is printed.
    pub level: Level,
    /// The format of the messages.
    pub encoding: Encoding,
}

/// `service.telemetry.logs.level`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For developers of forebay; the lowest level.
    #[serde(alias = "trace")]
    Debug,
    /// For an operator to read afterwards.
    #[default]
    Info,
    /// For an operator to look at.
    #[serde(alias = "warning")]
    Warn,
    /// For an operator to act on; the highest level.
    #[serde(alias = "dpanic", alias = "panic", alias = "fatal")]
    Error,
    /// Nothing.
    #[serde(alias = "none")]
    Off,
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
    /// The readers of the metrics; an empty list turns the page off.
    pub readers: Vec<Reader>,
    /// `none` removes all readers. The other levels are alike.
    #[serde(skip_serializing)]
    pub level: Option<MetricsLevel>,
}

/// `service.telemetry.metrics.level`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum MetricsLevel {
    /// No metrics.
    None,
    /// All metrics.
    Basic,
    /// All metrics.
    Normal,
    /// All metrics.
    Detailed,
}

/// One element of `service.telemetry.metrics.readers`: either of the two.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reader {
    /// A page for scrapers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// A push at an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub periodic: Option<PeriodicConfig>,
}

/// `service.telemetry.metrics.readers[].periodic`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeriodicConfig {
    /// The time between two pushes.
    #[serde(with = "duration::milliseconds")]
    pub interval: GoDuration,
    /// The longest that one push may take.
    #[serde(with = "duration::milliseconds")]
    pub timeout: GoDuration,
    /// The destination.
    pub exporter: PushExporter,
}

/// `service.telemetry.metrics.readers[].periodic.exporter`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushExporter {
    /// By OTLP.
    pub otlp: OtlpConfig,
}

/// `service.telemetry.metrics.readers[].periodic.exporter.otlp`, as OpenTelemetry's declarative configuration has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// gRPC or HTTP.
    pub protocol: Protocol,
    /// `http://host:port`, and for `http/protobuf` a path, by default `/v1/metrics`.
    pub endpoint: String,
    /// Headers of each request.
    pub headers: Headers,
    /// The compression of requests.
    pub compression: Compression,
    /// The longest that one request may take; `periodic.timeout` limits it as well.
    #[serde(with = "duration::milliseconds")]
    pub timeout: GoDuration,
    /// The time from which counters and histograms count.
    pub temporality_preference: TemporalityPreference,
}

/// `service.telemetry.metrics.readers[].periodic.exporter.otlp.protocol`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// OTLP/gRPC.
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// OTLP/HTTP with protobuf.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// `service.telemetry.metrics.readers[].periodic.exporter.otlp.compression`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// `service.telemetry.metrics.readers[].periodic.exporter.otlp.temporality_preference`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TemporalityPreference {
    /// From forebay's start, as in Prometheus.
    #[default]
    Cumulative,
    /// From the previous push.
    Delta,
    /// From the previous push for instruments where that needs no memory.
    LowMemory,
}

/// `service.telemetry.metrics.readers[].pull`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pull {
    /// The format of the page.
    pub exporter: PullExporter,
}

/// `service.telemetry.metrics.readers[].pull.exporter`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PullExporter {
    /// A page in Prometheus format at `/metrics`.
    pub prometheus: PrometheusConfig,
}

/// `service.telemetry.metrics.readers[].pull.exporter.prometheus`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrometheusConfig {
    /// The address of the page.
    pub host: String,
    /// The port of the page.
    pub port: u16,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self { endpoint: "127.0.0.1:13133".to_owned(), path: "/".to_owned() }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        let pull = Reader { pull: Some(Pull::default()), periodic: None };
        Self { readers: vec![pull], level: None }
    }
}

impl Default for PeriodicConfig {
    fn default() -> Self {
        Self {
            interval: GoDuration::seconds(60),
            timeout: GoDuration::seconds(30),
            exporter: PushExporter::default(),
        }
    }
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            endpoint: "http://127.0.0.1:4317".to_owned(),
            headers: Headers::default(),
            compression: Compression::default(),
            timeout: GoDuration(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT),
            temporality_preference: TemporalityPreference::default(),
        }
    }
}

impl OtlpConfig {
    /// The endpoint of `http/protobuf`, with its path.
    pub(super) fn http_endpoint(&self) -> String {
        let host = self.endpoint.trim_end_matches('/');
        let has_path = host.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if has_path { self.endpoint.clone() } else { format!("{host}/v1/metrics") }
    }
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), port: 8888 }
    }
}
