//! Faults, each really injected into a real PostgreSQL and a real forebay under load. README.md has the table; each
//! test ends with the books: sent = stored + counted losses, nothing twice, nothing uncounted.

// Nothing outside can reach a test binary, so pub is as good as pub(crate).
#![allow(unreachable_pub)]
// A test fails by panicking, and says what it has observed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod chance;
mod clock;
mod codes;
mod collector;
mod commits;
mod crowd;
mod disk;
mod durable;
mod failover;
mod hostile;
mod inject;
mod large;
mod link;
mod load;
mod network;
mod newest;
mod oracle;
mod overload;
mod poison;
mod pooler;
mod resources;
mod scene;
mod schema;
mod server;
mod siege;
mod small;
mod soak;
mod structure;
mod tenant;
