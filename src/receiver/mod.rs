//! The door in: takes export requests off the wire and answers their senders.
//!
//! A request is refused before any work is done for it, and every refusal says whether and when to send
//! again, in the status codes that OTLP gives that meaning. What is accepted is in the buffer, or, where
//! senders wait for the result, in PostgreSQL.
//!
//! [`Intake`] is the way of a request's bytes into the buffer, whatever brought them: [`grpc`] by OTLP/gRPC, `http` by
//! OTLP/HTTP, each at one of the [`Ports`], both by way of `reception`. Before each port stands a gate ([`Gates`]): TLS and
//! authentication. What a sender can take is bounded before that: connections and their time by [`crate::net`], with the
//! limits that `limits` makes of the configuration, memory in `lobby` and `room`. Only this module names tonic's statuses.

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
mod gate;
mod gates;
pub mod grpc;
mod http;
mod intake;
mod limits;
mod lobby;
mod message;
mod metrics;
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
