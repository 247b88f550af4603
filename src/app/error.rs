//! Why forebay does not start, or ends by itself.

use std::io;
use std::path::PathBuf;

use crate::buffer::disk::DirectoryError;
use crate::{embedded, operator, postgres, receiver, telemetry};

/// Why forebay does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection string cannot be used.
    #[error(transparent)]
    Dsn(#[from] postgres::dsn::DsnError),
    /// A port cannot be opened.
    #[error("cannot listen on {endpoint}: {source}; choose another address with {key}")]
    Listen {
        /// The address.
        endpoint: String,
        /// The key that it comes from.
        key: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The receiver's port cannot be opened, or it cannot serve.
    #[error(transparent)]
    Receiver(#[from] receiver::Error),
    /// The directory of the durable queue cannot be used.
    #[error(transparent)]
    Queue(#[from] DirectoryError),
    /// A command is about a durable queue, and there is none.
    #[error(
        "there is no queue on disk: exporters.postgres.sending_queue.storage is not set; name the directory of one with --directory"
    )]
    NoQueue,
    /// There is no store yet.
    #[error("{} holds no private PostgreSQL: forebay makes it when it first runs with `dsn: embedded`", .0.display())]
    NoStore(PathBuf),
    /// A command fails at the store, or its answer cannot be written out.
    #[error(transparent)]
    Command(#[from] operator::command_error::CommandError),
    /// The configuration has no health page.
    #[error("service.extensions does not name health_check, so that there is no page to ask")]
    NoHealthPage,
    /// The health page does not answer.
    #[error(transparent)]
    Health(#[from] telemetry::probe::Error),
    /// It was asked to end before it was done.
    #[error("ended by {0}")]
    Interrupted(&'static str),
    /// The private PostgreSQL does not run.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// forebay's own metrics or messages cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// The system gives no threads or no signals.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// A part that runs until it is told to end has ended.
    #[error("{0} ended by itself; this is a bug in forebay")]
    Ended(&'static str),
}

impl Error {
    /// Whether the configuration is at fault, rather than the running program.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Dsn(_)
            | Self::Listen { .. }
            | Self::Receiver(_)
            | Self::NoHealthPage
            | Self::Queue(_)
            | Self::NoQueue => true,
            Self::NoStore(_) | Self::Command(_) | Self::Health(_) | Self::Interrupted(_) => false,
            Self::Embedded(_) | Self::Telemetry(_) | Self::Runtime(_) | Self::Ended(_) => false,
        }
    }
}
