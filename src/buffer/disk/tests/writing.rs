//! The writer: answers come after the sync, and books balance whatever fails.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strum::VariantArray as _;

use super::super::files::Files;
use super::super::simulated::{Call, Fault};
use super::super::{Appended, Trouble};
use super::running::Running;
use super::{for_each_seed, open, read, request_of, sample, samples};
use crate::buffer::config::Overflow;
use crate::buffer::{DropReason, RejectReason};
use crate::table::Severity;
use crate::telemetry::UnreadyReason;
use crate::values::size::ByteSize;

fn fault(call: Call, error: ErrorKind, for_good: bool) -> Fault {
    Fault { call, error, after: 0, for_good }
}

#[test]
fn no_answer_comes_before_the_bytes_are_synced() {
    let queue = Running::new();
    queue.disk.set_sync_time(Duration::from_millis(1));
    queue.run(|queue| {
        for_each_thread(64, |thread| {
            for at in 0..4 {
                let request = request_of(1000 * thread + at, 2, &mut fastrand::Rng::with_seed(thread as u64));
                let sample = sample(&request);
                let answer = queue.append_rows(&sample);
                assert_eq!(answer.blocking_recv(), Ok(Appended::Durable));
                assert!(queue.disk.has_synced(sample.rows.bytes()), "{thread}, {at}");
            }
        });
    });
    assert_eq!(queue.buffer.books().received(), 64 * 4 * 2);
    let disk = queue.disk.after_worst_cut();
    let (_, segments) = open(&disk, 1);
    assert_eq!(segments.iter().map(|segment| segment.end - segment.first).sum::<u64>(), 64 * 4 * 2);
}

fn for_each_thread(threads: usize, each: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let each = &each;
            scope.spawn(move || each(thread));
        }
    });
}

#[test]
fn one_sync_serves_all_requests_that_wait() {
    let queue = Running::new();
    let answers: Vec<_> = (0..10).map(|at| queue.append(at)).collect();
    let before = queue.disk.syncs();
    queue.run(|_| {});
    assert!(answers.into_iter().all(|answer| answer.blocking_recv() == Ok(Appended::Durable)));
    // The header of the segment, the group, and the seal.
    assert_eq!(queue.disk.syncs() - before, 3);
}

#[test]
fn rows_of_a_failed_sync_are_acknowledged_from_a_new_file_and_appear_once() {
    for_each_seed(50, |seed| {
        let queue = Running::seeded(seed);
        queue.run(|queue| {
            assert_eq!(queue.append(1).blocking_recv(), Ok(Appended::Durable));
            queue.disk.fail(fault(Call::Sync, ErrorKind::Other, false));
            assert_eq!(queue.append(2).blocking_recv(), Ok(Appended::Durable));
            assert_eq!(queue.queue().trouble(), None);
        });
        for disk in [queue.disk.copy(), queue.disk.after_cut(), queue.disk.after_worst_cut()] {
            let (_, segments) = open(&disk, 1);
            assert_eq!(segments.len(), 2);
            let found: Vec<_> = read(&disk, &segments).requests.iter().map(|(_, sample)| *sample).collect();
            assert_eq!(found, [1, 2], "seed {seed}");
        }
    });
}

#[test]
fn a_disk_that_fails_for_good_refuses_until_it_recovers() {
    for call in [Call::Append, Call::Sync] {
        let queue = Running::new();
        queue.run(|queue| {
            queue.disk.fail(fault(call, ErrorKind::Other, true));
            assert_eq!(queue.append(2).blocking_recv(), Ok(Appended::Refused(RejectReason::Disk)));
            assert_eq!(queue.queue().refuses(), Some(Trouble::Failed));
            queue.health.store_ready();
            assert!(matches!(queue.health.report().trouble, Some((UnreadyReason::Disk, _))));
            queue.disk.mend();
            assert_eq!(queue.append(3).blocking_recv(), Ok(Appended::Durable));
            assert_eq!((queue.queue().refuses(), queue.health.report().trouble), (None, None));
        });
        let records = |at: usize| samples()[at].rows.len() as u64;
        let books = queue.buffer.books();
        assert_eq!(
            (books.received(), books.rejected(RejectReason::Disk)),
            (records(2) + records(3), records(2))
        );
        let (_, segments) = open(&queue.disk, 1);
        let found: Vec<_> = read(&queue.disk, &segments).requests.iter().map(|(_, sample)| *sample).collect();
        assert_eq!(found, [3]);
    }
}

#[test]
fn a_trouble_that_has_passed_ends_without_a_request() {
    for error in [ErrorKind::Other, ErrorKind::StorageFull] {
        let queue = Running::new();
        queue.run(|queue| {
            queue.health.store_ready();
            queue.disk.fail(fault(Call::Append, error, true));
            assert_ne!(queue.append(2).blocking_recv(), Ok(Appended::Durable));
            let syncs = queue.disk.syncs();
            let is_unready = || queue.health.report().trouble.is_some();
            assert!(is_unready());
            queue.disk.mend();
            let mended = Instant::now();
            while is_unready() {
                assert!(mended.elapsed() < Duration::from_secs(60), "it is looked at again");
                std::thread::yield_now();
            }
            assert!(queue.disk.syncs() > syncs, "it was tried");
            assert!(queue.disk.names().iter().all(|name| !name.contains("probe")));
        });
    }
}

#[test]
fn a_full_disk_is_a_case_for_the_overflow_policy() {
    for (overflow, expected) in [
        (Overflow::Reject, Appended::Refused(RejectReason::Full)),
        (Overflow::DropNewest, Appended::Dropped),
        // There is no older segment that could go.
        (Overflow::DropOldest, Appended::Dropped),
    ] {
        let queue = Running::new();
        queue.buffer.set_overflow(overflow);
        queue.run(|queue| {
            queue.disk.fail(fault(Call::Append, ErrorKind::StorageFull, true));
            assert_eq!(queue.append(8).blocking_recv(), Ok(expected));
            assert_eq!(queue.queue().refuses(), Some(Trouble::Full));
            queue.disk.mend();
            assert_eq!(queue.append(3).blocking_recv(), Ok(Appended::Durable));
            assert_eq!(queue.queue().refuses(), None);
        });
        let books = queue.buffer.books();
        let records = samples()[8].rows.len() as u64;
        let outcomes = (books.rejected(RejectReason::Full), books.dropped_for(DropReason::DropNewest));
        assert_eq!(outcomes, if overflow == Overflow::Reject { (records, 0) } else { (0, records) });
        assert_eq!(books.received(), records + queue.queue().extent().records);
    }
}

#[test]
fn under_drop_oldest_the_oldest_segment_goes_for_new_records() {
    // By a full file system, by max_size, and by min_free.
    for cause in 0..3 {
        // Memory has room for no record, so that all of them are on the disk alone.
        let mut config = Running::config();
        config.max_size = if cause == 1 { ByteSize(100_000) } else { config.max_size };
        let queue = Running::with(1, config, 1);
        queue.buffer.set_overflow(Overflow::DropOldest);
        let all = [3, 20, 20, 20, 20, 20, 20];
        if cause == 2 {
            queue.disk.set_total(100_000);
        }
        queue.run(|queue| {
            for at in &all[..6] {
                assert_eq!(queue.append(*at).blocking_recv(), Ok(Appended::Durable), "cause {cause}");
            }
            if cause == 0 {
                // Behind the seal of the segment before.
                queue.disk.fail(Fault { after: 1, ..fault(Call::Append, ErrorKind::StorageFull, false) });
            }
            assert_eq!(queue.append(all[6]).blocking_recv(), Ok(Appended::Durable), "cause {cause}");
        });
        let books = queue.buffer.books();
        let dropped = books.dropped_for(DropReason::DropOldest);
        let (_, segments) = open(&queue.disk, 1);
        let left: Vec<_> = read(&queue.disk, &segments).requests.iter().map(|(_, sample)| *sample).collect();
        assert!(left.len() < all.len() && all.ends_with(&left), "cause {cause}: {left:?}");
        let gone = &all[..all.len() - left.len()];
        assert_eq!(dropped, gone.iter().map(|at| samples()[*at].rows.len() as u64).sum::<u64>());
        assert_eq!(books.received(), dropped + queue.queue().extent().records);
        if cause == 0 {
            assert_eq!(gone, [3], "no more than needed");
        }
        // Each severity is counted as it was.
        let severities: u64 = Severity::VARIANTS
            .iter()
            .filter(|severity| **severity != Severity::Unspecified)
            .map(|severity| books.dropped(DropReason::DropOldest, *severity))
            .sum();
        assert!(severities > 0);
    }
}

#[test]
fn a_request_whose_sender_has_left_is_not_written() {
    let queue = Running::new();
    let (one, two, three) = (queue.append(1), queue.append(2), queue.append(3));
    drop(two);
    queue.run(|_| {});
    assert_eq!((one.blocking_recv(), three.blocking_recv()), (Ok(Appended::Durable), Ok(Appended::Durable)));
    let found = read(&queue.disk, &open(&queue.disk, 1).1).requests;
    assert_eq!(found.iter().map(|(_, sample)| *sample).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(queue.buffer.books().rejected(RejectReason::Unavailable), 1);
}

#[test]
fn after_the_close_requests_are_refused_and_those_that_wait_are_answered() {
    let queue = Running::new();
    let waits = queue.append(1);
    queue.run(|_| {});
    assert_eq!(waits.blocking_recv(), Ok(Appended::Durable));
    assert_eq!(queue.append(2).blocking_recv(), Ok(Appended::Refused(RejectReason::Draining)));
    assert_eq!(queue.buffer.books().rejected(RejectReason::Draining), 1);
}

#[test]
fn a_fenced_queue_takes_nothing_and_stays_fenced() {
    let queue = Running::new();
    assert!(queue.queue().fence() && !queue.queue().fence());
    queue.run(|queue| {
        assert_eq!(queue.append(1).blocking_recv(), Ok(Appended::Refused(RejectReason::Disk)));
    });
    assert_eq!(queue.queue().refuses(), Some(Trouble::Fenced));
    assert_eq!(queue.disk.list().unwrap(), ["queue"]);
    drop(Arc::clone(queue.queue()));
}
