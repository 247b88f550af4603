//! forebay's own metrics, pushed by OTLP.
//!
//! A push is bounded in time and there is one at a time; one that fails is not repeated, because the next one has newer
//! values of the same. What cannot be pushed is said once, and once more when it can be again. Nothing else of forebay
//! waits for a push, and the last one, at the end, has two seconds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::HeaderMap;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{MetricExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::Error;
use super::config::{Compression, OtlpConfig, PeriodicConfig, Protocol, TemporalityPreference};

/// The longest that the last push may take.
const LAST: Duration = Duration::from_secs(2);

/// What pushes to one endpoint.
#[derive(Debug)]
pub struct Push {
    reader: Arc<ManualReader>,
    exporter: MetricExporter,
    endpoint: String,
    interval: Duration,
    timeout: Duration,
    failing: bool,
}

impl Push {
    /// A push as `config` says, and the reader that it takes the metrics from. It connects with its first push.
    pub(super) fn new(config: &PeriodicConfig, otlp: &OtlpConfig) -> Result<(Self, Reader), Error> {
        let preference = match otlp.temporality_preference {
            TemporalityPreference::Cumulative => Temporality::Cumulative,
            TemporalityPreference::Delta => Temporality::Delta,
            TemporalityPreference::LowMemory => Temporality::LowMemory,
        };
        let reader = Arc::new(ManualReader::builder().with_temporality(preference).build());
        let exporter = exporter(otlp, preference).map_err(|error| Error::Setup(error.into()))?;
        let push = Self {
            reader: reader.clone(),
            exporter,
            endpoint: otlp.endpoint.clone(),
            interval: config.interval.0,
            timeout: config.timeout.0,
            failing: false,
        };
        Ok((push, Reader(reader)))
    }

    /// Pushes once an interval, and a last time after `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, when there is nothing to tell yet.
        ticks.tick().await;
        let pushing = async {
            loop {
                ticks.tick().await;
                self.push().await;
            }
        };
        tokio::select! {
            () = pushing => {}
            () = shutdown => {}
        }
        self.timeout = self.timeout.min(LAST);
        self.push().await;
    }

    async fn push(&mut self) {
        let mut metrics = ResourceMetrics::default();
        let pushed = match self.reader.collect(&mut metrics) {
            Ok(()) => timeout(self.timeout, self.exporter.export(&metrics)).await,
            Err(error) => Ok(Err(error)),
        };
        let endpoint = &self.endpoint;
        match pushed.map_or_else(|_| Some(format!("no answer within {:?}", self.timeout)), told) {
            None if std::mem::take(&mut self.failing) => info!(endpoint, "metrics are pushed again"),
            None => {}
            Some(error) if !std::mem::replace(&mut self.failing, true) => {
                warn!(endpoint, error, "metrics cannot be pushed; all else goes on, and so do the tries");
            }
            Some(_) => {}
        }
    }
}

fn told(result: OTelSdkResult) -> Option<String> {
    result.err().map(|error| error.to_string())
}

fn exporter(
    config: &OtlpConfig,
    temporality: Temporality,
) -> Result<MetricExporter, opentelemetry_otlp::ExporterBuildError> {
    let builder = MetricExporter::builder().with_temporality(temporality);
    let gzip = (config.compression == Compression::Gzip).then_some(opentelemetry_otlp::Compression::Gzip);
    let headers = config.headers.0.iter();
    match config.protocol {
        Protocol::Grpc => {
            let headers =
                headers.filter_map(|(name, value)| Some((name.parse().ok()?, value.expose().parse().ok()?)));
            let metadata = MetadataMap::from_headers(headers.collect::<HeaderMap>());
            let builder = builder.with_tonic().with_endpoint(&config.endpoint).with_timeout(config.timeout.0);
            let builder = builder.with_metadata(metadata);
            gzip.into_iter().fold(builder, |builder, gzip| builder.with_compression(gzip)).build()
        }
        Protocol::HttpProtobuf => {
            let headers = headers.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
            let builder =
                builder.with_http().with_endpoint(config.http_endpoint()).with_timeout(config.timeout.0);
            let builder =
                builder.with_headers(headers).with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
            gzip.into_iter().fold(builder, |builder, gzip| builder.with_compression(gzip)).build()
        }
    }
}

/// The SDK's end of what a [`Push`] reads.
#[derive(Debug)]
pub(super) struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
