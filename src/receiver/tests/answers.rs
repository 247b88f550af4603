//! What a sender is answered, and what the books say of it.

use super::*;
use crate::buffer::samples::{bodies_of, field, malformed_record, record, request, request_by, request_of};
use crate::buffer::{DropReason, LossReason, RejectReason};
use crate::table::columns::COLUMNS;

#[tokio::test]
async fn what_is_accepted_is_in_the_buffer() {
    let gateway = Setup::default().start().await;
    assert_eq!(gateway.export(request(["a", "b"])).await.unwrap(), None);
    assert_eq!(gateway.export_gzip(request(["c"])).await.unwrap(), None);
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["a", "b", "c"]);
    batch.settle_written(&all_but([]));
    let books = gateway.buffer.books();
    assert_eq!((books.received(), books.accepted(), books.flushed()), (3, 3, 3));
    gateway.stop().await;
}

#[tokio::test]
async fn an_empty_request_succeeds() {
    let gateway = Setup::default().start().await;
    assert_eq!(gateway.export(Bytes::new()).await.unwrap(), None);
    assert_eq!(gateway.export(request_of([])).await.unwrap(), None);
    assert_eq!(gateway.buffer.books().received(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_for_good() {
    let gateway = Setup::default().start().await;
    let cut = request(["a", "b"]);
    for bytes in [Bytes::from_static(b"this is not protobuf"), cut.slice(..cut.len() - 1)] {
        let message = assert_final(gateway.export(bytes).await, Code::InvalidArgument);
        assert!(message.contains("malformed protobuf"), "{message}");
    }
    assert_eq!((gateway.buffer.books().received(), gateway.intake.unread(Unread::Malformed)), (0, 2));
    gateway.stop().await;
}

#[tokio::test]
async fn one_bad_record_does_not_cost_the_others() {
    let gateway = Setup::default().start().await;
    let answer = gateway.export(request_of([record("a"), malformed_record(), record("b")])).await;
    assert_eq!(rejected(answer), (1, "1 refused because they are malformed".into()));
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["a", "b"]);
    batch.settle_written(&all_but([]));
    assert_eq!(gateway.buffer.books().rejected(RejectReason::Malformed), 1);

    let answer = gateway.export(request_of([malformed_record()])).await;
    assert_eq!(rejected(answer).0, 1);
    gateway.stop().await;
}

/// A record of `count` empty attributes.
fn with_attributes(count: usize) -> Vec<u8> {
    [record("many"), [0x32, 0].repeat(count)].concat()
}

#[tokio::test]
async fn a_record_that_is_too_complex_costs_only_itself() {
    let gateway = Setup::default().start().await;
    let records = [record("a"), with_attributes(4097), with_attributes(4096), malformed_record()];
    let (refused, message) = rejected(gateway.export(request_of(records)).await);
    let expected = "1 refused because they are malformed; 1 refused because they have more attributes of a record \
                    or entries of a map than `receivers.otlp.admission.max_attributes` allows";
    assert_eq!((refused, message.as_str()), (2, expected));
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["a", "many"]);
    batch.settle_written(&all_but([]));
    let books = gateway.buffer.books();
    let refused = [RejectReason::Malformed, RejectReason::TooComplex].map(|reason| books.rejected(reason));
    assert_eq!(refused, [1, 1]);
    let losses: Vec<_> = books.losses().take().into_iter().map(|loss| (loss.reason, loss.records)).collect();
    assert_eq!(losses, [(LossReason::Malformed, 1), (LossReason::TooComplex, 1)]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_resource_that_is_too_complex_costs_its_own_records() {
    let gateway = Setup::default().start().await;
    let of_resource = |attributes: usize, body: &str| {
        let resource = field(1, &[0x0a, 0].repeat(attributes));
        field(1, &[resource, field(2, &field(2, &record(body)))].concat())
    };
    let request = [of_resource(1024, "a"), of_resource(1025, "b"), of_resource(0, "c")].concat();
    let (refused, message) = rejected(gateway.export(request.into()).await);
    assert_eq!(refused, 1);
    assert!(message.contains("max_resource_attributes"), "{message}");
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["a", "c"]);
    batch.settle_written(&all_but([]));
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_of_too_many_resources_or_scopes_is_refused_for_good() {
    let gateway = Setup::default()
        .with(|setup| (setup.config.admission.max_resources, setup.config.admission.max_scopes) = (3, 4))
        .start()
        .await;
    let scopes = |count: usize| field(1, &field(2, &field(2, &record("x"))).repeat(count));
    for (request, expected) in [
        (scopes(1).repeat(3), None),
        (scopes(1).repeat(4), Some("max_resources")),
        (scopes(4), None),
        ([scopes(2), scopes(3)].concat(), Some("max_scopes")),
    ] {
        let answer = gateway.export(request.into()).await;
        match expected {
            None => {
                assert_eq!(answer.unwrap(), None);
                gateway.take().await.settle_written(&all_but([]));
            }
            Some(key) => {
                let message = assert_final(answer, Code::InvalidArgument);
                assert!(message.contains(key), "{message}");
            }
        }
    }
    assert_eq!((gateway.buffer.books().received(), gateway.intake.unread(Unread::TooComplex)), (7, 2));
    gateway.stop().await;
}

/// Rows that swell take room before they are made: one request alone may have two thirds of it.
#[tokio::test]
async fn rows_take_room_as_they_grow() {
    let gateway =
        Setup::default().with(|setup| setup.config.admission.request_limit = ByteSize::mib(3)).start().await;
    // Each of these characters has six bytes of JSON.
    let swelling = |bytes: usize| {
        let text = "\u{1}".repeat(bytes);
        let attribute = [field(1, b"key"), field(2, &field(1, text.as_bytes()))].concat();
        request_of([[record("swells"), field(6, &attribute)].concat()])
    };
    let message = assert_final(gateway.export(swelling(300 << 10)).await, Code::ResourceExhausted);
    assert!(message.contains("request_limit_mib"), "{message}");
    let books = gateway.buffer.books();
    assert_eq!((books.received(), books.rejected(RejectReason::TooComplex)), (1, 1));
    assert_eq!(gateway.intake.receiving(), 0, "all is given back");
    assert_eq!(gateway.export(swelling(100 << 10)).await.unwrap(), None);
    let batch = gateway.take().await;
    assert!(batch.row_bytes() > 600 << 10);
    batch.settle_written(&all_but([]));
    assert_balanced(&gateway.buffer);
    gateway.stop().await;
}

#[tokio::test]
async fn ids_of_another_length_are_replaced_and_counted() {
    let gateway = Setup::default().start().await;
    let with_ids = |trace: &[u8], span: &[u8]| [record("x"), field(9, trace), field(10, span)].concat();
    let records = [
        with_ids(&[7; 16], &[8; 8]),
        with_ids(&[7; 8000], &[8; 9]),
        with_ids(&[0; 3], &[0; 8]),
        with_ids(b"", &[1]),
    ];
    assert_eq!(gateway.export(request_of(records)).await.unwrap(), None);
    let batch = gateway.take().await;
    let ids: Vec<_> = (0..4)
        .map(|row| {
            let fields = crate::table::decode::fields(batch.row(row)).unwrap();
            let field = |name| COLUMNS.iter().position(|column| column.name == name).unwrap();
            ["trace_id", "span_id"].map(|name| fields[field(name)].map(<[u8]>::len))
        })
        .collect();
    assert_eq!(ids, [[Some(16), Some(8)], [None, None], [None, None], [None, None]]);
    batch.settle_written(&all_but([]));
    assert_eq!(gateway.buffer.books().replaced(crate::table::ReplacedKind::Id), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn values_are_replaced_and_counted() {
    let gateway = Setup::default().start().await;
    assert_eq!(gateway.export(request(["nul \0"])).await.unwrap(), None);
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["nul \u{fffd}"]);
    batch.settle_written(&all_but([]));
    assert_eq!(gateway.buffer.books().replaced(crate::table::ReplacedKind::Nul), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn the_limit_holds_before_and_after_decompression() {
    let gateway = Setup::default().start().await;
    let large = request(["x".repeat(1 << 20)]);
    for answer in [gateway.export(large.clone()).await, gateway.export_gzip(large).await] {
        let message = assert_final(answer, Code::ResourceExhausted);
        assert!(message.contains("1 MiB") && message.contains("max_recv_msg_size_mib"), "{message}");
    }
    assert_eq!(gateway.intake.unread(Unread::TooLarge), 2);
    let largest = request(["x".repeat((1 << 20) - 100)]);
    assert_eq!(gateway.export_gzip(largest).await.unwrap(), None);
    gateway.take().await.settle_written(&all_but([]));
    gateway.stop().await;
}

#[tokio::test]
async fn drop_newest_takes_what_fits_and_counts_the_rest() {
    let gateway = Setup::overflow(Overflow::DropNewest).start().await;
    let answer = gateway.export(request(["a", "b", "c", "d", "e", "f"])).await;
    assert_eq!(rejected(answer), (2, "2 dropped because the buffer is full".into()));
    assert_eq!(rejected(gateway.export(request(["g"])).await).0, 1);
    assert_eq!(gateway.buffer.books().dropped_for(DropReason::DropNewest), 3);
    assert_eq!(gateway.buffer.books().dropped(DropReason::DropNewest, crate::table::Severity::Info), 3);
    assert_balanced(&gateway.buffer);
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["a", "b", "c", "d"]);
    batch.settle_written(&all_but([]));
    gateway.stop().await;
}

/// A severity is named where all dropped records are below it.
#[tokio::test]
async fn fair_says_how_many_records_are_over_whose_share() {
    let gateway = Setup::overflow(Overflow::Fair).with(|setup| setup.queue.queue_size = 10).start().await;
    let answer = gateway.export(request_by("shop", [9; 45])).await;
    let said = "37 records below WARN of service shop were dropped: its share of the buffer is used";
    assert_eq!(rejected(answer), (37, said.into()));
    let answer = gateway.export(request(["a", "b", "c", "d"])).await;
    let said = "2 records below WARN without service.name were dropped: their share of the buffer is used";
    assert_eq!(rejected(answer), (2, said.into()), "the last two have no room at all");
    gateway.stop().await;
}

#[tokio::test]
async fn drop_oldest_takes_the_newest_and_says_nothing() {
    let gateway = Setup::overflow(Overflow::DropOldest).start().await;
    assert_eq!(gateway.export(request(["a", "b", "c"])).await.unwrap(), None);
    assert_eq!(gateway.export(request(["d", "e"])).await.unwrap(), None);
    assert_eq!(gateway.buffer.books().dropped_for(DropReason::DropOldest), 1);
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["b", "c", "d", "e"]);
    // What is being written does not give way.
    assert_eq!(rejected(gateway.export(request(["f"])).await).0, 1);
    batch.settle_written(&all_but([]));
    gateway.stop().await;
}

#[tokio::test]
async fn reject_sends_the_whole_request_back_for_a_while() {
    let gateway = Setup::overflow(Overflow::Reject).start().await;
    assert_eq!(gateway.export(request(["a", "b", "c"])).await.unwrap(), None);
    assert_retryable(gateway.export(request(["d", "e"])).await);
    assert_eq!(gateway.buffer.books().rejected(RejectReason::Full), 2);
    gateway.take().await.settle_written(&all_but([]));
    assert_eq!(gateway.export(request(["d", "e"])).await.unwrap(), None);
    gateway.take().await.settle_written(&all_but([]));
    // It will never fit as a whole, so that sending it again does not help.
    assert_eq!(rejected(gateway.export(request(["a", "b", "c", "d", "e"])).await).0, 1);
    gateway.take().await.settle_written(&all_but([]));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_larger_than_the_buffer_is_said_to_be() {
    let gateway =
        Setup::overflow(Overflow::Reject).with(|setup| setup.queue.max_bytes = ByteSize(1000)).start().await;
    let answer = gateway.export(request(["x".repeat(2000)])).await;
    assert_eq!(rejected(answer), (1, "1 dropped because they are larger than the whole buffer".into()));
    assert_eq!(gateway.buffer.books().dropped_for(DropReason::TooLarge), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn while_draining_everything_is_sent_elsewhere() {
    let gateway = Setup::default().start().await;
    gateway.intake.drain();
    assert_retryable(gateway.export(request(["a", "b"])).await);
    assert_eq!(gateway.buffer.books().rejected(RejectReason::Draining), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn who_waits_for_the_result_is_told_it() {
    let gateway = Setup::waits_for_result().start().await;
    let exported = async |count| gateway.export(request(["a", "b", "c"].into_iter().take(count))).await;

    let lane = async |dead: &[usize]| gateway.take().await.settle_written(&all_but(dead.iter().copied()));
    let (answer, ()) = tokio::join!(exported(3), lane(&[]));
    assert_eq!(answer.unwrap(), None);
    let (answer, ()) = tokio::join!(exported(3), lane(&[1]));
    assert_eq!(rejected(answer), (1, "1 stored as dead letters because the database refused them".into()));
    let (answer, ()) = tokio::join!(exported(1), lane(&[0]));
    assert_eq!(rejected(answer).0, 1);

    let lane = async || gateway.take().await.settle_dropped(DropReason::RetryExhausted);
    let (answer, ()) = tokio::join!(exported(2), lane());
    assert_retryable(answer);
    assert_eq!(gateway.buffer.books().rejected(RejectReason::Unavailable), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_stored_in_part_is_not_sent_again() {
    let setup = Setup::waits_for_result().with(|setup| {
        // One record is evicted from under its waiting sender.
        setup.queue.overflow = Overflow::DropOldest;
    });
    let gateway = setup.start().await;
    let lane = async {
        while gateway.buffer.budget().records() < 4 {
            tokio::task::yield_now().await;
        }
        let other = request(["e"]);
        let rows = crate::table::Transcoder::default()
            .transcode(&other, 1, 1, &mut crate::table::Space::unlimited())
            .unwrap()
            .rows;
        gateway.buffer.books().receive(1);
        gateway.buffer.enqueue(gateway.buffer.reserve(1, other.len()), rows, None).unwrap();
        gateway.take().await.settle_written(&all_but([]));
    };
    let (answer, ()) = tokio::join!(gateway.export(request(["a", "b", "c", "d"])), lane);
    assert_eq!(rejected(answer), (1, "1 dropped because they could not be stored in time".into()));
    gateway.stop().await;
}

#[tokio::test]
async fn who_waits_too_long_sends_again_and_is_counted_once() {
    let gateway = Setup::waits_for_result().with(|setup| setup.result_timeout = SHORT).start().await;
    assert_retryable(gateway.export(request(["a"])).await);
    assert_balanced(&gateway.buffer);
    // What was sent again is taken, and what nobody waits for any longer is not.
    let lane = async { gateway.take().await };
    let (answer, batch) = tokio::join!(gateway.export(request(["a, again"])), lane);
    assert_retryable(answer);
    assert_eq!(bodies_of(&batch), ["a, again"]);
    batch.settle_written(&all_but([]));
    let books = gateway.buffer.books();
    let counted = (books.received(), books.flushed(), books.rejected(RejectReason::Unavailable));
    assert_eq!(counted, (2, 1, 1));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_are_taken_beside_the_others() {
    let gateway = Setup::default().with(|setup| setup.queue.queue_size = 10_000).start().await;
    let bodies: Vec<_> = (0..4000).map(|number| format!("{number:0200}")).collect();
    assert_eq!(gateway.export(request(&bodies)).await.unwrap(), None);
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), bodies);
    batch.settle_written(&all_but([]));
    gateway.stop().await;
}
