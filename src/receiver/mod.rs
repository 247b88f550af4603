//! Receives export requests and answers their senders.
//!
//! Requests are refused before any work is done for them, and every refusal tells the sender whether and when to retry, in OTLP's status
//! codes. Accepted records are in the buffer, or, if senders wait for the result, in PostgreSQL.
//!
//! [`grpc`] (OTLP/gRPC) and `http` (OTLP/HTTP) each serve one of the [`Ports`] and pass requests through `reception` to [`Intake`],
//! which puts them into the buffer. In front of each port is a gate ([`Gates`]): TLS and authentication. [`crate::net`] bounds the
//! connections and their time, with limits from the configuration (`limits`); `lobby` and `request_memory` bound memory. Only this
//! module names tonic's statuses.

mod answer;
pub mod auth;
mod body;
mod client;
pub mod config;
mod content_type;
mod cors;
mod encoding;
mod error;
mod file;
mod folding;
mod gate;
mod gates;
pub mod grpc;
mod http;
mod intake;
mod limits;
mod lobby;
mod message;
mod metrics;
mod over_share;
mod port;
mod ports;
mod probe;
mod reception;
mod request_memory;
#[cfg(test)]
mod tests;
pub mod tls;
mod turned_away;
mod unreadable;
mod work;

pub use error::Error;
pub use file::Unusable;
pub use gates::{Gates, Warnings};
pub use intake::{Accepted, Intake, Refusal};
pub use message::Message;
pub use metrics::Transport;
pub use ports::Ports;
pub use request_memory::{NoRoom, worker_threads};
