//! forebay's own metrics, messages and health.
//!
//! Metrics are OpenTelemetry instruments, exposed to Prometheus under fixed names ([`Metrics`] has the naming rule) and pushed by
//! OTLP if configured ([`Push`]). Messages go to stderr only, and repeats are folded, so that trouble does not flood the log
//! ([`logs`]). [`Health`] holds the reason why rows cannot be written now. [`pages`] serves metrics and health by HTTP; [`probe`]
//! reads the health page of another forebay.
//!
//! Only this module names opentelemetry_sdk, opentelemetry_proto, prometheus and tracing-subscriber. Other modules get a `Meter` and
//! write messages with `tracing`'s macros.

mod condition;
pub mod config;
mod error;
mod fold;
mod headers;
mod health;
mod line;
pub mod logs;
mod metrics;
mod otlp;
mod outlet;
pub mod pages;
pub mod probe;
mod process;
mod push;
mod report;
mod subject;
mod threshold;

pub use error::Error;
pub use health::Health;
pub use logs::Logs;
pub use metrics::Metrics;
pub use process::resident_bytes;
pub use push::Push;
pub use report::{LargeSender, Report, StoreTrouble, UnreadyReason};
pub use threshold::Threshold;
