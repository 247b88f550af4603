//! What is in deploy/ is read by the tools that will read it, and what it starts is the real program, within the limits
//! that it sets.

// Nothing outside can reach a test binary, so pub is as good as pub(crate).
#![allow(unreachable_pub)]
// A test fails by panicking, and says what a tool has said.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod chart;
mod compose;
mod health;
mod image;
mod manual;
mod package;
mod release;
mod supervisor;
mod tools;
mod unit;
