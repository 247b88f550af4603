//! When a batch is due, and what is in it. Time passes only in waits.

use tokio::time::{Instant, advance};

use super::*;

fn sized(due_size: usize, largest: usize) -> Buffer {
    buffer_of(QueueConfig::default(), batches(due_size, largest))
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_due_when_enough_waits() {
    let buffer = sized(3, 0);
    offer(&buffer, ["0", "1"]);
    assert!(take_now(&buffer).await.is_none());
    offer(&buffer, ["2"]);
    assert_eq!(bodies_of(&take_now(&buffer).await.unwrap()), numbers(0..3));
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_woken_when_enough_waits() {
    let buffer = Arc::new(sized(3, 0));
    let lane = {
        let buffer = buffer.clone();
        tokio::spawn(async move { bodies_of(&buffer.take().await.unwrap()) })
    };
    let start = Instant::now();
    for body in ["0", "1", "2"] {
        tokio::task::yield_now().await;
        assert!(!lane.is_finished());
        offer(&buffer, [body]);
    }
    assert_eq!(lane.await.unwrap(), numbers(0..3));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn batches_that_are_due_by_their_size_keep_a_gap_unless_they_are_worth_it() {
    let buffer = sized(100, 0);
    offer(&buffer, numbers(0..100));
    assert_eq!(take_now(&buffer).await.unwrap().len(), 100, "the first has none before it");
    offer(&buffer, numbers(0..100));
    let start = Instant::now();
    advance(Duration::from_millis(4)).await;
    assert!(take_now(&buffer).await.is_none());
    offer(&buffer, numbers(0..50));
    assert_eq!(buffer.take().await.unwrap().len(), 150, "with what has come meanwhile");
    assert_eq!(start.elapsed().as_millis(), 10);
    offer(&buffer, numbers(0..1999));
    assert!(take_now(&buffer).await.is_none());
    offer(&buffer, numbers(0..1));
    assert_eq!(take_now(&buffer).await.unwrap().len(), 2000);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_due_when_its_oldest_has_waited_long_enough() {
    let buffer = sized(100, 0);
    let start = Instant::now();
    offer(&buffer, ["0"]);
    advance(Duration::from_millis(600)).await;
    offer(&buffer, ["1"]);
    assert_eq!(bodies_of(&buffer.take().await.unwrap()), numbers(0..2));
    assert_eq!(start.elapsed().as_millis(), 1000);
    offer(&buffer, ["2"]);
    assert_eq!(bodies_of(&buffer.take().await.unwrap()), numbers(2..3));
    assert_eq!(start.elapsed().as_millis(), 2000, "each batch has a time of its own");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_empty_buffer_begins_with_its_first_record() {
    let buffer = Arc::new(sized(100, 0));
    let lane = {
        let buffer = buffer.clone();
        tokio::spawn(async move { buffer.take().await.unwrap().len() })
    };
    advance(Duration::from_secs(10)).await;
    let start = Instant::now();
    offer(&buffer, ["0"]);
    assert_eq!(lane.await.unwrap(), 1);
    assert_eq!(start.elapsed().as_millis(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_all_that_waits_up_to_the_largest() {
    let buffer = sized(2, 4);
    for first in (0..12).step_by(3) {
        offer(&buffer, numbers(first..first + 3));
    }
    offer(&buffer, ["12"]);
    for first in [0, 4, 8] {
        assert_eq!(bodies_of(&take_now(&buffer).await.unwrap()), numbers(first..first + 4));
    }
    assert!(take_now(&buffer).await.is_none(), "one is left, and waits for its time");
    assert_eq!(bodies_of(&buffer.take().await.unwrap()), ["12"]);
    // All batches were dropped unsettled.
    assert_eq!(buffer.books().dropped_for(DropReason::Undelivered), 13);
    assert_empty(&buffer);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_eight_mebibytes_of_rows_or_one_row() {
    let buffer = sized(1, 0);
    let three = "x".repeat(3 << 20);
    offer(&buffer, [&three, &three, &three]);
    offer(&buffer, ["x".repeat(9 << 20)]);
    offer(&buffer, ["last"]);
    let mut lengths = Vec::new();
    while let Some(batch) = take_soon(&buffer).await {
        assert!(batch.row_bytes() <= 8 << 20 || batch.len() == 1);
        lengths.push(batch.len());
    }
    assert_eq!(lengths, [2, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_is_due_whatever_the_batch_size() {
    let buffer = buffer_of(QueueConfig { queue_size: 3, ..QueueConfig::default() }, batches(100, 0));
    offer(&buffer, ["0", "1", "2"]);
    assert_eq!(take_now(&buffer).await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_due_when_something_has_no_room() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Reject] {
        let queue = QueueConfig { queue_size: 4, overflow, ..QueueConfig::default() };
        let buffer = buffer_of(queue, batches(4, 0));
        offer(&buffer, ["0", "1"]);
        assert!(take_now(&buffer).await.is_none());
        offer(&buffer, numbers(2..5));
        assert!(!take_now(&buffer).await.unwrap().is_empty(), "{overflow:?}");
        offer(&buffer, ["5"]);
        assert!(take_now(&buffer).await.is_none(), "{overflow:?}: there is room again");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_sender_waits_one_record_is_due() {
    let buffer = buffer_of(QueueConfig { enabled: false, ..QueueConfig::default() }, batches(100, 0));
    offer(&buffer, ["0"]);
    assert_eq!(take_now(&buffer).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lanes_take_in_turn() {
    let buffer = Arc::new(sized(2, 2));
    let lanes = [0, 1].map(|_| {
        let buffer = buffer.clone();
        tokio::spawn(async move { bodies_of(&buffer.take().await.unwrap()) })
    });
    offer(&buffer, numbers(0..4));
    let [one, other] = lanes;
    let mut taken = [one.await.unwrap(), other.await.unwrap()];
    taken.sort();
    assert_eq!(taken, [numbers(0..2), numbers(2..4)]);
}

#[tokio::test(start_paused = true)]
async fn closing_gives_what_is_left_and_then_ends_every_lane() {
    let buffer = Arc::new(sized(100, 2));
    let start = Instant::now();
    let lanes = [0, 1].map(|_| {
        let buffer = buffer.clone();
        tokio::spawn(async move {
            let mut bodies = Vec::new();
            while let Some(batch) = buffer.take().await {
                bodies.extend(bodies_of(&batch));
                batch.settle_written(&BTreeSet::new());
                tokio::task::yield_now().await;
            }
            bodies
        })
    });
    offer(&buffer, numbers(0..5));
    tokio::task::yield_now().await;
    buffer.close();
    let [one, other] = lanes;
    let mut taken = [one.await.unwrap(), other.await.unwrap()].concat();
    taken.sort();
    assert_eq!(taken, numbers(0..5));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_empty(&buffer);
}
