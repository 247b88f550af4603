//! Why the receiver cannot serve.

use std::io;

use super::file::Unusable;

/// Why the receiver cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is not to be had.
    #[error(
        "cannot listen on {endpoint:?}: {source}; `receivers.otlp.protocols.grpc.endpoint` must be an \
         address of this host and a port that nobody else listens on, such as 127.0.0.1:4317"
    )]
    Listen {
        /// What the configuration says.
        endpoint: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file or a value of TLS or authentication cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}
