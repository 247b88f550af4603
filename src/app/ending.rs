//! The shutdown, in the order of the data's way: the receiver ends, the buffer drains, then the rest ends.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use super::App;
use super::tasks::Tasks;
use crate::buffer::{Buffer, DropReason};
use crate::shutdown::Signals;
use crate::supervisor;

/// The outcomes of all records, for the exit status and the last message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that arrived.
    pub received: u64,
    /// Records in PostgreSQL.
    pub flushed: u64,
    /// Records lost for any reason, including the undelivered.
    pub dropped: u64,
    /// Records rejected, which their senders keep.
    pub rejected: u64,
    /// Records in the table of dead letters.
    pub dead_lettered: u64,
    /// Repeated records for which others stand.
    pub folded: u64,
    /// Records that were still buffered at the deadline.
    pub undelivered: u64,
    /// Records in the durable queue, which the next start writes.
    pub kept: u64,
}

/// The longest wait for requests in progress, and for the pages.
const FINISHING: Duration = Duration::from_secs(6);
/// The longest wait after the deadline for PostgreSQL's answers to batches already sent.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The longest time that the lanes go on writing what the durable queue keeps for the next start.
const KEPT: Duration = Duration::from_secs(2);

/// Ends everything. The buffer drains until the deadline, or until a second signal.
pub(super) async fn end(app: App, mut tasks: Tasks, mut signals: Signals) -> Summary {
    let deadline = Instant::now() + app.config.exporter.shutdown_timeout.0;
    supervisor::stopping();
    app.health.draining();
    app.intake.drain();
    tasks.stop_receiving();
    tasks.stop_indexer();
    tokio::select! {
        () = drain(&app, &mut tasks) => {}
        () = sleep_until(deadline) => {
            let timeout = app.config.exporter.shutdown_timeout.0;
            warn!(held = app.buffer.budget().records(), ?timeout, "the buffer is not empty at the deadline");
        }
        signal = signals.next() => warn!(signal, held = app.buffer.budget().records(), "asked again; ending at once"),
    }
    // Everything that still runs is cancelled here. The batches of the lanes count as undelivered, except for those whose last
    // answer is on its way: stored records should not be counted as lost.
    tasks.receiver.abort();
    tasks.keeper.abort();
    end_disk_writer(&app, &mut tasks).await;
    app.intake.write_folded(true);
    app.buffer.close();
    app.buffer.abandon();
    if app.buffer.budget().records() > 0 {
        let _ = timeout(LAST_ANSWERS, all_ended(&mut tasks.lanes)).await;
    }
    tasks.lanes.shutdown().await;
    app.buffer.abandon();
    if let Some(durable) = app.buffer.durable() {
        durable.close_reader();
        let _ = timeout(FINISHING, all_ended(&mut tasks.disk_reader)).await;
    }
    write_losses(&mut tasks).await;
    if !tasks.indexer.is_finished() && timeout(FINISHING, &mut tasks.indexer).await.is_err() {
        tasks.indexer.abort();
    }
    app.store.close();
    tasks.watchers.shutdown().await;
    tasks.stop_pages();
    if timeout(FINISHING, all_ended(&mut tasks.pages)).await.is_err() {
        tasks.pages.shutdown().await;
    }
    let summary = summary(&app.buffer);
    tasks.stop_private();
    while let Some(ended) = tasks.private.join_next().await {
        if let Ok(Err(error)) = ended {
            warn!(%error, "the private PostgreSQL did not end as it should");
        }
    }
    if let Err(error) = app.metrics.shutdown() {
        warn!(%error, "the metrics did not end as they should");
    }
    summary
}

/// Finishes the requests in progress, then writes the buffered records.
async fn drain(app: &App, tasks: &mut Tasks) {
    if !tasks.receiver.is_finished() && timeout(FINISHING, &mut tasks.receiver).await.is_err() {
        warn!("requests under way were cut off");
        tasks.receiver.abort();
    }
    end_disk_writer(app, tasks).await;
    app.intake.write_folded(true);
    app.buffer.close();
    // With an empty buffer the lanes are not waited for: the store may never have been reached.
    if app.buffer.budget().records() > 0 {
        let most = if app.buffer.durable().is_some() { KEPT } else { Duration::MAX };
        let _ = timeout(most, all_ended(&mut tasks.lanes)).await;
    }
}

/// Answers the requests that wait for the disk, and seals the last segment.
async fn end_disk_writer(app: &App, tasks: &mut Tasks) {
    if let Some(durable) = app.buffer.durable() {
        durable.close_writer();
        if timeout(FINISHING, all_ended(&mut tasks.disk_writer)).await.is_err() {
            warn!("the disk of the durable queue does not answer");
        }
    }
}

/// Has the clerk write the last losses: the records that could not be written.
async fn write_losses(tasks: &mut Tasks) {
    tasks.stop_clerk();
    if !tasks.clerk.is_finished() && timeout(FINISHING, &mut tasks.clerk).await.is_err() {
        tasks.clerk.abort();
    }
}

async fn all_ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// Counts and logs the outcomes.
fn summary(buffer: &Buffer) -> Summary {
    let books = buffer.books();
    let (received, flushed, dropped) = (books.received(), books.flushed(), books.dropped_total());
    let (rejected, dead_lettered) = (books.rejected_total(), books.dead_lettered());
    let folded = books.folded_total();
    let undelivered = books.dropped_for(DropReason::Undelivered);
    if undelivered > 0 {
        error!(undelivered, "records were lost: they could not be written before the end");
    }
    let kept = buffer.durable().map(|durable| durable.extent().records);
    info!(received, flushed, dropped, rejected, dead_lettered, folded, kept, "ended");
    let kept = kept.unwrap_or_default();
    Summary { received, flushed, dropped, rejected, dead_lettered, folded, undelivered, kept }
}
