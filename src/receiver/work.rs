//! Work that keeps a thread for long: decoding a large request, verifying a password, reading files.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// More bytes are worked on by fewer threads than there are, since they keep one for some milliseconds.
const LARGE: usize = 2 << 20;

/// Does `work` on so many bytes. Where they are many it waits for its turn, of which there are fewer than threads: the others serve
/// everybody else meanwhile. It is done on this very thread, since each thread keeps memory for itself.
pub(super) async fn in_turn<T>(bytes: usize, turns: &Semaphore, work: impl FnOnce() -> T) -> T {
    if bytes <= LARGE {
        return work();
    }
    let _turn = turns.acquire().await;
    // The task that this thread would run next cannot be taken over by another thread, and goes first.
    tokio::task::yield_now().await;
    work()
}

/// Does `work` that takes long while other tasks move away from this thread.
pub(super) fn run_blocking<T>(work: impl FnOnce() -> T) -> T {
    if Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread) {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
