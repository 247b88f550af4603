//! Settling: the rows to send, the counts of outcomes, and the room that is freed.

use super::*;
use crate::buffer::samples::bodies;
use crate::table::partition::{Period, Width};

fn some(indexes: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
    indexes.into_iter().collect()
}

/// A batch of three chunks of which the first has lost its first record, and its buffer.
async fn batch_of_seven() -> (Buffer, Batch) {
    let buffer = buffer(8, Overflow::DropOldest);
    offer(&buffer, ["x", "0", "1"]);
    offer(&buffer, ["2"]);
    offer(&buffer, ["3", "4", "5", "6"]);
    buffer.queue.pop_oldest(1).unwrap().shed(DropReason::DropOldest);
    buffer.queue.press();
    let batch = take_now(&buffer).await.unwrap();
    (buffer, batch)
}

#[tokio::test]
async fn a_batch_is_divided_anywhere_and_nothing_is_lost() {
    for at in 0..=8 {
        let (buffer, mut batch) = batch_of_seven().await;
        let rest = batch.split_off(at);
        assert_eq!((batch.len(), rest.len()), (at.min(7), 7 - at.min(7)), "at {at}");
        let bodies: Vec<_> = [&batch, &rest].into_iter().flat_map(bodies_of).collect();
        assert_eq!(bodies, ["0", "1", "2", "3", "4", "5", "6"], "at {at}");
        rest.settle_written(&some([]));
        batch.settle_written(&some([]));
        assert_eq!((buffer.books().flushed(), buffer.budget().bytes()), (7, 0));
    }
}

#[tokio::test]
async fn the_runs_are_the_rows_but_for_the_excluded() {
    let (_buffer, batch) = batch_of_seven().await;
    assert_eq!((batch.len(), batch.is_empty()), (7, false));
    for mask in 0..1usize << batch.len() {
        let excluded = some((0..batch.len()).filter(|index| mask >> index & 1 == 1));
        let kept = (0..batch.len()).filter(|index| !excluded.contains(index));
        let rows: Vec<u8> = kept.flat_map(|index| batch.row(index)).copied().collect();
        let runs = batch.runs(&excluded);
        assert_eq!(runs.concat(), rows, "without {excluded:?}");
        assert!(runs.len() <= 3 + excluded.len() && runs.iter().all(|run| !run.is_empty()));
    }
    assert_eq!(batch.runs(&some([])).concat().len(), batch.row_bytes());
    let each: Vec<_> = (0..7).flat_map(|index| bodies(batch.row(index))).collect();
    assert_eq!(each, ["0", "1", "2", "3", "4", "5", "6"]);
    assert!(batch.row(7).is_empty());
}

#[tokio::test]
async fn written_and_dead_rows_are_counted_apart() {
    for dead in [some([]), some([0]), some([6]), some([1, 2, 3]), some(0..7)] {
        let (buffer, batch) = batch_of_seven().await;
        batch.settle_written(&dead);
        assert_eq!(buffer.books().dead_lettered(), dead.len() as u64);
        assert_eq!(buffer.books().flushed(), 7 - dead.len() as u64);
        assert_empty(&buffer);
    }
}

#[tokio::test]
async fn a_dropped_batch_is_counted_by_its_reason() {
    let (buffer, batch) = batch_of_seven().await;
    batch.settle_dropped(DropReason::RetryExhausted);
    assert_eq!(buffer.books().dropped(DropReason::RetryExhausted, crate::table::Severity::Info), 7);
    assert_empty(&buffer);
}

#[tokio::test]
async fn no_loss_without_a_count() {
    let (buffer, batch) = batch_of_seven().await;
    drop(batch);
    assert_eq!(buffer.books().dropped_for(DropReason::Undelivered), 7);
    assert_empty(&buffer);

    offer(&buffer, ["a", "b"]);
    buffer.abandon();
    assert_eq!(buffer.books().dropped_for(DropReason::Undelivered), 9);
    assert_empty(&buffer);

    let buffer = super::buffer(8, Overflow::DropNewest);
    let ledger = buffer.ledger;
    offer(&buffer, ["a", "b"]);
    drop(buffer);
    assert_eq!(ledger.books.dropped_for(DropReason::Undelivered), 2);
}

/// A sender that waits for the result and goes away, or was told that there was none in time, sends again.
#[tokio::test]
async fn what_nobody_waits_for_any_more_is_given_back_instead_of_written() {
    let buffer = buffer_of(QueueConfig { enabled: false, ..QueueConfig::default() }, batches(1, 0));
    let [(one, gone), (two, stays), (three, leaves)] = [(); 3].map(|()| oneshot::channel());
    offer_with(&buffer, ["a", "b"], Some(one));
    offer_with(&buffer, ["c"], Some(two));
    offer_with(&buffer, ["d"], Some(three));
    drop(gone);
    let batch = take_now(&buffer).await.unwrap();
    assert_eq!(bodies_of(&batch), ["c", "d"]);
    assert_eq!(buffer.books().rejected(RejectReason::Unavailable), 2);
    drop(leaves);
    assert!(!batch.nobody_waits_any_more());
    drop(stays);
    assert!(batch.nobody_waits_any_more());
    batch.settle_dropped(DropReason::RetryExhausted);
    assert_eq!(buffer.books().rejected(RejectReason::Unavailable), 4);
    assert_empty(&buffer);
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_a_request_are_free_when_its_last_row_is_gone() {
    let buffer = buffer_of(QueueConfig::default(), batches(1, 2));
    offer(&buffer, ["a", "b", "c", "d", "e"]);
    let bytes = buffer.budget().bytes();
    let [one, two, three] = [(); 3].map(|()| take_soon(&buffer));
    let (one, two, three) = (one.await.unwrap(), two.await.unwrap(), three.await.unwrap());
    two.settle_written(&some([]));
    assert_eq!((buffer.budget().records(), buffer.budget().bytes()), (3, bytes));
    let sending = three.runs(&some([]));
    three.settle_written(&some([]));
    one.settle_dropped(DropReason::RetryExhausted);
    assert_eq!((buffer.budget().records(), buffer.budget().bytes()), (0, bytes));
    // What is on its way out is held as well.
    drop(sending);
    assert_empty(&buffer);
}

#[tokio::test(start_paused = true)]
async fn a_sender_is_told_once_all_of_its_records_are_settled() {
    let buffer = buffer_of(QueueConfig { queue_size: 8, ..QueueConfig::default() }, batches(1, 2));
    let (reply, mut receipt) = oneshot::channel();
    offer_with(&buffer, ["a", "b", "c", "d", "e", "f", "g"], Some(reply));
    take_soon(&buffer).await.unwrap().settle_written(&some([1]));
    take_soon(&buffer).await.unwrap().settle_dropped(DropReason::RetryExhausted);
    drop(take_soon(&buffer).await.unwrap());
    assert!(receipt.try_recv().is_err(), "one is left");
    assert_eq!(buffer.books().dropped_total(), 0, "it is not known yet what the sender is told");
    take_soon(&buffer).await.unwrap().settle_written(&some([]));
    assert_eq!(receipt.await.unwrap(), Settled { flushed: 2, dead_lettered: 1, lost: 4 });
    let lost = [DropReason::RetryExhausted, DropReason::Undelivered]
        .map(|reason| buffer.books().dropped_for(reason));
    assert_eq!(lost, [2, 2], "the sender does not send them again");
    assert_empty(&buffer);
}

#[tokio::test]
async fn a_sender_is_told_of_what_was_evicted() {
    let buffer = buffer(2, Overflow::DropOldest);
    let (reply, receipt) = oneshot::channel();
    offer_with(&buffer, ["a", "b"], Some(reply));
    offer(&buffer, ["c", "d"]);
    assert_eq!(receipt.await.unwrap(), Settled { flushed: 0, dead_lettered: 0, lost: 2 });
    let books = buffer.books();
    let (rejected, dropped) = (books.rejected(RejectReason::Unavailable), books.dropped_total());
    assert_eq!((rejected, dropped), (2, 0), "it sends them again");
    assert_eq!(books.losses().take(), []);
}

#[tokio::test]
async fn a_batch_knows_what_its_rows_name() {
    let (_buffer, batch) = batch_of_seven().await;
    let ids: BTreeSet<_> = batch.resources().map(|resource| resource.id).collect();
    assert_eq!((ids.len(), batch.scopes().count()), (1, 3));
    assert_eq!(batch.periods(), [Period::at(0, Width::Day)].into());
}
