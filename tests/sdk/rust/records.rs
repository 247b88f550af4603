//! The records of records.json, by tracing's macros.

use std::error::Error;
use std::io;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, ContextGuard};
use serde_json::Value;
use tracing::Level;
use tracing::field::Value as Logged;

use crate::set::{Record, SET, bytes, plain};

/// Logs them as often as it is told to; gives how many that are.
pub fn send(rounds: usize) -> usize {
    let all = (0..rounds).flat_map(|_| &SET.records);
    all.enumerate().map(|(index, record)| send_one(record, index as i64)).count()
}

/// tracing has the names of events and the levels fixed at compile time, one for each place.
macro_rules! log {
    ($level:expr, $record:ident, $index:ident, $value:ident, $exception:ident, $body:ident) => {
        match $record.event.as_deref() {
            Some("order.placed") => tracing::event!(
                name: "order.placed", target: "matrix.scope", $level,
                index = $index, value = $value, error = $exception, "{}", $body
            ),
            Some(other) => panic!("{other} is no event of this program"),
            None => tracing::event!(
                name: "unnamed", target: "matrix.scope", $level,
                index = $index, value = $value, error = $exception, "{}", $body
            ),
        }
    };
}

fn send_one(record: &Record, index: i64) {
    let _span = record.trace.as_ref().map(span);
    let value = record.value.as_ref().map(logged);
    let exception = record.exception.as_ref().map(|text| io::Error::other(text.clone()));
    let exception = exception.as_ref().map(|error| error as &(dyn Error + 'static));
    let body = record.body.as_ref().map_or_else(|| record.kind.clone().into(), plain);
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    match record.level.as_str() {
        "trace" => log!(Level::TRACE, record, index, value, exception, body),
        "debug" => log!(Level::DEBUG, record, index, value, exception, body),
        "info" => log!(Level::INFO, record, index, value, exception, body),
        "warn" => log!(Level::WARN, record, index, value, exception, body),
        // tracing has no level above this.
        _ => log!(Level::ERROR, record, index, value, exception, body),
    }
}

/// The value as a program would log it: arrays and maps as JSON, by `%`.
fn logged(value: &Value) -> Box<dyn Logged> {
    match plain(value) {
        _ if value.get("bytes").is_some() => Box::new(bytes(value).into_boxed_slice()),
        _ if value.get("double").is_some() => {
            Box::new(value["double"].as_str().unwrap().parse::<f64>().unwrap())
        }
        Value::Null => Box::new(None::<bool>),
        Value::Bool(flag) => Box::new(flag),
        Value::Number(number) => Box::new(number.as_i64().unwrap()),
        Value::String(text) => Box::new(text),
        json => Box::new(json.to_string()),
    }
}

fn span(trace: &Value) -> ContextGuard {
    let hex = |key: &str| trace[key].as_str().unwrap();
    let span = SpanContext::new(
        TraceId::from_hex(hex("trace_id")).unwrap(),
        SpanId::from_hex(hex("span_id")).unwrap(),
        TraceFlags::new(trace["flags"].as_u64().unwrap() as u8),
        true,
        TraceState::default(),
    );
    Context::current().with_remote_span_context(span).attach()
}
