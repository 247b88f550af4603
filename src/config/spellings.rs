//! Keys of the Collector that mean the same as keys of forebay. Their values are moved into forebay's keys, so that only the
//! configuration knows of them.

use std::fmt::Display;

use serde_json::Value;

use super::Config;
use super::check::{demand, within};
use super::error::KeyError;
use crate::buffer::budget::MOST_RECORDS;
use crate::buffer::config::{BatchConfig, QueueBatchConfig, Sizer};
use crate::values::size::ByteSize;

type Folded = Result<(), KeyError>;

const QUEUE: &str = "exporters.postgres.sending_queue";

/// Moves the values of other spellings into the keys that they mean. `tree` shows which of these are written as well.
pub(super) fn fold(config: &mut Config, tree: &Value) -> Folded {
    connections(config, tree)?;
    waiting(config)?;
    size(config, tree)?;
    match config.exporter.sending_queue.batch.take() {
        Some(batch) => {
            let processors = tree.pointer("/service/pipelines/logs/processors").and_then(Value::as_array);
            let is_used = processors.is_some_and(|names| names.iter().any(|name| name == "batch"));
            batching(&batch, &mut config.batch, if is_used { tree } else { &Value::Null })
        }
        None => Ok(()),
    }
}

/// A consumer of the queue is a lane, which is a connection.
fn connections(config: &mut Config, tree: &Value) -> Folded {
    let Some(consumers) = config.exporter.sending_queue.num_consumers.take() else { return Ok(()) };
    let key = format!("{QUEUE}.num_consumers");
    within(&key, consumers, 1..=64)?;
    same(&key, consumers, "exporters.postgres.pool_size", &mut config.exporter.pool_size, tree)
}

fn waiting(config: &mut Config) -> Folded {
    let queue = &mut config.exporter.sending_queue;
    let blocks = queue.block_on_overflow.take().unwrap_or(false);
    let allowed = "false: senders never wait for space; set overflow: reject to have them retry";
    demand(!blocks, &format!("{QUEUE}.block_on_overflow"), blocks, allowed)?;
    queue.enabled &= !queue.wait_for_result.take().unwrap_or(false);
    Ok(())
}

fn size(config: &mut Config, tree: &Value) -> Folded {
    let queue = &mut config.exporter.sending_queue;
    let key = format!("{QUEUE}.sizer");
    let own = format!("{QUEUE}.max_bytes");
    match queue.sizer.take() {
        None | Some(Sizer::Items) => Ok(()),
        Some(Sizer::Requests) => demand(
            false,
            &key,
            "requests",
            "items, with queue_size in records, or bytes: the buffer does not keep requests whole",
        ),
        Some(Sizer::Bytes) => {
            let size = queue.queue_size;
            let is_written = written(tree, &format!("{QUEUE}.queue_size"));
            demand(is_written, &key, "bytes without queue_size", "both, such as queue_size: 67108864")?;
            queue.queue_size = MOST_RECORDS;
            let size = ByteSize(size as u64);
            same(&format!("{QUEUE}.queue_size"), size, &own, &mut queue.max_bytes, tree)
        }
    }
}

fn batching(other: &QueueBatchConfig, batch: &mut BatchConfig, tree: &Value) -> Folded {
    let key = |name: &str| format!("{QUEUE}.batch.{name}");
    let own = |name: &str| format!("processors.batch.{name}");
    let found = match other.sizer {
        None | Some(Sizer::Items) => None,
        Some(Sizer::Bytes) => Some("bytes"),
        Some(Sizer::Requests) => Some("requests"),
    };
    let allowed = "items: batch sizes are in records";
    demand(found.is_none(), &key("sizer"), found.unwrap_or_default(), allowed)?;
    if let Some(timeout) = other.flush_timeout {
        same(&key("flush_timeout"), timeout, &own("timeout"), &mut batch.timeout, tree)?;
    }
    if let Some(size) = other.min_size {
        // In the Collector, a batch of 0 does not wait.
        let size = size.max(1);
        same(&key("min_size"), size, &own("send_batch_size"), &mut batch.send_batch_size, tree)?;
    }
    if let Some(max) = other.max_size {
        let allowed =
            format!("min_size ({}) or more, or 0 for as much as the queue holds", batch.send_batch_size);
        demand(max == 0 || max >= batch.send_batch_size, &key("max_size"), max, &allowed)?;
        same(&key("max_size"), max, &own("send_batch_max_size"), &mut batch.send_batch_max_size, tree)?;
    }
    Ok(())
}

/// Moves `found` into the key `own`. If that is written as well, both must have the same value.
fn same<T: Display + PartialEq>(key: &str, found: T, own: &str, value: &mut T, tree: &Value) -> Folded {
    if written(tree, own) && *value != found {
        let problem =
            format!("found {found}, but {own}, which means the same, is {value}; set only one of them");
        return Err(KeyError::new(key, problem));
    }
    *value = found;
    Ok(())
}

/// Whether the key at the dotted `path` has a value in `tree`.
pub(super) fn written(tree: &Value, path: &str) -> bool {
    let value = path.split('.').try_fold(tree, |value, key| value.get(key));
    value.is_some_and(|value| !value.is_null())
}
