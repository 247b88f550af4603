//! What happens to records for which there is no room.

use super::*;
use crate::table::ROW_OVERHEAD;

fn dropped(buffer: &Buffer, reason: DropReason) -> u64 {
    buffer.books().dropped_for(reason)
}

/// A buffer whose bound is in bytes.
fn buffer_of_bytes(max_bytes: usize, overflow: Overflow) -> Buffer {
    let queue = QueueConfig { max_bytes: ByteSize(max_bytes as u64), overflow, ..QueueConfig::default() };
    buffer_of(queue, batches(usize::MAX, 0))
}

/// The bytes that one request of these bodies holds.
fn held_bytes<B: AsRef<str>>(bodies: impl IntoIterator<Item = B>) -> usize {
    let buffer = buffer(10_000, Overflow::DropNewest);
    offer(&buffer, bodies);
    buffer.budget().bytes()
}

#[tokio::test]
async fn drop_newest_takes_the_first_records_for_which_there_is_room() {
    let buffer = buffer(3, Overflow::DropNewest);
    assert_eq!(offer(&buffer, ["a", "b"]), Offered::Held(2));
    assert_eq!(offer(&buffer, ["c", "d", "e"]), Offered::Held(1));
    assert_eq!(offer(&buffer, ["f"]), Offered::Held(0));
    assert_eq!(dropped(&buffer, DropReason::DropNewest), 3);
    assert_eq!(buffer.budget().records(), 3);
    assert_eq!(drain(&buffer).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn the_bound_in_bytes_covers_what_is_held() {
    let body = "x".repeat(1000);
    let each = held_bytes([&body]);
    let buffer = buffer_of_bytes(3 * each + 100, Overflow::DropNewest);
    for _ in 0..3 {
        assert_eq!(offer(&buffer, [&body]), Offered::Held(1));
    }
    assert_eq!(buffer.budget().bytes(), 3 * each);
    assert_eq!(offer(&buffer, [&body]), Offered::Held(0));
    assert_eq!(dropped(&buffer, DropReason::DropNewest), 1);
    assert_eq!(buffer.budget().bytes(), 3 * each, "what was not taken holds nothing");
    assert_eq!(drain(&buffer).await.len(), 3);
}

#[tokio::test]
async fn drop_oldest_makes_room_record_by_record() {
    let buffer = buffer(4, Overflow::DropOldest);
    offer(&buffer, ["a", "b", "c"]);
    assert_eq!(offer(&buffer, ["d", "e"]), Offered::Held(2));
    assert_eq!((dropped(&buffer, DropReason::DropOldest), buffer.budget().records()), (1, 4));
    assert_eq!(offer(&buffer, ["f", "g"]), Offered::Held(2));
    assert_eq!((dropped(&buffer, DropReason::DropOldest), buffer.budget().records()), (3, 4));
    assert_balanced(&buffer);
    assert_eq!(drain(&buffer).await, ["d", "e", "f", "g"]);
}

#[tokio::test]
async fn drop_oldest_keeps_to_the_bytes_as_well() {
    let body = "x".repeat(1000);
    let each = held_bytes([&body]);
    let buffer = buffer_of_bytes(3 * each + 100, Overflow::DropOldest);
    for number in 0..10 {
        assert_eq!(offer(&buffer, [format!("{number}{}", &body[1..])]), Offered::Held(1));
        assert!(buffer.budget().bytes() <= 3 * each + 100);
    }
    assert_eq!(dropped(&buffer, DropReason::DropOldest), 7);
    let firsts: Vec<_> = drain(&buffer).await.iter().map(|body| body[..1].to_owned()).collect();
    assert_eq!(firsts, ["7", "8", "9"]);
}

#[tokio::test]
async fn what_is_being_written_does_not_give_way() {
    let buffer = buffer(3, Overflow::DropOldest);
    offer(&buffer, ["a", "b"]);
    buffer.queue.press();
    let in_flight = take_now(&buffer).await.unwrap();
    assert_eq!(offer(&buffer, ["c"]), Offered::Held(1));
    assert_eq!(offer(&buffer, ["d", "e"]), Offered::Held(1));
    assert_eq!(dropped(&buffer, DropReason::DropOldest), 1, "c");
    assert_eq!(dropped(&buffer, DropReason::DropNewest), 1, "e");
    in_flight.settle_written(&BTreeSet::new());
    assert_eq!(drain(&buffer).await, ["d"]);
}

#[tokio::test]
async fn a_request_larger_than_the_buffer_is_taken_in_part() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Reject] {
        let buffer = buffer(2, overflow);
        assert_eq!(offer(&buffer, ["a", "b", "c"]), Offered::Held(2), "{overflow:?}");
        assert_eq!(drain(&buffer).await, ["a", "b"]);
    }
}

#[tokio::test]
async fn reject_takes_all_or_nothing() {
    let buffer = buffer(4, Overflow::Reject);
    assert_eq!(offer(&buffer, ["a", "b", "c"]), Offered::Held(3));
    assert_eq!(offer(&buffer, ["d", "e"]), Offered::Refused);
    assert_eq!(buffer.budget().records(), 3, "the part for which there was room is free again");
    assert_eq!(offer(&buffer, ["d"]), Offered::Held(1));
    // It will never fit as a whole, but a part of it will when there is room.
    assert_eq!(offer(&buffer, ["e", "f", "g", "h", "i"]), Offered::Refused);
    assert_eq!(buffer.books().rejected(RejectReason::Full), 7);
    assert_eq!(drain(&buffer).await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_record_larger_than_the_buffer_is_never_waited_for() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Reject] {
        let buffer = buffer_of_bytes(2000, overflow);
        assert_eq!(offer(&buffer, ["kept"]), Offered::Held(1));
        assert_eq!(offer(&buffer, ["x".repeat(2000)]), Offered::Held(0), "{overflow:?}");
        assert_eq!(dropped(&buffer, DropReason::TooLarge), 1, "{overflow:?}");
        assert_eq!(drain(&buffer).await, ["kept"]);
    }
}

/// NULs become three bytes each, so that the rows are larger than estimated from the wire.
fn swelling() -> String {
    "\0".repeat(1000)
}

#[tokio::test]
async fn rows_larger_than_estimated_are_shed_from_the_end() {
    let real = held_bytes([swelling(), swelling()]);
    for overflow in [Overflow::DropNewest, Overflow::Reject] {
        let buffer = buffer_of_bytes(real, overflow);
        assert!(4 * (1000 + ROW_OVERHEAD) < real, "by the estimate there is room for all four");
        assert_eq!(offer(&buffer, [swelling(), swelling(), swelling(), swelling()]), Offered::Held(2));
        assert_eq!(dropped(&buffer, DropReason::DropNewest), 2);
        assert!(buffer.budget().bytes() <= real);
        assert_balanced(&buffer);
        assert_eq!(drain(&buffer).await.len(), 2);
    }
}

/// Such a request fits into the empty buffer, so that all of it is refused.
#[tokio::test]
async fn rows_larger_than_estimated_are_refused_where_they_fit_later() {
    let (old, new) = (held_bytes(["old"]), held_bytes([swelling(), swelling()]));
    let buffer = buffer_of_bytes(old + new - 1, Overflow::Reject);
    offer(&buffer, ["old"]);
    assert_eq!(offer(&buffer, [swelling(), swelling()]), Offered::Refused);
    assert_eq!(dropped(&buffer, DropReason::DropNewest), 0);
    assert_eq!(buffer.budget().bytes(), old, "what was refused holds nothing");
    assert_balanced(&buffer);
    assert_eq!(drain(&buffer).await, ["old"]);
}

/// Such a request is accepted in part; the rest after the cut is not refused, though it would fit later.
#[tokio::test]
async fn rows_that_never_fit_are_cut_to_what_is_free() {
    let (old, two, three) =
        (held_bytes(["old"]), held_bytes([swelling(), swelling()]), held_bytes(vec![swelling(); 3]));
    let buffer = buffer_of_bytes(three, Overflow::Reject);
    offer(&buffer, ["old"]);
    assert!(old < three - two, "two fit beside the old one, and three do not");
    assert_eq!(offer(&buffer, vec![swelling(); 4]), Offered::Held(2));
    assert_eq!(dropped(&buffer, DropReason::DropNewest), 2);
    assert_eq!(buffer.books().rejected_total(), 0);
    assert_balanced(&buffer);
    assert_eq!(drain(&buffer).await.len(), 3);
}

/// The bytes of a request are freed with its last row. Dropping rows of a request that a lane is writing would free nothing.
#[tokio::test]
async fn bytes_are_made_room_for_by_whole_requests_and_not_by_those_in_flight() {
    let body = "x".repeat(1000);
    let (two, four) = (held_bytes([&body; 2]), held_bytes([&body; 4]));
    let queue = QueueConfig {
        max_bytes: ByteSize((two + four + 100) as u64),
        overflow: Overflow::DropOldest,
        ..QueueConfig::default()
    };
    let buffer = buffer_of(queue, batches(1, 1));
    offer(&buffer, [&body; 4]);
    let in_flight = take_now(&buffer).await.unwrap();
    offer(&buffer, [&body; 2]);
    assert_eq!(offer(&buffer, [&body]), Offered::Held(1));
    assert_eq!(dropped(&buffer, DropReason::DropOldest), 2, "the second request as a whole");
    assert_eq!(buffer.budget().records(), 5, "the first one, part of which is in flight, and the third");
    in_flight.settle_written(&BTreeSet::new());
    assert_balanced(&buffer);
    assert_eq!(drain(&buffer).await.len(), 4);
}

#[tokio::test]
async fn rows_larger_than_estimated_push_the_oldest_out() {
    let (old, new) = (held_bytes(["old"]), held_bytes([swelling()]));
    let buffer = buffer_of_bytes(old + new - 1, Overflow::DropOldest);
    offer(&buffer, ["old"]);
    assert_eq!(offer(&buffer, [swelling()]), Offered::Held(1));
    assert_eq!(dropped(&buffer, DropReason::DropOldest), 1);
    assert_eq!(drain(&buffer).await, [swelling().replace('\0', "\u{fffd}")]);
}

#[tokio::test]
async fn rows_that_do_not_fit_at_all_leave_nothing() {
    let buffer = buffer_of_bytes(2000, Overflow::DropOldest);
    let (reply, receipt) = oneshot::channel();
    assert_eq!(offer_with(&buffer, [swelling()], Some(reply)), Offered::Held(0));
    assert_eq!(receipt.await.unwrap(), Settled::default(), "nothing of it was queued");
    assert_eq!(dropped(&buffer, DropReason::TooLarge), 1);
    assert_empty(&buffer);
}

#[tokio::test]
async fn an_unused_reservation_frees_its_room() {
    let buffer = buffer(4, Overflow::DropNewest);
    let reservation = buffer.reserve(3, 300);
    assert_eq!((reservation.records(), buffer.budget().records()), (3, 3));
    drop(reservation);
    assert_empty(&buffer);
}

/// Fifty records that are held, and a buffer that they fill to the last byte and the last place.
fn filled(overflow: Overflow) -> (Buffer, Vec<String>) {
    let held: Vec<_> = (0..50).map(|number| format!("an error {number}")).collect();
    let max_bytes: usize = held.iter().map(|body| held_bytes([body])).sum();
    let queue = QueueConfig {
        queue_size: 50,
        max_bytes: ByteSize(max_bytes as u64),
        overflow,
        ..QueueConfig::default()
    };
    let buffer = buffer_of(queue, batches(usize::MAX, 0));
    held.iter().for_each(|body| assert_eq!(offer(&buffer, [body]), Offered::Held(1)));
    (buffer, held)
}

/// A record that is smaller than the buffer by its bytes on the wire, and larger as a row.
#[tokio::test]
async fn a_record_that_swells_beyond_the_buffer_is_dropped_alone() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let (buffer, held) = filled(overflow);
        let max_bytes = buffer.budget().max_bytes();
        let large = "\0".repeat(max_bytes / 2);
        assert!(large.len() + ROW_OVERHEAD < max_bytes && held_bytes([&large]) > max_bytes);
        assert_eq!(offer(&buffer, [&large]), Offered::Held(0), "{overflow:?}");
        let reason = match overflow {
            // It is not looked at where there is no room for any record.
            Overflow::DropNewest => DropReason::DropNewest,
            _ => DropReason::TooLarge,
        };
        assert_eq!((dropped(&buffer, reason), buffer.books().dropped_total()), (1, 1), "{overflow:?}");
        assert_balanced(&buffer);
        assert_eq!(drain(&buffer).await, held);
    }
    let (buffer, held) = filled(Overflow::Reject);
    assert_eq!(offer(&buffer, ["\0".repeat(buffer.budget().max_bytes() / 2)]), Offered::Refused);
    assert_eq!(drain(&buffer).await, held);
}

/// Under any policy, the other records of the request and the buffered ones are kept if they fit.
#[tokio::test]
async fn a_record_larger_than_the_buffer_costs_none_of_its_request() {
    for overflow in [Overflow::Fair, Overflow::DropNewest, Overflow::DropOldest, Overflow::Reject] {
        for large in ["\0".repeat(9_000), "x".repeat(40_000)] {
            for place in 0..4 {
                let buffer = buffer_of_bytes(20_000, overflow);
                assert_eq!(offer(&buffer, ["held"]), Offered::Held(1));
                let mut request = ["a", "b", "c"].map(str::to_owned).to_vec();
                request.insert(place, large.clone());
                assert!(held_bytes([&request[place]]) > 20_000);
                assert_eq!(offer(&buffer, &request), Offered::Held(3), "{overflow:?}, {place}");
                let books = buffer.books();
                assert_eq!((books.dropped_for(DropReason::TooLarge), books.dropped_total()), (1, 1));
                assert_balanced(&buffer);
                assert_eq!(drain(&buffer).await, ["held", "a", "b", "c"]);
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_dropped_for_records_that_are_malformed() {
    let (buffer, held) = filled(Overflow::DropOldest);
    let reservation = buffer.reserve(1, 100);
    assert_eq!(reservation.records(), 1, "room is made for it once it is a row");
    drop(reservation);
    assert_eq!(buffer.books().dropped_total(), 0);
    assert_eq!(drain(&buffer).await, held);
}

/// Scenario: most of the buffer is being written, and what waits is smaller than what comes. Promise: what waits is not
/// dropped for a record for which there is no room then either.
#[tokio::test]
async fn nothing_is_dropped_where_that_makes_no_room() {
    let body = "x".repeat(1000);
    let (small, large) = (held_bytes(["small"]), held_bytes([&body; 4]));
    let queue = QueueConfig {
        max_bytes: ByteSize((large + 2 * small) as u64),
        overflow: Overflow::DropOldest,
        ..QueueConfig::default()
    };
    let buffer = buffer_of(queue, batches(1, 4));
    offer(&buffer, [&body; 4]);
    let in_flight = take_now(&buffer).await.unwrap();
    assert_eq!((offer(&buffer, ["small"]), offer(&buffer, ["other"])), (Offered::Held(1), Offered::Held(1)));
    assert_eq!(offer(&buffer, [&body]), Offered::Held(0));
    let books = buffer.books();
    assert_eq!((books.dropped_for(DropReason::DropNewest), books.dropped_total()), (1, 1));
    assert_eq!(offer(&buffer, ["third"]), Offered::Held(1), "for this one there is");
    assert_eq!((books.dropped_for(DropReason::DropOldest), books.dropped_total()), (1, 2));
    in_flight.settle_written(&BTreeSet::new());
    assert_eq!(drain(&buffer).await, ["other", "third"]);
}
