//! Fair shares of the bytes on disk. The severity numbers 5 and 17 are DEBUG and ERROR.

use std::time::Duration;

use super::running::Running;
use crate::buffer::DropReason;
use crate::buffer::config::{QueueConfig, StorageConfig};
use crate::buffer::disk::Appended;
use crate::buffer::disk::simulated::Simulated;
use crate::buffer::samples::request_by;
use crate::buffer::share::Holder;
use crate::otlp::Limits;
use crate::table::partition::Width;
use crate::table::{Space, Transcoder};
use crate::values::positions::Positions;
use crate::values::size::ByteSize;

fn running(disk: &Simulated) -> Running {
    let config = StorageConfig { max_size: ByteSize(2_000_000), ..StorageConfig::default() };
    Running::on(disk.clone(), config, QueueConfig::default())
}

/// Puts a request of `records` records in, as a receiver does; returns how many are on the disk.
fn put(queue: &Running, service: &str, severity: u8, records: usize) -> usize {
    let (request, buffer) = (request_by(service, vec![severity; records]), &queue.buffer);
    buffer.books().receive(records);
    let mut reservation = buffer.reserve(records, request.len());
    let transcoder = Transcoder::new(Width::Hour, None, Limits::default());
    let done = match buffer.gate(&mut reservation) {
        None => transcoder.transcode(&request, records, 1, &mut Space::unlimited()),
        Some(mut gate) => {
            transcoder.transcode_through(&mut gate, &request, records, 1, &mut Space::unlimited())
        }
    };
    let done = done.unwrap();
    let taken = done.rows.len();
    reservation.leave_out_shed(done.shed);
    let (_, answer) = buffer.append(queue.queue(), reservation, done.rows);
    assert_eq!(answer.blocking_recv(), Ok(Appended::Durable));
    taken
}

/// The senders that hold records on the disk, the largest first.
fn holders(queue: &Running) -> Vec<Holder> {
    queue.buffer.shares().largest(usize::MAX)
}

fn names(queue: &Running) -> Vec<String> {
    holders(queue).into_iter().map(|holder| holder.name).collect()
}

#[test]
fn a_sender_that_floods_the_disk_leaves_room_for_errors_and_for_others() {
    let queue = running(&Simulated::new(1));
    queue.run(|queue| {
        let flooded: usize = (0..).map(|_| put(queue, "loud", 5, 200)).take_while(|taken| *taken > 0).sum();
        let ((used, free), held) = (queue.queue().space(), holders(queue)[0].held);
        assert!(held.records as usize == flooded && held.bytes <= used && used + free == 2_000_000);
        assert_eq!(put(queue, "loud", 17, 200), 200);
        assert_eq!(put(queue, "quiet", 5, 200), 200);
        assert_eq!(names(queue), ["loud", "quiet"]);
        let loud = holders(queue)[0].held;
        assert_eq!(loud.records, held.records + 200);
        let shed = queue.buffer.books().dropped_for(DropReason::Share);
        assert_eq!(shed + loud.records + 200, queue.buffer.books().received());
    });
}

#[test]
fn shares_are_given_back_once_whole_segments_are_stored_and_not_before() {
    let queue = running(&Simulated::new(1));
    queue.run(|queue| {
        let records = (0..10).map(|_| put(queue, "loud", 5, 20)).sum::<usize>() as u64;
        queue.adopt();
        let store = |numbers| {
            let mut stored = Positions::default();
            stored.insert(queue.queue().oldest_run(), numbers);
            let claim = queue.queue().claims().claim(0, 0, stored);
            queue.queue().claims().confirm(&claim);
            queue.queue().remove_stored(&queue.disk, Duration::MAX)
        };
        let (before, (used, _)) = (holders(queue), queue.queue().space());
        assert_eq!(before[0].held.records, records);
        store(0..1);
        assert_eq!(holders(queue), before, "the first segment has records that are not stored");
        store(0..records);
        let after = holders(queue)[0].held.records;
        assert!(after > 0 && after < records / 2, "those of the segment that is appended to: {after}");
        assert!(queue.queue().space().0 < used / 2, "the others count as free, though they are still there");
        // It is complete now.
        put(queue, "quiet", 5, 50);
        put(queue, "quiet", 5, 50);
        store(0..records);
        assert_eq!(names(queue), ["quiet"]);
    });
}

#[test]
fn segments_of_an_earlier_run_are_held_by_nobody_and_leave_less_free() {
    let disk = Simulated::new(1);
    let left = running(&disk).run(|queue| {
        assert_eq!((0..5).map(|_| put(queue, "loud", 5, 20)).sum::<usize>(), 100);
        queue.queue().space()
    });
    let queue = running(&disk);
    let (used, free) = queue.queue().space();
    assert!(used >= left.0 && used + free == 2_000_000, "{used} {free} {left:?}");
    assert_eq!(holders(&queue), []);
}
