//! Producers and lanes on threads of their own: nothing is lost, nothing is delivered twice, and the books
//! balance exactly.

use std::collections::HashSet;
use std::sync::Mutex;

use super::*;

const PRODUCERS: usize = 4;
const LANES: usize = 2;
const REQUESTS: usize = 400;

/// The records delivered by all lanes.
#[derive(Default)]
struct Delivered {
    written: Vec<String>,
    lost: usize,
}

/// An accepted request: the number of its records, the number queued, and the answer to come.
struct Sent {
    records: usize,
    queued: usize,
    receipt: oneshot::Receiver<Settled>,
}

async fn produce(buffer: Arc<Buffer>, producer: usize) -> Vec<Sent> {
    let mut receipts = Vec::new();
    for number in 0..REQUESTS {
        let records = 1 + (number * 7 + producer * 5) % 40;
        let bodies = (0..records).map(|index| format!("{producer} {number} {index}"));
        let (reply, receipt) = oneshot::channel();
        if let Offered::Held(queued) = offer_with(&buffer, bodies, Some(reply)) {
            receipts.push(Sent { records, queued, receipt });
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
            7 | 8 => {
                batch.settle_dropped(DropReason::RetryExhausted);
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
    let (mut held, mut settled, mut dropped, mut given_back) = (0, Settled::default(), 0, 0);
    for Sent { records, queued, receipt } in receipts {
        let one = receipt.await.unwrap();
        assert_eq!(one.flushed + one.dead_lettered + one.lost, queued);
        held += queued;
        settled.flushed += one.flushed;
        settled.dead_lettered += one.dead_lettered;
        settled.lost += one.lost;
        let told = if one.is_to_be_sent_again() { &mut given_back } else { &mut dropped };
        *told += (records - one.flushed - one.dead_lettered) as u64;
    }
    assert_eq!(held as u64, books.accepted());
    assert_eq!(
        (settled.flushed as u64, settled.dead_lettered as u64),
        (books.flushed(), books.dead_lettered())
    );
    let evicted = settled.lost - delivered.lost;
    assert!(overflow == Overflow::DropOldest || evicted == 0, "{evicted}");
    assert_eq!((books.dropped_total(), books.rejected(RejectReason::Unavailable)), (dropped, given_back));
    let in_ledger: u64 = books.losses().take().iter().map(|loss| loss.records).sum();
    assert_eq!(in_ledger, dropped + books.dead_lettered());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn the_books_balance_whether_records_or_bytes_or_nothing_is_short() {
    let bytes = QueueConfig::default().max_bytes;
    for overflow in [Overflow::Fair, Overflow::DropNewest, Overflow::DropOldest, Overflow::Reject] {
        for (queue_size, max_bytes) in [(100, bytes), (10_000, ByteSize(20_000)), (100_000, bytes)] {
            run(QueueConfig { queue_size, max_bytes, overflow, ..QueueConfig::default() }).await;
        }
    }
}
