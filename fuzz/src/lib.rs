//! What must hold for any input, one module for each fuzz target.
//!
//! Each has a `check`, which panics where it does not hold, and tells how far the input came. The targets in
//! `fuzz_targets` give it what libFuzzer makes up; `tests/corpus.rs` gives it the seeds in `corpus`, with every
//! `cargo test`.

pub mod config;
pub mod cost;
mod expect;
pub mod json;
pub mod otlp_json;
pub mod queue;
pub mod request;
mod rows;
mod value;
