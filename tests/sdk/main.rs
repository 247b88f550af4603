//! The official SDKs of five languages and the OpenTelemetry Collector send to the real program; README.md has the
//! results. What a language's SDK needs is installed by `./dev test`; see `sdks.rs` for what is left out without it.

// Nothing outside can reach a test binary, so pub is as good as pub(crate).
#![allow(unreachable_pub)]
// A test fails by panicking.
#![allow(clippy::unwrap_used)]

mod collector;
mod differences;
mod documented;
mod matrix;
mod nginx;
mod replicas;
mod rust;
mod sdks;
mod sender;
mod set;
mod stress;
