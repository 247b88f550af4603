//! Requests whose structure is made to cost what their bytes do not: each limit, at the limit and beyond, while good senders go
//! on. What must hold: what is at a limit is stored, what is beyond is refused for good and alone, memory keeps its bound, and
//! the good senders notice nothing.

use forebay::otlp::Limits;
use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{
    AnyValue, ArrayValue, ExportLogsServiceRequest, KeyValue, KeyValueList, LogRecord, ResourceLogs,
};
use prost::Message;
use support::records::{numbered, numbered_request, pair, text};
use support::sender::{Answer, PATH, Sender};
use tokio::task::JoinSet;
use tonic::Code;

use crate::chance::either;
use crate::oracle::{Oracle, Sent};
use crate::siege::{REQUEST_LIMIT_MIB, Siege, message};

/// Numbers of records that the load does not use.
const OTHERS: u64 = 200_000_000_000;

/// What is done to a record or a request, at a limit or by so many beyond it.
type Shape = fn(&mut ExportLogsServiceRequest, usize);

fn record(request: &mut ExportLogsServiceRequest) -> &mut LogRecord {
    &mut request.resource_logs[0].scope_logs[0].log_records[0]
}

fn value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn empty() -> KeyValue {
    KeyValue::default()
}

/// The shapes that make one record too complex.
fn shapes() -> Vec<(&'static str, Shape)> {
    const LIMITS: fn() -> Limits = Limits::default;
    vec![
        ("attributes", |request, beyond| {
            let record = record(request);
            record.attributes.resize_with(LIMITS().attributes + beyond, empty);
        }),
        ("entries of a map", |request, beyond| {
            let values = vec![empty(); LIMITS().attributes + beyond];
            let map = value(Value::KvlistValue(KeyValueList { values }));
            record(request).attributes.push(KeyValue { key: "map".into(), value: Some(map) });
        }),
        ("elements", |request, beyond| {
            let values = vec![AnyValue::default(); LIMITS().elements + beyond];
            let array = value(Value::ArrayValue(ArrayValue { values }));
            record(request).attributes.push(KeyValue { key: "array".into(), value: Some(array) });
        }),
        ("key", |request, beyond| {
            record(request).attributes.push(pair("k".repeat(LIMITS().key_bytes + beyond), text("v")));
        }),
        ("bytes of a record", |request, beyond| {
            let record = record(request);
            // Beside the text: its key, and the lengths and tags around both.
            let others = record.encoded_len() + 3 + 5 + 5 + 5 + 3;
            record.attributes.push(pair("pad", text("\u{1}".repeat(LIMITS().record_bytes - others))));
            let missing = LIMITS().record_bytes - record.encoded_len() + beyond;
            record.severity_text.push_str(&"s".repeat(missing));
        }),
        ("attributes of a resource", |request, beyond| {
            let resource = request.resource_logs[0].resource.get_or_insert_default();
            resource.attributes.resize_with(LIMITS().resource_attributes + beyond, empty);
        }),
        ("bytes of a resource", |request, beyond| {
            let resource = request.resource_logs[0].resource.get_or_insert_default();
            let others = resource.encoded_len() + 3 + 4 + 4 + 4 + 2;
            resource.attributes.push(pair("pad", text("\u{1}".repeat(LIMITS().resource_bytes - others))));
            let missing = LIMITS().resource_bytes - resource.encoded_len() + beyond;
            request.resource_logs[0].schema_url = "u".repeat(missing);
        }),
    ]
}

/// Scenario: records at each limit and one beyond it, alone and beside a good one. Promise: the one beyond is rejected alone.
#[tokio::test(flavor = "multi_thread")]
async fn each_limit_at_it_and_beyond() {
    let by_grpc = "receivers.otlp.protocols.grpc.max_recv_msg_size_mib=8";
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[by_grpc]).await;
    let (sender, mut oracle, mut next) = (siege.scene.forebay.sender().await, Oracle::default(), OTHERS);
    for (what, shape) in shapes() {
        for (beyond, expected) in [(0, 0), (1, 1)] {
            let mut request = numbered_request(next..next + 1);
            shape(&mut request, beyond);
            // A good one of another resource goes with it.
            request.resource_logs.extend(numbered_request(next + 1..next + 2).resource_logs);
            let answer = Answer::of(sender.send(request).await);
            assert_eq!(answer, Answer::Taken { rejected: expected }, "{what}, {beyond} beyond");
            oracle.requests.push(Sent { numbers: next..next + 2, answers: vec![answer] });
            next += 2;
        }
    }
    siege.ends("structure, each limit at it and beyond", oracle).await;
}

/// Bytes of wire that are much structure: what they are, and how a sender is answered.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    let record = numbered(OTHERS).encode_to_vec();
    let nested = |field: u8, bytes: &[u8]| {
        let mut out = vec![field << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        [&out[..], bytes].concat()
    };
    let of_record = |record: &[u8]| nested(1, &nested(2, &nested(2, record)));
    let resource = ResourceLogs::default().encode_to_vec();
    vec![
        ("resources", nested(1, &resource).repeat(1_500_000)),
        ("scopes", nested(1, &[0x12, 0].repeat(1_500_000))),
        ("attributes", of_record(&[&record[..], &[0x32, 0].repeat(1_500_000)].concat())),
        (
            "resource",
            nested(1, &[nested(1, &[0x0a, 0].repeat(1_500_000)), nested(2, &nested(2, &record))].concat()),
        ),
        ("elements", of_record(&nested(5, &nested(5, &[0x0a, 0].repeat(1_500_000))))),
    ]
}

/// Scenario: twenty senders at once send requests of millions of empty things, plain and compressed. Promise: each is refused
/// for good, at the cost of its bytes.
#[tokio::test(flavor = "multi_thread")]
async fn millions_of_nothing() {
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[]).await;
    let (endpoint, rounds) = (siege.endpoint(), either(1, 20));
    let mut senders = JoinSet::new();
    for number in 0..20 {
        let endpoint = endpoint.clone();
        senders.spawn(async move {
            let (sender, mut oracle) = (Sender::connect(&endpoint).await, Oracle::default());
            for _ in 0..rounds {
                for (what, request) in floods() {
                    let dense = zstd::bulk::compress(&request, 3).unwrap();
                    let (flag, encoding, bytes) =
                        if number % 2 == 0 { (0, "identity", &request) } else { (1, "zstd", &dense) };
                    let frame = message(flag, bytes.len() as u32, bytes);
                    let post = http::Request::post(format!("{endpoint}{PATH}"))
                        .header("content-type", "application/grpc")
                        .header("grpc-encoding", encoding);
                    let answered = sender.send_raw(post.body(frame).unwrap()).await;
                    let status = tonic::Status::from_header_map(&answered.headers);
                    let code = status.map_or(Code::Ok, |status| status.code());
                    // What takes much room finds none while others have it.
                    let refused = [Code::InvalidArgument, Code::ResourceExhausted, Code::Unavailable];
                    if refused.contains(&code) {
                        continue;
                    }
                    // One record that is too complex is refused in a partial success.
                    let alone = ["attributes", "resource", "elements"].contains(&what) && code == Code::Ok;
                    assert!(alone, "{what} by {encoding}: {code:?}");
                    let answers = vec![Answer::Taken { rejected: 1 }];
                    oracle.requests.push(Sent { numbers: OTHERS..OTHERS + 1, answers });
                }
            }
            oracle
        });
    }
    let mut oracle = Oracle::default();
    senders.join_all().await.into_iter().for_each(|one| oracle.add(one));
    siege.ends("structure, millions of nothing", oracle).await;
}
