//! Why the receiver cannot serve.

use std::io;

use super::file::Unusable;

/// Why the receiver cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port cannot be listened on.
    #[error(
        "cannot listen on {endpoint:?}: {source}; `receivers.otlp.protocols.{protocol}.endpoint` must be \
         an address of this host and a port that nobody else listens on, such as 127.0.0.1:4317"
    )]
    Listen {
        /// The protocol's key.
        protocol: &'static str,
        /// The configured endpoint.
        endpoint: String,
        /// The system's error.
        source: io::Error,
    },
    /// A file or value for TLS or authentication cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}
