//! Work that occupies a thread for long: decoding a large request, verifying a password, reading files.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Requests with more bytes occupy a thread for milliseconds.
const LARGE: usize = 2 << 20;

/// Does `work` on this number of bytes. A large request waits for one of `turns`, which are fewer than threads, so that the other threads
/// serve other requests. The work stays on this thread, because each thread keeps freed memory.
pub(super) async fn in_turn<T>(bytes: usize, turns: &Semaphore, work: impl FnOnce() -> T) -> T {
    if bytes <= LARGE {
        return work();
    }
    let _turn = turns.acquire().await;
    // Other threads cannot steal the task that this thread would run next, so it goes first.
    tokio::task::yield_now().await;
    work()
}

/// Does long `work` while other tasks move to other threads.
pub(super) fn run_blocking<T>(work: impl FnOnce() -> T) -> T {
    if Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread) {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
