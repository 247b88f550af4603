//! The first record, as docs/sending.md has it.

use std::error::Error;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, logs::SdkLoggerProvider};
use tracing_subscriber::{filter::LevelFilter, prelude::*};

pub async fn log_to(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let exporter = LogExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let resource = Resource::builder().with_service_name("shop").build();
    let provider = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    // The connection logs as well, below this level: without it, sending would make more to send.
    let bridge = OpenTelemetryTracingBridge::new(&provider).with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(bridge).init();

    tracing::warn!(order = 17, "card declined");
    Ok(provider.shutdown()?)
}
