//! Producers and lanes on threads of their own: nothing is lost, nothing is delivered twice, and the books
//! balance exactly.

use std::collections::HashSet;
use std::sync::Mutex;

use super::*;

const PRODUCERS: usize = 4;
const LANES: usize = 2;
const REQUESTS: usize = 400;

/// What came out, from all lanes.
#[derive(Default)]
struct Delivered {
    written: Vec<String>,
    lost: usize,
}

async fn produce(buffer: Arc<Buffer>, producer: usize) -> Vec<(usize, oneshot::Receiver<Settled>)> {
    let mut receipts = Vec::new();
    for number in 0..REQUESTS {
        let records = 1 + (number * 7 + producer * 5) % 40;
        let bodies = (0..records).map(|index| format!("{producer} {number} {index}"));
        let (reply, receipt) = oneshot::channel();
        if let Offered::Held(held) = offer_with(&buffer, bodies, Some(reply))
            && held > 0
        {
            receipts.push((held, receipt));
        }
        let budget = buffer.budget();
        assert!(budget.records() <= budget.max_records() && budget.bytes() <= budget.max_bytes());
        if number % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    receipts
}

async fn deliver(buffer: Arc<Buffer>, delivered: Arc<Mutex<Delivered>>) {
    let mut number = 0;
    while let Some(batch) = buffer.take().await {
        number += 1;
        let (bodies, len) = (bodies_of(&batch), batch.len());
        assert_eq!(bodies.len(), len);
        tokio::task::yield_now().await;
        let lost = match number % 10 {
            7 => {
                batch.settle_dropped(DropReason::RetryExhausted);
                true
            }
            8 => {
                batch.settle_rejected(RejectReason::Unavailable);
                true
            }
            9 => {
                drop(batch);
                true
            }
            _ => {
                batch.settle_written(&(0..len).filter(|index| index % 11 == 5).collect());
                false
            }
        };
        let mut delivered = delivered.lock().unwrap();
        if lost { delivered.lost += len } else { delivered.written.extend(bodies) }
    }
}

async fn run(queue: QueueConfig) {
    let overflow = queue.overflow;
    let buffer = Arc::new(buffer_of(queue, batches(50, 70)));
    let delivered = Arc::<Mutex<Delivered>>::default();
    let lanes = [(); LANES].map(|()| tokio::spawn(deliver(buffer.clone(), delivered.clone())));
    let mut producers = Vec::new();
    for producer in 0..PRODUCERS {
        producers.push(tokio::spawn(produce(buffer.clone(), producer)));
    }
    let mut receipts = Vec::new();
    for producer in producers {
        receipts.extend(producer.await.unwrap());
    }
    buffer.close();
    for lane in lanes {
        lane.await.unwrap();
    }

    assert_empty(&buffer);
    let (books, delivered) = (buffer.books(), std::mem::take(&mut *delivered.lock().unwrap()));
    let distinct: HashSet<_> = delivered.written.iter().collect();
    assert_eq!(distinct.len(), delivered.written.len(), "nothing is delivered twice");
    assert_eq!(books.flushed() + books.dead_lettered(), delivered.written.len() as u64);
    let evicted = books.dropped_for(DropReason::DropOldest);
    assert!(overflow == Overflow::DropOldest || evicted == 0);
    let (mut held, mut settled) = (0, Settled::default());
    for (records, receipt) in receipts {
        let one = receipt.await.unwrap();
        assert_eq!(one.flushed + one.dead_lettered + one.lost, records);
        held += records as u64;
        settled.flushed += one.flushed;
        settled.dead_lettered += one.dead_lettered;
        settled.lost += one.lost;
    }
    assert_eq!(held, books.accepted());
    assert_eq!(held, (delivered.written.len() + delivered.lost) as u64 + evicted, "nothing is lost");
    assert_eq!(
        (settled.flushed as u64, settled.dead_lettered as u64),
        (books.flushed(), books.dead_lettered())
    );
    assert_eq!(settled.lost as u64, delivered.lost as u64 + evicted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn bounded_by_records() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Reject] {
        run(QueueConfig { queue_size: 100, overflow, ..QueueConfig::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn bounded_by_bytes() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Reject] {
        run(QueueConfig { max_bytes: 20_000, overflow, ..QueueConfig::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn with_room_for_all() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Reject] {
        run(QueueConfig { queue_size: 100_000, overflow, ..QueueConfig::default() }).await;
    }
}
