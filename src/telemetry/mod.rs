//! What forebay says about itself: metrics, messages and health.
//!
//! The metrics are OpenTelemetry instruments shown to Prometheus under exactly pinned names ([`Metrics`] has the
//! rule for naming them). The messages go to stderr alone and their repeats are folded, so that trouble never makes
//! forebay louder ([`logs`]). [`Health`] holds the one thing that keeps rows from being written right now. [`pages`]
//! shows both by HTTP; [`probe`] asks the health page of another forebay.
//!
//! The metrics are pushed by OTLP as well ([`Push`]), where the configuration says where to.
//!
//! Only this module names opentelemetry_sdk, opentelemetry_proto, prometheus and tracing-subscriber; a stage is handed its `Meter` and
//! writes its messages with `tracing`'s macros.

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
pub use report::{Report, StoreTrouble, UnreadyReason};
pub use threshold::Threshold;
