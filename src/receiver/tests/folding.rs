//! Records that repeat each other while the buffer fills: one of them is stored for many.

use std::collections::BTreeMap;

use crate::buffer::fold::COUNT;
use crate::buffer::fold::config::FoldConfig;
use crate::buffer::samples::{field, request_of, resource_of};
use crate::receiver::{Accepted, Refusal, Transport};
use crate::table::Severity;
use crate::table::columns::COLUMNS;
use crate::table::decode::{Record, Value};

use super::*;

/// A record to send.
#[derive(Clone, Copy)]
struct Sent<'a> {
    time: u64,
    severity: u8,
    body: &'a str,
    attribute: (&'a str, &'a str),
    event: &'a str,
    trace: u8,
}

/// A record as it is stored.
#[derive(Debug, PartialEq)]
struct Stored {
    body: String,
    time: i64,
    observed: bool,
    traced: bool,
    severity: i64,
    attributes: BTreeMap<String, serde_json::Value>,
}

const ERROR: Sent<'_> = Sent {
    time: SECOND,
    severity: 17,
    body: "connection refused",
    attribute: ("peer", "10.0.0.1"),
    event: "",
    trace: 0,
};
const SECOND: u64 = 1_000_000_000;
const WINDOW: Duration = Duration::from_secs(10);

impl Sent<'_> {
    fn message(&self) -> Vec<u8> {
        let pair = [field(1, self.attribute.0.as_bytes()), field(2, &field(1, self.attribute.1.as_bytes()))];
        [
            [&[1 << 3 | 1][..], &self.time.to_le_bytes()].concat(),
            vec![2 << 3, self.severity],
            field(5, &field(1, self.body.as_bytes())),
            field(6, &pair.concat()),
            field(9, &[self.trace; 16]),
            field(12, self.event.as_bytes()),
        ]
        .concat()
    }
}

struct Sender {
    buffer: Arc<Buffer>,
    intake: Intake,
}

impl Sender {
    fn of(queue: QueueConfig) -> Self {
        let buffer = Arc::new(Buffer::new(&queue, &BatchConfig::default()));
        Self { intake: Intake::new(buffer.clone(), !queue.enabled, LONG), buffer }
    }

    fn with(fold: FoldConfig) -> Self {
        let overflow = Overflow::DropNewest;
        Self::of(QueueConfig { queue_size: 100, overflow, fold, ..QueueConfig::default() })
    }

    async fn send(&self, records: impl IntoIterator<Item = Sent<'_>>) -> Accepted {
        let request = request_of(records.into_iter().map(|record| record.message()));
        self.intake.take_in(request, Transport::Grpc).await.unwrap()
    }

    /// Sends distinct records until this many are buffered.
    async fn fill(&self, records: usize) {
        let bodies: Vec<_> =
            (self.buffer.budget().records()..records).map(|number| format!("distinct {number}")).collect();
        self.send(bodies.iter().map(|body| Sent { severity: 9, body, ..ERROR })).await;
        assert_eq!(self.buffer.budget().records(), records);
    }

    /// Time passes, and what is due then is written.
    async fn wait(&self, time: Duration) {
        tokio::time::advance(time).await;
        self.intake.write_folded(false);
    }

    /// Ends; returns the stored errors.
    async fn end(self) -> Vec<Stored> {
        self.intake.write_folded(true);
        self.buffer.close();
        let mut stored = Vec::new();
        while let Some(batch) = self.buffer.take().await {
            stored.extend((0..batch.len()).map(|row| read(batch.row(row))));
            batch.settle_written(&BTreeSet::new());
        }
        assert_eq!((self.buffer.budget().records(), self.buffer.budget().bytes()), (0, 0));
        assert_balanced(&self.buffer);
        stored.retain(|record| record.severity >= 17);
        stored
    }
}

fn read(row: &[u8]) -> Stored {
    let names: Vec<_> = COLUMNS.iter().map(|column| column.name.to_owned()).collect();
    let record = Record::read(row, &names).unwrap();
    let integer = |name| if let Value::Integer(value) = record.get(name) { value } else { 0 };
    let Value::Json(attributes) = record.get("attributes") else { panic!("an object") };
    let Value::Text(body) = record.get("body") else { panic!("a text") };
    Stored {
        body: body.to_owned(),
        time: integer("time_unix_nano"),
        observed: !matches!(record.get("observed_time_unix_nano"), Value::Null),
        traced: !matches!(record.get("trace_id"), Value::Null),
        severity: integer("severity_number"),
        attributes: serde_json::from_str(attributes.get()).unwrap(),
    }
}

/// The numbers of records that the stored ones stand for.
fn counts(stored: &[Stored]) -> Vec<u64> {
    stored
        .iter()
        .map(|record| record.attributes.get(COUNT).map_or(1, |count| count.as_u64().unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_is_stored_as_it_is_and_one_more_for_all_that_repeat_it() {
    let sender = Sender::with(FoldConfig::default());
    sender.fill(51).await;
    let times = [SECOND, 5 * SECOND, 3 * SECOND, 9 * SECOND + 123_000_000, 7 * SECOND];
    let errors = times.map(|time| Sent { time, trace: time as u8 | 1, ..ERROR });
    assert_eq!(sender.send(errors).await, Accepted::default());
    assert_eq!(sender.buffer.books().folded(Severity::Error), 3, "one of the four is stored");
    assert_eq!(sender.buffer.budget().records(), 53, "the first, and the room of the folded one");
    let stored = sender.end().await;
    let own = BTreeMap::from([("peer".to_owned(), "10.0.0.1".into())]);
    let stored_as = |time, traced, attributes| Stored {
        body: "connection refused".to_owned(),
        time,
        observed: false,
        traced,
        severity: 17,
        attributes,
    };
    let mut folded = own.clone();
    folded.extend([
        ("forebay.folded.count".to_owned(), 4.into()),
        ("forebay.folded.first_time".to_owned(), "1970-01-01T00:00:03Z".into()),
        ("forebay.folded.last_time".to_owned(), "1970-01-01T00:00:09.123Z".into()),
    ]);
    let expected = [stored_as(1_000_000_000, true, own), stored_as(9_123_000_000, false, folded)];
    assert_eq!(stored, expected);
}

#[tokio::test(start_paused = true)]
async fn a_storm_in_an_outage_becomes_one_record_and_one_for_each_window() {
    let queue = QueueConfig { queue_size: 10_000, ..QueueConfig::default() };
    let sender = Sender::of(queue);
    sender.fill(5_001).await;
    // Four windows of 25 requests.
    for request in 0..100 {
        sender.send(vec![ERROR; 1000]).await;
        if request % 25 == 24 {
            sender.wait(WINDOW).await;
        }
    }
    assert_eq!(sender.buffer.budget().records(), 5_001 + 1 + 4 + 1, "one has room for what may follow");
    let stored = sender.end().await;
    assert_eq!(counts(&stored), [1, 24_999, 25_000, 25_000, 25_000]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_folded_while_there_is_room() {
    let sender = Sender::with(FoldConfig::default());
    sender.send([ERROR; 50]).await;
    assert!(!sender.buffer.is_folding());
    assert_eq!(sender.buffer.books().folded_total(), 0);
    sender.fill(51).await;
    assert!(sender.buffer.is_folding());
    sender.send([ERROR; 10]).await;
    assert_eq!(sender.buffer.books().folded_total(), 8);
    // Three quarters have to be free again.
    let mut batch = sender.buffer.take().await.unwrap();
    assert_eq!(batch.len(), 52);
    let mut rest = batch.split_off(26);
    batch.settle_written(&BTreeSet::new());
    assert!(sender.buffer.is_folding(), "27 of 100");
    let last = rest.split_off(2);
    rest.settle_written(&BTreeSet::new());
    assert!(!sender.buffer.is_folding(), "25 of 100");
    sender.send([ERROR; 10]).await;
    assert_eq!(sender.buffer.books().folded_total(), 8);
    sender.intake.write_folded(false);
    assert_eq!(sender.buffer.budget().records(), 35, "the pending one is written when the pressure is over");
    last.settle_written(&BTreeSet::new());
    let stored = sender.end().await;
    assert_eq!(counts(&stored).iter().sum::<u64>(), 10 + 9);
}

#[tokio::test(start_paused = true)]
async fn what_differs_by_a_byte_is_not_folded() {
    let sender = Sender::with(FoldConfig::default());
    sender.fill(51).await;
    let others = [
        Sent { body: "connection refuseD", ..ERROR },
        Sent { severity: 18, ..ERROR },
        Sent { attribute: ("peer", "10.0.0.2"), ..ERROR },
        Sent { attribute: ("Peer", "10.0.0.1"), ..ERROR },
        Sent { event: "refused", ..ERROR },
    ];
    sender.send([ERROR].into_iter().chain(others)).await;
    // The same record of another resource.
    let resource = field(1, &field(1, &[field(1, b"service.name"), field(2, &field(1, b"shop"))].concat()));
    assert_eq!(resource_of(Some("shop")).service_name.as_deref(), Some("shop"));
    let records = field(2, &field(2, &ERROR.message()));
    let request = field(1, &[resource, records].concat());
    sender.intake.take_in(Bytes::from(request), Transport::Grpc).await.unwrap();
    assert_eq!((sender.buffer.books().folded_total(), sender.buffer.budget().records()), (0, 51 + 7));
    assert_eq!(counts(&sender.end().await), [1; 7]);
}

#[tokio::test(start_paused = true)]
async fn attributes_may_differ_if_they_are_ignored() {
    let fold = FoldConfig { ignore: vec!["request.id".to_owned()], ..FoldConfig::default() };
    let sender = Sender::with(fold);
    sender.fill(51).await;
    let ids: Vec<_> = (0..10).map(|number| format!("{}", number * number * number)).collect();
    sender.send(ids.iter().map(|id| Sent { attribute: ("request.id", id), ..ERROR })).await;
    sender.send(ids.iter().map(|id| Sent { attribute: ("user.id", id), ..ERROR })).await;
    assert_eq!(counts(&sender.end().await), [&[1][..], &[1; 10], &[9]].concat());
}

#[tokio::test(start_paused = true)]
async fn numbers_in_the_body_may_differ_with_a_template() {
    for (template, expected) in [(true, vec![1, 1, 9]), (false, vec![1; 11])] {
        let sender = Sender::with(FoldConfig { template, ..FoldConfig::default() });
        sender.fill(51).await;
        let bodies: Vec<_> =
            (0..10).map(|number| format!("order {} of 7f{number} failed", number * 99)).collect();
        sender.send(bodies.iter().map(|body| Sent { body, ..ERROR })).await;
        sender.send([Sent { body: "order 1 of 7f0 fails", ..ERROR }]).await;
        assert_eq!(counts(&sender.end().await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn excepted_scopes_and_events_are_never_folded() {
    let fold = FoldConfig { except: vec!["audit".to_owned()], ..FoldConfig::default() };
    let sender = Sender::with(fold);
    sender.fill(51).await;
    sender.send([Sent { event: "audit", ..ERROR }; 3]).await;
    let scoped = |name: &str| {
        let records = field(2, &ERROR.message()).repeat(3);
        Bytes::from(field(1, &field(2, &[field(1, &field(1, name.as_bytes())), records].concat())))
    };
    for name in ["audit", "audited"] {
        sender.intake.take_in(scoped(name), Transport::Grpc).await.unwrap();
    }
    assert_eq!(counts(&sender.end().await), [&[1; 7][..], &[2]].concat());
}

#[tokio::test(start_paused = true)]
async fn repeats_find_their_room_in_a_full_buffer() {
    let sender = Sender::with(FoldConfig::default());
    sender.fill(60).await;
    sender.send([ERROR; 2]).await;
    sender.fill(100).await;
    let answer = sender.send([&[ERROR; 50][..], &[Sent { body: "another", ..ERROR }]].concat()).await;
    assert_eq!(answer.rejected, 1, "only that for which no record stands: {answer:?}");
    // A window goes on for as long as there is no room for the next one.
    sender.wait(WINDOW).await;
    sender.send([ERROR; 50]).await;
    assert_eq!(sender.buffer.budget().records(), 100);
    assert_eq!(counts(&sender.end().await), [1, 101]);
}

/// INFO may fill four fifths of the buffer; then others of the same sender are dropped, but what repeats is counted.
#[tokio::test(start_paused = true)]
async fn repeats_are_folded_beyond_the_share_of_their_sender_as_well() {
    let sender = Sender::of(QueueConfig { queue_size: 100, ..QueueConfig::default() });
    sender.fill(60).await;
    let info = Sent { severity: 9, body: "cache missed", ..ERROR };
    assert_eq!(sender.send([info; 2]).await, Accepted::default());
    let bodies: Vec<_> = (0..100).map(|number| format!("another {number}")).collect();
    let records: Vec<_> = bodies.iter().map(|body| Sent { body, ..info }).collect();
    let dropped = sender.send(records).await.rejected;
    assert!(dropped > 80, "{dropped} are beyond the share");
    let answer = sender.send([info; 50]).await;
    assert_eq!((answer, sender.buffer.books().folded_total()), (Accepted::default(), 50));
    assert_eq!(sender.send([ERROR; 2]).await, Accepted::default(), "an error has its own share");
    assert_eq!(counts(&sender.end().await), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_first_repeat_gives_its_own_room_to_the_folded_record() {
    let sender = Sender::with(FoldConfig::default());
    sender.fill(98).await;
    let padded = "x".repeat(1000);
    // The request takes all the room there is.
    let records = vec![Sent { body: &padded, ..ERROR }; 40];
    assert_eq!(sender.send(records).await, Accepted::default());
    assert_eq!(sender.buffer.budget().records(), 100);
    assert_eq!(counts(&sender.end().await), [1, 39]);
}

#[tokio::test(start_paused = true)]
async fn repeats_of_a_refused_request_are_not_counted() {
    let queue = QueueConfig { queue_size: 100, overflow: Overflow::Reject, ..QueueConfig::default() };
    let sender = Sender::of(queue);
    sender.fill(60).await;
    sender.send([ERROR; 3]).await;
    let refused = request_of((0..50).map(|_| ERROR.message()));
    let refused = sender.intake.take_in(refused, Transport::Grpc).await;
    assert_eq!(refused.unwrap_err(), Refusal::Full);
    assert_eq!(sender.buffer.books().folded_total(), 1);
    assert_eq!(counts(&sender.end().await), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_comes_after_its_window_is_stored_as_it_is_again() {
    let sender = Sender::with(FoldConfig::default());
    sender.fill(51).await;
    for _ in 0..3 {
        sender.send([ERROR]).await;
        sender.wait(2 * WINDOW).await;
    }
    assert_eq!(counts(&sender.end().await), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn folded_records_take_a_small_part_of_the_buffer_at_most() {
    let sender = Sender::with(FoldConfig::default());
    sender.fill(51).await;
    let bodies: Vec<_> = (0..10).map(|number| format!("error {number}")).collect();
    let records: Vec<_> = bodies.iter().map(|body| Sent { body, ..ERROR }).collect();
    sender.send([&records[..], &records, &records].concat()).await;
    let stored = sender.end().await;
    assert_eq!(counts(&stored).iter().sum::<u64>(), 30);
    assert_eq!(stored.iter().filter(|record| record.attributes.contains_key(COUNT)).count(), 100 / 16);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_folded_where_senders_wait_for_the_result_or_where_it_is_off() {
    let queue = |enabled, fold| {
        let fold = FoldConfig { enabled: fold, ..FoldConfig::default() };
        let overflow = Overflow::DropNewest;
        QueueConfig { queue_size: 100, overflow, enabled, fold, ..QueueConfig::default() }
    };
    for (enabled, fold) in [(false, true), (true, false)] {
        let buffer = Buffer::new(&queue(enabled, fold), &BatchConfig::default());
        let bodies = (0..60).map(|number| number.to_string());
        let request = crate::buffer::samples::request(bodies);
        let reservation = buffer.reserve(60, request.len());
        assert!(!buffer.is_folding() && buffer.budget().records() == 60);
        drop(reservation);
    }
}

#[test]
fn threads_that_repeat_each_other_lose_no_count() {
    let queue = QueueConfig { queue_size: 1_000, ..QueueConfig::default() };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let sender = Sender::of(queue);
    runtime().block_on(sender.fill(501));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                runtime().block_on(async {
                    for _ in 0..250 {
                        sender.send([ERROR; 20]).await;
                        sender.intake.write_folded(true);
                    }
                });
            });
        }
    });
    let buffer = sender.buffer.clone();
    let stored = runtime().block_on(sender.end());
    assert!(buffer.books().folded_total() > 0);
    let lost = buffer.books().dropped_total();
    assert_eq!(counts(&stored).iter().sum::<u64>() + lost, 20_000);
}
