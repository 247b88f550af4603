//! What the tests and benchmarks are made with: real PostgreSQL servers, the real binary, senders, what stands between
//! them, and what is asked of them afterwards.
//!
//! A crate of its own, so that each of the test binaries links it and none compiles it again. It depends on forebay's library,
//! and forebay's tests depend on it. Cargo tells only the tests of a package where its binary is, so that
//! [`forebay::binary`] finds it by itself.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

pub mod arbitrary;
pub mod authority;
pub mod corpus;
pub mod forebay;
pub mod http;
pub mod machine;
pub mod metrics;
pub mod postgres;
pub mod prometheus;
pub mod proxy;
pub mod records;
pub mod sender;
mod stored;
pub mod usage;
pub mod view;

pub use stored::stored;

use std::future::Future;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
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

/// A port on which nobody listens, out of a range from which the system gives none away, so that it is still free when
/// whoever is told of it comes to take it, or comes back to it.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 120) as u16 * 100;
    loop {
        let port = 20_000 + (first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
