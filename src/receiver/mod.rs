//! The door in: takes export requests off the wire and answers their senders.
//!
//! A request is refused before any work is done for it, and every refusal says whether and when to send
//! again, in the status codes that OTLP gives that meaning. What is accepted is in the buffer, or, where
//! senders wait for the result, in PostgreSQL.
//!
//! [`Intake`] is the way of a request's bytes into the buffer, whatever brought them. [`grpc`] brings them
//! by OTLP/gRPC. Before it stands a [`Gate`]: TLS, and who may send. What a sender can take is bounded before that: connections in `listen`, their time in
//! `connection`, memory in `room`. Only this module names hyper's HTTP/2 and tonic's statuses.

mod answer;
pub mod config;
mod connection;
mod error;
mod file;
mod gate;
pub mod grpc;
mod intake;
mod listen;
mod message;
mod metrics;
mod room;
#[cfg(test)]
mod tests;
pub mod tls;
mod turned_away;

pub use error::Error;
pub use file::Unusable;
pub use gate::{Gate, Gates, Warnings};
pub use intake::{Accepted, Intake, Refusal};
