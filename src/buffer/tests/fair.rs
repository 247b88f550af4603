//! Fair shares, as senders see them. The severity numbers 5, 9, 13 and 17 are DEBUG, INFO, WARN and ERROR.

use super::*;
use crate::buffer::config::{Beyond, Fairness};
use crate::buffer::samples::request_by;
use crate::buffer::share::Holder;

/// A buffer for `records` records whose bytes are plenty.
fn fair(records: usize, beyond: Beyond) -> Buffer {
    let queue = QueueConfig {
        queue_size: records,
        max_bytes: ByteSize(1 << 30),
        fairness: Fairness { beyond, ..Fairness::default() },
        ..QueueConfig::default()
    };
    buffer_of(queue, batches(usize::MAX, 0))
}

/// Offers a request of one record; returns whether it is held.
fn put(buffer: &Buffer, service: &str, severity: u8) -> bool {
    offer_request(buffer, &request_by(service, [severity]), None) == Offered::Held(1)
}

/// Offers records until one is not held; returns how many are.
fn flood(buffer: &Buffer, service: &str, severity: u8) -> usize {
    (0..).take_while(|_| put(buffer, service, severity)).count()
}

fn shed(buffer: &Buffer) -> u64 {
    buffer.books().dropped_for(DropReason::Share)
}

/// The records that each sender holds.
fn held(buffer: &Buffer) -> Vec<(String, u64)> {
    let mut held: Vec<_> = buffer
        .shares()
        .largest(usize::MAX)
        .into_iter()
        .map(|Holder { name, held }| (name, held.records))
        .collect();
    held.sort();
    held
}

#[test]
fn one_sender_that_floods_gets_its_share_by_severity() {
    for (severity, share) in [(1, 520), (5, 520), (0, 832), (9, 832), (13, 979), (17, 1024), (24, 1024)] {
        let buffer = fair(1040, Beyond::DropNewest);
        assert_eq!(flood(&buffer, "shop", severity), share, "1/2, 4/5, 16/17, 64/65 for {severity}");
        assert_eq!((shed(&buffer), buffer.budget().records()), (1, share));
    }
}

/// A request is divided as if its records came one by one.
#[test]
fn one_request_gets_no_more_than_many() {
    let buffer = fair(1000, Beyond::DropNewest);
    assert_eq!(offer_request(&buffer, &request_by("shop", [9; 3000]), None), Offered::Held(800));
    assert_eq!((shed(&buffer), held(&buffer)), (2200, vec![("shop".to_owned(), 800)]));
    assert_balanced(&buffer);
}

#[test]
fn debug_and_info_of_one_sender_leave_a_sixth_free() {
    let buffer = fair(1200, Beyond::DropNewest);
    let mut held = (0, 0);
    for _ in 0..1000 {
        held.0 += usize::from(put(&buffer, "shop", 5));
        held.1 += (0..4).filter(|_| put(&buffer, "shop", 9)).count();
    }
    assert_eq!(held, (200, 800));
}

#[test]
fn ten_senders_that_flood_share_equally() {
    let buffer = fair(1025, Beyond::DropNewest);
    let names: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    for _ in 0..1000 {
        for name in &names {
            put(&buffer, name, 9);
        }
    }
    assert_eq!(held(&buffer), names.into_iter().map(|name| (name, 100)).collect::<Vec<_>>());
}

#[test]
fn a_quiet_sender_and_the_errors_of_a_loud_one_find_room() {
    let buffer = fair(1000, Beyond::DropNewest);
    assert_eq!(flood(&buffer, "loud", 9), 800);
    for severity in [5, 9, 13, 17] {
        assert!(put(&buffer, "quiet", severity), "{severity}");
    }
    assert_eq!(flood(&buffer, "loud", 17), 193, "of the 196 that were free");
    assert!(put(&buffer, "quiet", 17) && put(&buffer, "other", 5));
}

/// Promise: a request of ten thousand DEBUG records with an error at its end is not taken by its first records.
#[test]
fn the_errors_behind_a_flood_in_the_same_request_are_taken() {
    let buffer = fair(1000, Beyond::DropNewest);
    let severities = [[5; 9_990].as_slice(), &[17; 10]].concat();
    assert_eq!(offer_request(&buffer, &request_by("shop", severities), None), Offered::Held(510));
    assert_eq!(buffer.books().dropped(DropReason::Share, Severity::Error), 0);
}

#[test]
fn the_bound_in_bytes_is_shared_as_the_one_in_records() {
    let queue = QueueConfig { queue_size: 1 << 20, max_bytes: ByteSize(1 << 20), ..QueueConfig::default() };
    let buffer = buffer_of(queue, batches(usize::MAX, 0));
    flood(&buffer, "loud", 5);
    let held = buffer.budget().bytes();
    assert!((500_000..=540_000).contains(&held), "half of it, but for the last record's estimate: {held}");
    assert!(put(&buffer, "quiet", 5));
}

#[tokio::test]
async fn where_nothing_is_free_arriving_records_are_dropped_whoever_sends_them() {
    let buffer = fair(3, Beyond::DropNewest);
    assert!(["a", "b", "c"].into_iter().all(|name| put(&buffer, name, 9)));
    assert!(!put(&buffer, "quiet", 17));
    assert_eq!((shed(&buffer), buffer.books().dropped_for(DropReason::DropNewest)), (0, 1));
    drain(&buffer).await;
}

#[tokio::test]
async fn with_reject_only_those_over_their_share_are_refused_and_their_neighbours_taken() {
    let buffer = fair(10, Beyond::Reject);
    assert_eq!(offer_request(&buffer, &request_by("loud", [9; 8]), None), Offered::Held(8));
    assert_eq!(offer_request(&buffer, &request_by("loud", [9; 2]), None), Offered::Refused);
    assert_eq!((buffer.books().rejected(RejectReason::Full), shed(&buffer)), (2, 0));
    let both = [request_by("loud", [9]), request_by("quiet", [9])].concat();
    assert_eq!(offer_request(&buffer, &both, None), Offered::Held(1), "the one of the quiet sender");
    assert_eq!((buffer.books().rejected(RejectReason::Full), shed(&buffer)), (2, 1));
    drain(&buffer).await;
}

/// DEBUG goes before INFO, and the other records of its request stay.
#[tokio::test]
async fn with_drop_oldest_an_error_takes_the_place_of_waiting_debug_and_then_info() {
    let buffer = fair(6, Beyond::DropOldest);
    let requests = [request_by("a", [17, 9, 13]), request_by("b", [9, 5]), request_by("c", [13])];
    for request in requests {
        assert_ne!(offer_request(&buffer, &request, None), Offered::Held(0));
    }
    assert_eq!(buffer.budget().records(), 6, "nothing is free");
    let dropped = |severity| buffer.books().dropped(DropReason::Share, severity);
    assert!(put(&buffer, "d", 17));
    assert_eq!((dropped(Severity::Debug), dropped(Severity::Info)), (1, 0));
    assert!(!put(&buffer, "e", 9), "INFO takes nobody's place");
    assert_eq!(offer_request(&buffer, &request_by("f", [13, 17]), None), Offered::Held(2));
    assert_eq!((dropped(Severity::Debug), dropped(Severity::Info)), (1, 3));
    assert!(!put(&buffer, "g", 17), "only WARN and ERROR wait");
    let left = fair(100, Beyond::DropOldest);
    for request in
        [request_by("a", [17, 13]), request_by("c", [13]), request_by("d", [17]), request_by("f", [13, 17])]
    {
        offer_request(&left, &request, None);
    }
    assert_eq!(buffer.budget().bytes(), left.budget().bytes(), "the memory of dropped records is free");
    assert_eq!(
        held(&buffer),
        [("a", 2), ("c", 1), ("d", 1), ("f", 2)].map(|(name, held)| (name.into(), held))
    );
    let mut left = drain(&buffer).await;
    // Requests that were looked at are behind the others.
    left.sort();
    assert_eq!(left, ["a 13", "a 17", "c 13", "d 17", "f 13", "f 17"]);
}

/// Errors of many requests wait before the DEBUG, and requests that were looked at are not looked at again first.
#[tokio::test]
async fn with_drop_oldest_debug_is_found_behind_many_requests_without_it() {
    let buffer = fair(60, Beyond::DropOldest);
    for (band, severity) in [("error", 17), ("debug", 5)] {
        assert!((0..30).all(|number| put(&buffer, &format!("{band} {number}"), severity)));
    }
    assert_eq!(buffer.budget().records(), 60, "nothing is free");
    assert!((30..60).all(|number| put(&buffer, &format!("error {number}"), 17)));
    assert_eq!(buffer.books().dropped(DropReason::Share, Severity::Debug), 30);
    assert!(!put(&buffer, "error 60", 17), "there is nothing but ERROR");
    drain(&buffer).await;
}

/// Records that a lane is writing are not touched.
#[tokio::test]
async fn nothing_that_is_being_written_is_evicted() {
    let buffer = fair(4, Beyond::DropOldest);
    for name in ["a", "b", "c", "d"] {
        assert!(put(&buffer, name, 5));
    }
    buffer.hurry();
    let batch = take_now(&buffer).await.unwrap();
    assert_eq!(batch.len(), 4);
    assert!(!put(&buffer, "shop", 17));
    assert_eq!(shed(&buffer), 1, "itself");
    batch.settle_written(&BTreeSet::new());
    drain(&buffer).await;
}

#[tokio::test]
async fn a_dropped_request_gives_back_what_the_gate_has_counted() {
    let buffer = fair(10, Beyond::DropNewest);
    let request = request_by("shop", [9; 8]);
    let mut reservation = buffer.reserve(8, request.len());
    let mut gate = buffer.gate(&mut reservation).expect("less than half would be free");
    let transcoder = Transcoder::default();
    let done = transcoder.transcode_through(&mut gate, &request, 8, 1, &mut Space::unlimited()).unwrap();
    assert_eq!((done.rows.len(), held(&buffer)), (8, vec![("shop".to_owned(), 8)]));
    drop(reservation);
    assert_eq!(held(&buffer), []);
    assert_empty(&buffer);
}

/// Any sequence of puts and settlements: each sender holds exactly what was put and not settled, and a record is admitted if, and only
/// if, the rule says so.
#[tokio::test]
async fn whatever_is_put_and_settled_held_counts_are_exact_and_no_admission_breaks_the_rule() {
    let mut random = fastrand::Rng::with_seed(18);
    for _ in 0..40 {
        let capacity = random.usize(1..60);
        let buffer = fair(capacity, Beyond::DropNewest);
        let mut model = std::collections::BTreeMap::<(String, u8), usize>::new();
        let mut batches = Vec::new();
        for _ in 0..300 {
            match random.u8(0..10) {
                0..7 => {
                    let (service, band) = (random.u8(0..4).to_string(), random.u8(0..4));
                    let free = capacity - model.values().sum::<usize>();
                    let held = model.entry((service.clone(), band)).or_default();
                    let is_allowed = *held < 4_usize.pow(u32::from(band)) * free;
                    assert_eq!(put(&buffer, &service, 5 + 4 * band), is_allowed, "{held} of {free}");
                    *held += usize::from(is_allowed);
                }
                7 => {
                    buffer.hurry();
                    batches.extend(take_now(&buffer).await);
                }
                _ => {
                    let Some(mut batch) = batches.pop() else { continue };
                    let rest = batch.split_off(random.usize(0..=batch.len()));
                    for body in bodies_of(&batch) {
                        let (service, severity) = body.split_once(' ').unwrap();
                        let band = (severity.parse::<u8>().unwrap() - 5) / 4;
                        *model.get_mut(&(service.to_owned(), band)).unwrap() -= 1;
                    }
                    match random.u8(0..3) {
                        0 => batch.settle_dropped(DropReason::RetryExhausted),
                        1 => drop(batch),
                        _ => {
                            let dead = (0..batch.len()).filter(|row| row % 3 == 1).collect();
                            batch.settle_written(&dead);
                        }
                    }
                    batches.extend((!rest.is_empty()).then_some(rest));
                }
            }
            let mut expected = std::collections::BTreeMap::<String, u64>::new();
            for ((service, _), held) in model.iter().filter(|(_, held)| **held > 0) {
                *expected.entry(service.clone()).or_default() += *held as u64;
            }
            assert_eq!(held(&buffer), expected.into_iter().collect::<Vec<_>>());
            assert_balanced(&buffer);
        }
        drop(batches);
        drain(&buffer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn threads_that_put_and_settle_leave_no_sender_with_anything() {
    for beyond in [Beyond::DropNewest, Beyond::DropOldest, Beyond::Reject] {
        let buffer = Arc::new(fair(60, beyond));
        let lane = |buffer: Arc<Buffer>| async move {
            let mut number = 0;
            while let Some(batch) = buffer.take().await {
                number += 1;
                match number % 3 {
                    0 => batch.settle_dropped(DropReason::RetryExhausted),
                    1 => drop(batch),
                    _ => batch.settle_written(&BTreeSet::new()),
                }
            }
        };
        let lanes = [(); 2].map(|()| tokio::spawn(lane(buffer.clone())));
        let producers = [0, 1, 2, 3].map(|producer| {
            let buffer = buffer.clone();
            tokio::spawn(async move {
                for number in 0..1000_usize {
                    let severities =
                        [5, 9, 13, 17].into_iter().cycle().skip(number % 4).take(1 + number % 30);
                    let request = request_by(&((number + producer) % 5).to_string(), severities);
                    offer_request(&buffer, &request, None);
                    let budget = buffer.budget();
                    assert!(budget.records() <= 60 && budget.bytes() <= budget.max_bytes());
                }
            })
        });
        for producer in producers {
            producer.await.unwrap();
        }
        buffer.close();
        for lane in lanes {
            lane.await.unwrap();
        }
        assert!(shed(&buffer) > 0);
        assert_empty(&buffer);
    }
}

#[test]
fn the_largest_holders_are_those_with_the_most_bytes() {
    let buffer = fair(1000, Beyond::DropNewest);
    for (service, records) in [("small", 1), ("large", 3), ("middle", 2)] {
        (0..records).for_each(|_| assert!(put(&buffer, service, 9)));
    }
    let largest: Vec<_> = buffer.shares().largest(2).into_iter().map(|holder| holder.name).collect();
    assert_eq!(largest, ["large", "middle"]);
}

#[test]
fn pressure_and_senders_over_their_share_are_known() {
    let buffer = fair(100, Beyond::DropNewest);
    assert_eq!((buffer.pressure(), buffer.senders_over_share()), (0.0, 0));
    assert_eq!(flood(&buffer, "loud", 5), 50);
    assert_eq!((buffer.pressure(), buffer.senders_over_share()), (0.5, 0));
    assert_eq!(buffer.largest_senders(), [], "half of the buffer is free");
    assert!(put(&buffer, "quiet", 9));
    assert_eq!(
        (buffer.pressure(), buffer.senders_over_share()),
        (0.51, 1),
        "less is free than the loud one holds"
    );
    let shown = buffer.largest_senders();
    assert_eq!(
        shown.iter().map(|sender| (&*sender.service, sender.records)).collect::<Vec<_>>(),
        [("loud", 50), ("quiet", 1)]
    );
}
