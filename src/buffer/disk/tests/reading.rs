//! The reader: all that was appended reaches the lanes once, by a memory that is much smaller.

use std::time::Duration;

use super::super::simulated::{Call, Fault, Simulated};
use super::super::{Appended, Positions};
use super::running::Running;
use super::{open, samples};
use crate::buffer::config::{Drain, QueueConfig, StorageConfig};
use crate::buffer::{Batch, DropReason};
use crate::values::size::ByteSize;

/// Runs `future` with a bound that no test comes near.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let within = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    runtime.block_on(within).expect("it does not wait for ever")
}

fn config(drain: Drain) -> StorageConfig {
    StorageConfig { drain, ..StorageConfig::default() }
}

fn small_memory() -> QueueConfig {
    QueueConfig { queue_size: 40, max_bytes: ByteSize(60_000), ..QueueConfig::default() }
}

/// The small samples, in turns.
fn requests(count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(|at| at % 20)
}

fn records(count: usize) -> u64 {
    requests(count).map(|at| samples()[at].rows.len() as u64).sum()
}

/// A disk on which an earlier run has left requests.
fn disk_with(count: usize) -> Simulated {
    let queue = Running::on(Simulated::new(1), config(Drain::Fair), small_memory());
    queue.run(|queue| append(queue, count));
    queue.disk.after_worst_cut()
}

fn append(queue: &Running, count: usize) {
    for at in requests(count) {
        assert_eq!(queue.append(at).blocking_recv(), Ok(Appended::Durable));
    }
}

fn all_of(batches: &[Positions]) -> Positions {
    let mut all = Positions::default();
    batches.iter().for_each(|batch| all.add(batch));
    assert_eq!(all.len(), batches.iter().map(Positions::len).sum::<u64>(), "each record once");
    all
}

/// Takes and stores until `count` records are stored; returns the positions of each batch.
fn drain(queue: &Running, lane: usize, lanes: usize, count: u64) -> Vec<Positions> {
    let (mut batches, mut stored) = (Vec::new(), 0);
    let budget = queue.buffer.budget();
    while stored < count {
        let batch = block_on(queue.buffer.take_for(lane, lanes)).expect("there are more");
        assert!(budget.records() <= budget.max_records() && budget.bytes() <= budget.max_bytes());
        stored += batch.len() as u64;
        batches.push(batch.positions());
        queue.store(batch);
    }
    batches
}

#[test]
fn a_queue_much_larger_than_memory_reaches_the_lanes_once() {
    for drain_as in [Drain::Fair, Drain::Fifo] {
        let queue = Running::on(Simulated::new(1), config(drain_as), small_memory());
        queue.run(|queue| {
            append(queue, 200);
            queue.adopt();
            let lanes = std::thread::scope(|scope| {
                let writes = scope.spawn(|| append(queue, 200));
                let batches = drain(queue, 0, 1, 2 * records(200));
                writes.join().unwrap();
                batches
            });
            assert_eq!(all_of(&lanes).len(), 2 * records(200));
            let extent = queue.queue().extent();
            assert_eq!((extent.records, extent.oldest), (0, None));
            assert_eq!((queue.buffer.budget().records(), queue.buffer.budget().bytes()), (0, 0));
            let books = queue.buffer.books();
            assert_eq!(
                (books.received(), books.flushed(), books.dropped_total()),
                (2 * records(200), 2 * records(200), 0)
            );
        });
    }
}

#[test]
fn by_fifo_the_oldest_records_come_first_whatever_arrives_meanwhile() {
    let queue = Running::on(disk_with(100), config(Drain::Fifo), small_memory());
    queue.run(|queue| {
        assert_eq!(queue.adopt(), records(100));
        let batches = std::thread::scope(|scope| {
            let writes = scope.spawn(|| append(queue, 300));
            let batches = drain(queue, 0, 1, records(100) + records(300));
            writes.join().unwrap();
            batches
        });
        let ranges: Vec<_> = batches.iter().flat_map(Positions::iter).collect();
        assert!(ranges.is_sorted_by(|(run, one), (next, two)| (run, one.end) <= (next, two.start)));
        assert_eq!(all_of(&batches).len(), records(100) + records(300));
    });
}

#[test]
fn a_fair_queue_writes_what_arrives_beside_the_backlog() {
    let queue = Running::on(disk_with(100), config(Drain::Fair), small_memory());
    let earlier = open(&queue.disk, 1).1[0].run;
    queue.run(|queue| {
        queue.adopt();
        assert_eq!(queue.append(3).blocking_recv(), Ok(Appended::Durable));
        let take = |lane| block_on(queue.buffer.take_for(lane, 2)).unwrap();
        let (live, backlog) = (take(0), take(1));
        assert!(live.positions().first_run().unwrap() > earlier);
        let (run, numbers) = backlog.positions().iter().next().unwrap();
        assert_eq!((run, numbers.start), (earlier, 0), "the other lane writes the oldest");
        queue.store(live);
        // Nothing else arrives, so that both help with the backlog.
        let next = take(0);
        assert_eq!(next.positions().first_run(), Some(earlier));
        queue.store(backlog);
        queue.store(next);
        drain(queue, 0, 2, queue.queue().extent().records);
    });
}

#[test]
fn what_a_lane_gives_up_comes_again() {
    let queue = Running::on(disk_with(30), config(Drain::Fair), small_memory());
    queue.run(|queue| {
        queue.adopt();
        append(queue, 1);
        let take = |lane| block_on(queue.buffer.take_for(lane, 2)).unwrap();
        let given_up: [Batch; 3] = [take(0), take(1), take(1)];
        let positions = given_up.each_ref().map(Batch::positions);
        drop(given_up);
        let all = all_of(&drain(queue, 1, 2, records(30) + records(1)));
        for (run, numbers) in positions.iter().flat_map(Positions::iter) {
            assert!(all.covers(run, numbers));
        }
        assert_eq!(queue.buffer.books().dropped_total(), 0);
    });
}

#[test]
fn damaged_records_are_counted_and_all_others_come() {
    let disk = disk_with(30);
    let (_, segments) = open(&disk, 1);
    let name = &segments[2].name;
    let mut content = disk.content(name);
    let lost = segments[2].end - segments[2].first;
    content[8192 + 60] ^= 1;
    disk.put(name, content);
    let queue = Running::on(disk, config(Drain::Fair), small_memory());
    queue.run(|queue| {
        assert_eq!(queue.adopt(), records(30));
        queue.buffer.books().recover(records(30));
        drain(queue, 0, 1, records(30) - lost);
        let books = queue.buffer.books();
        assert_eq!((books.dropped_for(DropReason::Damaged), books.flushed()), (lost, records(30) - lost));
        assert_eq!(queue.queue().extent().records, 0);
    });
}

#[test]
fn a_sector_that_cannot_be_read_holds_up_nothing_and_its_file_is_put_aside() {
    let disk = disk_with(30);
    let (_, segments) = open(&disk, 1);
    let (name, before) = (segments[2].name.clone(), disk.content(&segments[2].name));
    disk.spoil(&name, 8192);
    let lost = segments[2].end - segments[2].first;
    let queue = Running::on(disk, config(Drain::Fair), small_memory());
    queue.run(|queue| {
        queue.adopt();
        drain(queue, 0, 1, records(30) - lost);
        assert_eq!(queue.buffer.books().dropped_for(DropReason::Damaged), lost);
        queue.queue().remove_stored(&queue.disk, Duration::ZERO);
        assert_eq!(queue.disk.content(&format!("quarantine/{name}")), before);
    });
}

#[test]
fn a_disk_of_which_nothing_can_be_read_damages_no_record() {
    let queue = Running::on(disk_with(30), config(Drain::Fair), small_memory());
    queue.run(|queue| {
        for name in queue.disk.names() {
            (0..queue.disk.content(&name).len()).step_by(512).for_each(|at| queue.disk.spoil(&name, at));
        }
        let before = queue.disk.calls();
        queue.adopt();
        // Each attempt opens the file and reads.
        while queue.disk.calls() < before + 100 {
            queue.queue().bell.ring();
        }
        assert_eq!(queue.buffer.books().dropped_total(), 0);
        queue.disk.mend();
        queue.queue().bell.ring();
        drain(queue, 0, 1, records(30));
    });
}

#[test]
fn a_segment_goes_when_all_of_it_has_been_stored_for_long_enough() {
    let queue = Running::on(disk_with(30), config(Drain::Fair), small_memory());
    let (files, durable) = (queue.disk.clone(), queue.queue().clone());
    let segments = || files.names().iter().filter(|name| name.ends_with(".segment")).count();
    queue.run(|queue| {
        queue.adopt();
        let before = segments();
        assert_eq!(durable.remove_stored(&files, Duration::ZERO), 0, "nothing is stored");
        drain(queue, 0, 1, records(30));
        assert_eq!(durable.remove_stored(&files, Duration::from_secs(3600)), 0, "a standby may lag");
        assert_eq!(segments(), before);
        // The transaction that stored the first records is lost.
        let mut lost = Positions::default();
        let (run, numbers) = durable.claims().stored().iter().next().unwrap();
        lost.insert(run, numbers.start..numbers.start + 2);
        let mut found = durable.claims().stored();
        found.subtract(&lost);
        durable.claims().adopt(durable.claims().stored(), &found, &[], 511);
        assert_eq!(durable.send_again(&lost), 2);
        assert_eq!(
            durable.remove_stored(&files, Duration::ZERO),
            before - 1,
            "but for the one that has them"
        );
        assert_eq!(drain(queue, 0, 1, 2), [lost]);
        assert_eq!(durable.remove_stored(&files, Duration::ZERO), 1);
        assert_eq!((segments(), durable.extent().bytes), (0, 0));
    });
}

#[test]
fn a_segment_whose_removal_fails_stays_known() {
    for call in [Call::Remove, Call::SyncNames] {
        let queue = Running::on(disk_with(30), config(Drain::Fair), small_memory());
        queue.run(|queue| {
            queue.adopt();
            drain(queue, 0, 1, records(30));
            let (durable, run) = (queue.queue(), queue.queue().oldest_run());
            let error = std::io::ErrorKind::Other;
            queue.disk.fail(Fault { call, error, after: 1, for_good: true });
            assert_eq!(durable.remove_stored(&queue.disk, Duration::ZERO), 1);
            assert_eq!(durable.remove_stored(&queue.disk, Duration::ZERO), 0);
            assert_eq!(durable.oldest_run(), run, "its records are still claimed");
            queue.disk.mend();
            assert!(durable.remove_stored(&queue.disk, Duration::ZERO) > 1);
            assert_eq!((durable.oldest_run(), durable.extent().bytes), (i64::MAX, 0));
        });
    }
}

#[test]
fn a_header_that_cuts_an_earlier_file_stays_as_long_as_that_file() {
    let queue = Running::on(Simulated::new(1), config(Drain::Fair), QueueConfig::default());
    queue.run(|queue| {
        queue.adopt();
        assert_eq!(queue.append(1).blocking_recv(), Ok(Appended::Durable));
        let error = std::io::ErrorKind::Other;
        queue.disk.fail(Fault { call: Call::Sync, error, after: 0, for_good: false });
        // Larger than a segment, so that the third one is in another.
        assert_eq!(queue.append(20).blocking_recv(), Ok(Appended::Durable));
        assert_eq!(queue.append(3).blocking_recv(), Ok(Appended::Durable));
        let mut first = block_on(queue.buffer.take()).unwrap();
        let mut second = first.split_off(samples()[1].rows.len());
        let third = second.split_off(samples()[20].rows.len());
        queue.store(second);
        assert_eq!(queue.queue().remove_stored(&queue.disk, Duration::ZERO), 0);
        queue.store(first);
        assert_eq!(queue.queue().remove_stored(&queue.disk, Duration::ZERO), 2);
        queue.store(third);
    });
}

/// Waits until the reader has read something back.
fn wait_for_supply(queue: &Running) {
    while queue.queue().supply.is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn by_fifo_records_in_memory_come_before_those_that_had_no_room() {
    let memory = QueueConfig { queue_size: 3, ..QueueConfig::default() };
    let queue = Running::on(Simulated::new(1), config(Drain::Fifo), memory);
    queue.run(|queue| {
        queue.adopt();
        assert_eq!(queue.append(3).blocking_recv(), Ok(Appended::Durable));
        assert_eq!(queue.append(5).blocking_recv(), Ok(Appended::Durable));
        wait_for_supply(queue);
        let batches = drain(queue, 0, 1, (samples()[3].rows.len() + samples()[5].rows.len()) as u64);
        let numbers: Vec<_> =
            batches.iter().flat_map(Positions::iter).map(|(_, numbers)| numbers.start).collect();
        assert!(numbers.is_sorted() && numbers[0] == 0, "{numbers:?}");
    });
}

#[test]
fn by_fifo_nothing_passes_what_was_read_back_and_waits_for_a_lane() {
    let queue = Running::on(disk_with(5), config(Drain::Fifo), small_memory());
    queue.run(|queue| {
        queue.adopt();
        wait_for_supply(queue);
        append(queue, 20);
        let runs: Vec<_> = drain(queue, 0, 1, records(5) + records(20))
            .iter()
            .flat_map(|batch| batch.iter().map(|(run, _)| run).collect::<Vec<_>>())
            .collect();
        assert!(runs.is_sorted() && runs.first() != runs.last());
    });
}
