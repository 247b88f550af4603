//! What the tests are made with.

pub mod arbitrary;
#[allow(dead_code, reason = "for what is tested with TLS")]
pub mod authority;
pub mod forebay;
#[allow(dead_code, reason = "for OTLP/HTTP")]
pub mod http;
pub mod metrics;
pub mod postgres;
#[allow(dead_code, reason = "for what Prometheus makes of the metrics")]
pub mod prometheus;
#[allow(dead_code, reason = "the faults need more of it")]
pub mod proxy;
pub mod records;
pub mod sender;
mod stored;
pub mod view;

pub use stored::stored;

use std::future::Future;
use std::time::Duration;

/// The longest that anything in a test may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `condition` again and again until it gives a value. This is waiting for something to happen, not for time
/// to pass: it ends with the event, and a test that gets no answer fails with `what`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("it never happened: {what}"))
}
