//! The keys that a user may write: the Collector's tree with forebay's components, and how it becomes the [`Config`].

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Config;
use super::error::KeyError;
use super::extensions::Extensions;
use super::storage;
use crate::buffer::config::BatchConfig;
use crate::exporter;
use crate::memory;
use crate::receiver;
use crate::telemetry::{self, config::MetricsLevel};
use crate::values::duration::GoDuration;

/// The whole tree.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Document {
    receivers: Receivers,
    processors: Processors,
    exporters: Exporters,
    extensions: Extensions,
    service: Service,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Receivers {
    otlp: Option<receiver::config::Config>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Processors {
    memory_limiter: Option<memory::config::Config>,
    batch: Option<BatchConfig>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Exporters {
    postgres: Option<exporter::config::Config>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Service {
    extensions: Vec<String>,
    pipelines: Pipelines,
    telemetry: telemetry::config::Config,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Pipelines {
    logs: Option<Pipeline>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Pipeline {
    receivers: Vec<String>,
    processors: Vec<String>,
    exporters: Vec<String>,
}

/// Turns `otlp:` into `otlp: {}`: a component or protocol that is named exists, with its defaults. Any other key without a
/// value counts as absent.
pub(super) fn name_components(tree: &mut Value) {
    for section in ["/receivers", "/receivers/otlp/protocols", "/processors", "/exporters", "/extensions"] {
        let section = tree.pointer_mut(section);
        for value in section.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            give_defaults(value);
        }
    }
    let readers = tree.pointer_mut("/service/telemetry/metrics/readers").and_then(Value::as_array_mut);
    for reader in readers.into_iter().flatten().filter_map(Value::as_object_mut) {
        reader.values_mut().for_each(give_defaults);
    }
}

fn give_defaults(value: &mut Value) {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
}

impl Document {
    /// The components that `service` uses.
    pub(super) fn resolve(self) -> Result<Config, KeyError> {
        let Some(pipeline) = self.service.pipelines.logs else {
            return Err(KeyError::new(
                "service.pipelines.logs",
                "missing; write logs: {receivers: [otlp], processors: [batch], exporters: [postgres]}",
            ));
        };
        let (inputs, outputs) = ("service.pipelines.logs.receivers", "service.pipelines.logs.exporters");
        let receiver = used(inputs, &pipeline.receivers, "otlp", self.receivers.otlp)?
            .ok_or_else(|| KeyError::new(inputs, "found [], expected [otlp]"))?;
        let mut exporter = used(outputs, &pipeline.exporters, "postgres", self.exporters.postgres)?
            .ok_or_else(|| KeyError::new(outputs, "found [], expected [postgres]"))?;
        let memory = processor(&pipeline.processors, "memory_limiter", self.processors.memory_limiter)?;
        let batch = processor(&pipeline.processors, "batch", self.processors.batch)?
            .or_else(|| exporter.sending_queue.batch.is_some().then(BatchConfig::default))
            .unwrap_or_else(each_request_by_itself);
        let Extensions { health_check, authenticators, file_storages } =
            self.extensions.used(&self.service.extensions)?;
        let storage = storage::storage(&mut exporter, file_storages)?;
        let receiver = receiver::config::Config { authenticators, ..receiver };
        let mut telemetry = self.service.telemetry;
        if telemetry.metrics.level.take() == Some(MetricsLevel::None) {
            telemetry.metrics.readers.clear();
        }
        Ok(Config { receiver, memory, batch, exporter, storage, health: health_check, telemetry })
    }
}

/// The batches of a pipeline without the batch processor: no record waits for others.
fn each_request_by_itself() -> BatchConfig {
    BatchConfig { send_batch_size: 1, timeout: GoDuration(Duration::ZERO), ..BatchConfig::default() }
}

/// The processor called `name`, if the pipeline names it.
fn processor<T>(names: &[String], name: &str, component: Option<T>) -> Result<Option<T>, KeyError> {
    let path = "service.pipelines.logs.processors";
    let in_order = [&[][..], &["batch"], &["memory_limiter"], &["memory_limiter", "batch"]];
    if !in_order.iter().any(|known| *known == names) {
        let problem =
            format!("found [{}], expected [memory_limiter, batch] in this order, or fewer", names.join(", "));
        return Err(KeyError::new(path, problem));
    }
    let named: Vec<_> = names.iter().filter(|known| *known == name).cloned().collect();
    used(path, &named, name, component)
}

/// The `component`, if the list of names at `path` is `[name]`; `None` if it is empty.
fn used<T>(path: &str, names: &[String], name: &str, component: Option<T>) -> Result<Option<T>, KeyError> {
    match names {
        [] => Ok(None),
        [one] if one == name => component.map(Some).ok_or_else(|| {
            let section = path.rsplit('.').next().unwrap_or(path);
            KeyError::new(path, format!("{name} is not defined; write `{name}:` under {section}"))
        }),
        _ => Err(KeyError::new(path, format!("found [{}], expected [{name}]", names.join(", ")))),
    }
}
