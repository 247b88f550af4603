//! Pushes forebay's own metrics by OTLP.
//!
//! There is one push at a time, each with a timeout. A push that fails is not retried, because the next one has newer values. The first
//! failure and the next success are logged. Nothing else waits for a push; the last one, at the shutdown, has two seconds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::Error;
use super::config::{OtlpConfig, PeriodicConfig, TemporalityPreference};
use super::otlp::Exporter;

/// The timeout of the last push.
const LAST: Duration = Duration::from_secs(2);

/// Pushes to one endpoint.
#[derive(Debug)]
pub struct Push {
    reader: Arc<ManualReader>,
    exporter: Exporter,
    endpoint: String,
    interval: Duration,
    timeout: Duration,
    failing: bool,
}

impl Push {
    /// A push as `config` says, and the reader that provides its metrics. It connects with its first push.
    pub(super) fn new(config: &PeriodicConfig, otlp: &OtlpConfig) -> Result<(Self, SharedReader), Error> {
        let preference = match otlp.temporality_preference {
            TemporalityPreference::Cumulative => Temporality::Cumulative,
            TemporalityPreference::Delta => Temporality::Delta,
            TemporalityPreference::LowMemory => Temporality::LowMemory,
        };
        let reader = Arc::new(ManualReader::builder().with_temporality(preference).build());
        let exporter = Exporter::new(otlp).map_err(Error::Setup)?;
        let push = Self {
            reader: reader.clone(),
            exporter,
            endpoint: otlp.endpoint.clone(),
            interval: config.interval.0,
            timeout: config.timeout.0,
            failing: false,
        };
        Ok((push, SharedReader(reader)))
    }

    /// Pushes once per interval, and a last time after `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is immediate, when there is nothing to push yet.
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
            Err(error) => Ok(Err(error.to_string())),
        };
        let endpoint = &self.endpoint;
        match pushed.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout))).err() {
            None if std::mem::take(&mut self.failing) => info!(endpoint, "pushing metrics works again"),
            None => {}
            Some(error) if !std::mem::replace(&mut self.failing, true) => {
                warn!(endpoint, error, "cannot push metrics; trying again at each interval");
            }
            Some(_) => {}
        }
    }
}

/// The reader for the SDK; the [`Push`] has the other reference.
#[derive(Debug)]
pub(super) struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
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
