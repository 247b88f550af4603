//! Errors of forebay's own metrics and logs.

/// An error of forebay's own metrics or logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bridge from OpenTelemetry to Prometheus could not be set up.
    #[error(
        "own metrics cannot be set up: {0}; set service.telemetry.metrics.readers to [] to run without them"
    )]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The metrics could not be rendered as Prometheus text.
    #[error("own metrics cannot be rendered: {0}; two instruments may share a name with different types")]
    Render(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The metrics could not be shut down, most likely because they already were.
    #[error("own metrics cannot be shut down: {0}; shut them down once, last of all")]
    Shutdown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This process already has a `tracing` subscriber.
    #[error(
        "messages go to another tracing subscriber already; initialise logs once, before anything else does"
    )]
    LogsAlreadySet,
}
