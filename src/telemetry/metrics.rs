//! forebay's own metrics: OpenTelemetry instruments, rendered as Prometheus text.
//!
//! The registry is private, so that metrics that another library registers globally are not on the page. Instruments are read when
//! the page is requested, in the caller's thread (well under a millisecond). Callbacks must not block: read an atomic, or hold a lock
//! for a moment.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use uuid::Uuid;

use super::config::Config;
use super::push::Push;
use super::{Error, process};

/// All instruments of the program, and their page.
///
/// # Naming instruments
///
/// The exposed name is `<instrument's name>[_<unit>][_total]`; the instrument's own name carries neither suffix.
///
/// - A counter gets `_total`: create `log_buffer_flushed`, never `log_buffer_flushed_total`.
/// - The units `s` and `By` add `_seconds` and `_bytes`, before `_total`: a histogram `log_buffer_flush_duration`
///   with unit `s` is `log_buffer_flush_duration_seconds`; a counter `otelcol_process_uptime` with unit `s` is
///   `otelcol_process_uptime_seconds_total`.
/// - No unit, or one in braces such as `{record}`, adds nothing. Never use the unit `1` (it adds `_ratio`), nor a
///   unit whose name the instrument has already (`log_buffer_bytes` has no unit: it would double).
/// - A name belongs to one instrument: the scope is not a label, and two kinds under one name lose the second.
/// - A synchronous instrument is absent from the page until its first measurement. Prefer observable ones, which
///   show 0 from the start, or `add(0, labels)` once for each member of the closed set of labels.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Metrics {
    /// Metrics with a page only.
    pub fn new() -> Result<Self, Error> {
        Self::with(&Config::default()).map(|(metrics, _)| metrics)
    }

    /// Metrics of the process and `target_info`, and the pushes that `config` asks for, to be run by the caller. Call this within a
    /// Tokio runtime. The uptime counts from this call.
    pub fn with(config: &Config) -> Result<(Self, Vec<Push>), Error> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| Error::Setup(error.into()))?;
        let mut builder = SdkMeterProvider::builder().with_resource(resource(config)).with_reader(exporter);
        let mut pushes = Vec::new();
        for periodic in config.metrics.readers.iter().filter_map(|reader| reader.periodic.as_ref()) {
            let (push, reader) = Push::new(periodic, &periodic.exporter.otlp)?;
            builder = builder.with_reader(reader);
            pushes.push(push);
        }
        let metrics = Self { registry, provider: builder.build() };
        process::register(&metrics.meter("process"));
        Ok((metrics, pushes))
    }

    /// A meter for the stage called `name`. The name is not exposed.
    pub fn meter(&self, name: &'static str) -> Meter {
        self.provider.meter(name)
    }

    /// The page, in Prometheus' text format 0.0.4.
    pub fn render(&self) -> Result<String, Error> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| Error::Render(error.into()))
    }

    /// Ends measuring; later pages are empty. Call it once, last of all.
    pub fn shutdown(&self) -> Result<(), Error> {
        self.provider.shutdown().map_err(|error| Error::Shutdown(error.into()))
    }
}

/// The resource of the metrics.
fn resource(config: &Config) -> Resource {
    let mut attributes = BTreeMap::from([
        ("service.name".to_owned(), Some(env!("CARGO_PKG_NAME").to_owned())),
        ("service.version".to_owned(), Some(env!("CARGO_PKG_VERSION").to_owned())),
    ]);
    if config.metrics.readers.iter().any(|reader| reader.periodic.is_some()) {
        // The receiver of a push cannot tell several forebays apart by their address.
        attributes.insert("service.instance.id".to_owned(), Some(Uuid::new_v4().to_string()));
    }
    attributes.extend(config.resource.clone());
    let attributes = attributes.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key, value?)));
    Resource::builder_empty().with_attributes(attributes).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the page that belong to `family`.
    fn family(page: &str, family: &str) -> Vec<String> {
        page.lines().filter(|line| line.contains(family)).map(str::to_owned).collect()
    }

    #[test]
    fn a_counter_gets_total_and_nothing_else() {
        let metrics = Metrics::new().unwrap();
        metrics
            .meter("test")
            .u64_observable_counter("log_buffer_flushed")
            .with_description("Records written.")
            .with_unit("{record}")
            .with_callback(|counter| counter.observe(7, &[]))
            .build();
        assert_eq!(
            family(&metrics.render().unwrap(), "log_buffer_flushed"),
            [
                "# HELP log_buffer_flushed_total Records written.",
                "# TYPE log_buffer_flushed_total counter",
                "log_buffer_flushed_total 7",
            ]
        );
    }

    #[test]
    fn a_gauge_keeps_its_name() {
        let metrics = Metrics::new().unwrap();
        let meter = metrics.meter("test");
        meter
            .u64_observable_gauge("log_buffer_size")
            .with_description("Records held.")
            .with_unit("{record}")
            .with_callback(|gauge| gauge.observe(3, &[]))
            .build();
        meter.i64_up_down_counter("log_buffer_bytes").with_description("Bytes held.").build().add(5, &[]);
        let page = metrics.render().unwrap();
        assert_eq!(
            family(&page, "log_buffer_size"),
            ["# HELP log_buffer_size Records held.", "# TYPE log_buffer_size gauge", "log_buffer_size 3"]
        );
        assert_eq!(
            family(&page, "log_buffer_bytes"),
            ["# HELP log_buffer_bytes Bytes held.", "# TYPE log_buffer_bytes gauge", "log_buffer_bytes 5"]
        );
    }

    #[test]
    fn a_histogram_in_seconds_has_the_instruments_buckets() {
        let metrics = Metrics::new().unwrap();
        let histogram = metrics
            .meter("test")
            .f64_histogram("log_buffer_flush_duration")
            .with_description("Time to write a batch.")
            .with_unit("s")
            .with_boundaries(vec![0.01, 1.0])
            .build();
        histogram.record(0.5, &[]);
        assert_eq!(
            family(&metrics.render().unwrap(), "log_buffer_flush_duration"),
            [
                "# HELP log_buffer_flush_duration_seconds Time to write a batch.",
                "# TYPE log_buffer_flush_duration_seconds histogram",
                "log_buffer_flush_duration_seconds_bucket{le=\"0.01\"} 0",
                "log_buffer_flush_duration_seconds_bucket{le=\"1\"} 1",
                "log_buffer_flush_duration_seconds_bucket{le=\"+Inf\"} 1",
                "log_buffer_flush_duration_seconds_sum 0.5",
                "log_buffer_flush_duration_seconds_count 1",
            ]
        );
    }

    #[test]
    fn labels_are_the_instruments_own_and_one_family_has_one_head() {
        let metrics = Metrics::new().unwrap();
        let dropped =
            metrics.meter("test").u64_counter("log_buffer_dropped").with_description("Shed.").build();
        dropped.add(0, &[KeyValue::new("reason", "full"), KeyValue::new("severity", "INFO")]);
        dropped.add(2, &[KeyValue::new("reason", "full"), KeyValue::new("severity", "WARN")]);
        assert_eq!(
            family(&metrics.render().unwrap(), "log_buffer_dropped"),
            [
                "# HELP log_buffer_dropped_total Shed.",
                "# TYPE log_buffer_dropped_total counter",
                "log_buffer_dropped_total{reason=\"full\",severity=\"INFO\"} 0",
                "log_buffer_dropped_total{reason=\"full\",severity=\"WARN\"} 2",
            ]
        );
    }

    #[test]
    fn the_program_says_which_version_it_is() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            family(&Metrics::new().unwrap().render().unwrap(), "target_info{"),
            [format!("target_info{{service_name=\"forebay\",service_version=\"{version}\"}} 1")]
        );
    }

    #[test]
    fn attributes_are_added_replaced_and_taken_away() {
        let resource =
            [("service.name", Some("logs")), ("service.version", None), ("deployment", Some("prod"))];
        let resource =
            resource.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))).into_iter().collect();
        let config = Config { resource, ..Config::default() };
        let (metrics, _) = Metrics::with(&config).unwrap();
        assert_eq!(
            family(&metrics.render().unwrap(), "target_info{"),
            ["target_info{deployment=\"prod\",service_name=\"logs\"} 1"]
        );
    }

    #[test]
    fn pages_are_apart_from_each_other_and_empty_after_shutdown() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.meter("test").u64_counter("only_here").build().add(1, &[]);
        assert!(one.render().unwrap().contains("only_here_total 1"));
        assert!(!other.render().unwrap().contains("only_here"));
        one.shutdown().unwrap();
        assert_eq!(one.render().unwrap(), "");
    }
}
