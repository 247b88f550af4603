//! Sends log records with the official OpenTelemetry SDK for Rust, by tracing.

pub mod first;
mod records;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{LogExporter as OtlpExporter, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchLogProcessor, LogBatch, LogExporter, LogProcessor, SdkLogRecord, SdkLoggerProvider,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing_subscriber::prelude::*;

use crate::sdks::Transport;
use crate::sender::Work;
use crate::set::{SET, plain};

/// What the other languages' programs do with standard input and output.
pub fn send(
    transport: Transport,
    endpoint: &str,
    work: Work,
    mut lines: mpsc::Receiver<String>,
    shown: mpsc::UnboundedSender<Value>,
) {
    let report = Arc::new(Mutex::new(Report::default()));
    let exporter = Counted { exporter: exporter(transport, endpoint), report: report.clone() };
    let builder = SdkLoggerProvider::builder()
        .with_log_processor(BatchLogProcessor::builder(exporter).build())
        .with_resource(resource());
    let mut emitted = 0;
    let provider = match work {
        Work::Records { .. } => builder.with_log_processor(Told(shown.clone())).build(),
        Work::Numbers => builder.build(),
    };
    let bridge = OpenTelemetryTracingBridge::new(&provider);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(bridge), || match work {
        Work::Records { rounds } => emitted = records::send(rounds),
        Work::Numbers => {
            while let Some(line) = lines.blocking_recv() {
                for _ in 0..line.parse::<u64>().unwrap() {
                    tracing::info!(number = emitted, "numbered");
                    emitted += 1;
                }
                shown.send(json!({"emitted": emitted})).unwrap();
            }
        }
    });
    if let Err(error) = provider.shutdown() {
        report.lock().unwrap().said.push(error.to_string());
    }
    let Report { exported, failed, said } = &*report.lock().unwrap();
    shown.send(json!({"emitted": emitted, "exported": exported, "failed": failed, "said": said})).unwrap();
}

fn exporter(transport: Transport, endpoint: &str) -> OtlpExporter {
    let builder = OtlpExporter::builder();
    let http = |protocol| {
        let url = format!("{endpoint}/v1/logs");
        let builder = OtlpExporter::builder().with_http().with_http_client(Blocking::default());
        builder.with_endpoint(url).with_protocol(protocol).build()
    };
    let exporter = match transport {
        Transport::Grpc => builder.with_tonic().with_endpoint(endpoint).build(),
        Transport::HttpProtobuf => http(Protocol::HttpBinary),
        Transport::HttpJson => http(Protocol::HttpJson),
    };
    exporter.unwrap()
}

/// The SDK comes with no HTTP client that could stand beside the one by which forebay pushes its metrics.
#[derive(Debug)]
struct Blocking(ureq::Agent);

impl Default for Blocking {
    fn default() -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        Self(config.timeout_global(Some(Duration::from_secs(10))).build().into())
    }
}

#[async_trait]
impl HttpClient for Blocking {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(head, body.to_vec()))?;
        let (head, mut body) = response.into_parts();
        Ok(Response::from_parts(head, body.read_to_vec()?.into()))
    }
}

fn resource() -> Resource {
    let pairs = SET.resource.iter().map(|(key, value)| {
        let value = match plain(value) {
            Value::Bool(flag) => flag.into(),
            Value::Number(number) if number.is_i64() => number.as_i64().unwrap().into(),
            Value::Number(number) => number.as_f64().unwrap().into(),
            Value::Array(items) => {
                let texts = items.iter().map(|item| item.as_str().unwrap().to_owned().into());
                opentelemetry::Value::Array(opentelemetry::Array::String(texts.collect()))
            }
            text => text.as_str().unwrap().to_owned().into(),
        };
        KeyValue::new(key.clone(), value)
    });
    Resource::builder().with_attributes(pairs).build()
}

/// What the SDK says of its exports.
#[derive(Debug, Default)]
struct Report {
    exported: usize,
    failed: usize,
    said: Vec<String>,
}

/// Counts the records of each result of its exporter.
#[derive(Debug)]
struct Counted {
    exporter: OtlpExporter,
    report: Arc<Mutex<Report>>,
}

impl LogExporter for Counted {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        let result = self.exporter.export(batch).await;
        let mut report = self.report.lock().unwrap();
        match &result {
            Ok(()) => report.exported += count,
            Err(error) => {
                report.failed += count;
                report.said.push(error.to_string());
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Tells the times that the SDK has given each record.
#[derive(Debug)]
struct Told(mpsc::UnboundedSender<Value>);

impl LogProcessor for Told {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        let nanoseconds = |time: Option<SystemTime>| {
            let since = time.map_or(Duration::ZERO, |time| time.duration_since(UNIX_EPOCH).unwrap());
            since.as_nanos().to_string()
        };
        let (time, observed) = (record.timestamp(), record.observed_timestamp());
        self.0.send(json!({"time": nanoseconds(time), "observed": nanoseconds(observed)})).unwrap();
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
