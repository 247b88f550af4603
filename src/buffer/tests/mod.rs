//! The buffer as its users see it: producers that offer requests, and lanes that take batches.

mod batching;
mod fair;
mod overflow;
mod settling;
mod stress;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::config::{BatchConfig, Overflow, QueueConfig};
use super::samples::{assert_balanced, bodies_of, request};
use super::{Batch, Buffer, DropReason, Full, LossReason, RejectReason, Rest, Settled};
use crate::otlp::{Limits, count_records};
use crate::table::partition::Width;
use crate::table::{Severity, Space, Transcoder};
use crate::values::duration::GoDuration;
use crate::values::size::ByteSize;

/// The buffer's answer to a request.
#[derive(Debug, PartialEq, Eq)]
enum Offered {
    /// This many records are buffered.
    Held(usize),
    /// The whole request is to be sent again.
    Refused,
}

/// A buffer for `records` records, with batches of any size after a second.
fn buffer(records: usize, overflow: Overflow) -> Buffer {
    buffer_of(QueueConfig { queue_size: records, overflow, ..QueueConfig::default() }, batches(usize::MAX, 0))
}

fn buffer_of(queue: QueueConfig, batch: BatchConfig) -> Buffer {
    Buffer::new(&queue, &batch)
}

fn batches(due_size: usize, largest: usize) -> BatchConfig {
    BatchConfig {
        send_batch_size: due_size,
        timeout: GoDuration(Duration::from_secs(1)),
        send_batch_max_size: largest,
    }
}

/// Puts a request in, as a receiver does.
fn offer<B: AsRef<str>>(buffer: &Buffer, bodies: impl IntoIterator<Item = B>) -> Offered {
    offer_with(buffer, bodies, None)
}

fn offer_with<B: AsRef<str>>(
    buffer: &Buffer,
    bodies: impl IntoIterator<Item = B>,
    receipt: Option<oneshot::Sender<Settled>>,
) -> Offered {
    offer_request(buffer, &request(bodies), receipt)
}

/// Puts an encoded request in, as a receiver does.
fn offer_request(buffer: &Buffer, request: &[u8], receipt: Option<oneshot::Sender<Settled>>) -> Offered {
    let records = count_records(request, &Limits::default()).unwrap();
    buffer.books().receive(records);
    let limits = Limits { record_bytes: usize::MAX, ..Limits::default() };
    let mut reservation = buffer.reserve(records, request.len());
    let reason = match reservation.rest() {
        Rest::Refused(reason) => {
            buffer.books().reject(reason, records);
            return Offered::Refused;
        }
        Rest::Shed(reason) => reason,
    };
    let (transcoder, limit) = (Transcoder::new(Width::default(), None, limits), reservation.records());
    let done = match buffer.gate(&mut reservation) {
        None => transcoder.transcode(request, limit, 1, &mut Space::unlimited()),
        Some(mut gate) => transcoder.transcode_through(&mut gate, request, limit, 1, &mut Space::unlimited()),
    };
    let done = done.unwrap();
    if buffer.refuses(&reservation, &done) {
        buffer.books().reject(RejectReason::Full, records);
        return Offered::Refused;
    }
    reservation.leave_out(LossReason::Dropped(reason), done.beyond);
    reservation.leave_out_shed(done.shed);
    let reserved = done.rows.len();
    match buffer.enqueue(reservation, done.rows, receipt) {
        Ok(shed) => Offered::Held(reserved - shed.full - shed.too_large),
        Err(Full) => {
            buffer.books().reject(RejectReason::Full, records);
            Offered::Refused
        }
    }
}

/// Writes everything; returns the bodies.
async fn drain(buffer: &Buffer) -> Vec<String> {
    buffer.close();
    let mut bodies = Vec::new();
    while let Some(batch) = buffer.take().await {
        bodies.extend(bodies_of(&batch));
        batch.settle_written(&BTreeSet::new());
    }
    assert_empty(buffer);
    bodies
}

/// The batch that is due now; `None` where none is.
async fn take_now(buffer: &Buffer) -> Option<Batch> {
    tokio::time::timeout(Duration::from_millis(1), buffer.take()).await.ok().flatten()
}

/// The batch that is due by its size, with time for the gap after the last one; `None` if none is.
async fn take_soon(buffer: &Buffer) -> Option<Batch> {
    tokio::time::timeout(Duration::from_millis(20), buffer.take()).await.ok().flatten()
}

/// Asserts that nothing is buffered, and every record has its outcome.
fn assert_empty(buffer: &Buffer) {
    assert_eq!((buffer.budget().records(), buffer.budget().bytes()), (0, 0));
    assert_eq!(buffer.shares().largest(1), [], "no sender holds anything");
    assert_balanced(buffer);
}
