//! The door in: takes export requests off the wire and answers their senders.
//!
//! A request is refused before any work is done for it, and every refusal says whether and when to send
//! again, in the status codes that OTLP gives that meaning. What is accepted is in the buffer, or, where
//! senders wait for the result, in PostgreSQL.
//!
//! [`Intake`] is the way of a request's bytes into the buffer, whatever brought them. [`grpc`] brings them
//! by OTLP/gRPC. Only this module names tonic.

mod answer;
pub mod config;
mod error;
pub mod grpc;
mod intake;
mod listen;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use intake::{Accepted, Intake, Refusal};
