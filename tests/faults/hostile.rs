//! Messages that are made to do harm, while good senders go on. What must hold: memory keeps its bound, the good
//! senders notice nothing, and each refusal has the code that makes its sender do the right thing.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use forebay::otlp::messages::ExportLogsServiceRequest;
use support::forebay::get;
use support::records::{numbered, numbered_request, pair, text};
use support::sender::{Answer, PATH, Sender, retry_delay};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tonic::{Code, Status};

use crate::chance::{assert_within, either};
use crate::oracle::{Oracle, Sent};
use crate::siege::{REQUEST_LIMIT_MIB, Siege, export_head, message, status};

/// Numbers of records that the load does not use.
const OTHERS: u64 = 100_000_000_000;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// About `length` bytes of gzip, a thousandth of what they hold.
fn bomb(length: usize) -> Bytes {
    let member = gzip(&vec![0; 4 << 20]);
    message(
        1,
        (member.len() * length.div_ceil(member.len())) as u32,
        &member.repeat(length.div_ceil(member.len())),
    )
}

async fn send_frame(sender: &Sender, endpoint: &str, encoding: &str, frame: Bytes) -> Status {
    let post = http::Request::post(format!("{endpoint}{PATH}")).header("content-type", "application/grpc");
    status(&sender.send_raw(post.header("grpc-encoding", encoding).body(frame).unwrap()).await.headers)
}

/// Whether it was refused for good. For a while is the other way.
fn for_good(status: &Status) -> bool {
    let codes = (status.code(), retry_delay(status).is_some());
    assert!(matches!(codes, (Code::ResourceExhausted, false) | (Code::Unavailable, true)), "{status:?}");
    status.code() == Code::ResourceExhausted
}

/// Fault 27. Scenario: gzip that holds a thousand times of itself, from fifty senders at once. Promise: it is refused,
/// and costs the limit at most, in all.
#[tokio::test(flavor = "multi_thread")]
async fn bombs() {
    let (limit, wire) = either((8, 2 << 20), (64, 20 << 20));
    let most = format!("receivers.otlp.protocols.grpc.max_recv_msg_size_mib={limit}");
    let by_http = format!("receivers.otlp.protocols.http.max_request_body_size={}", limit << 20);
    let siege = Siege::begin(3 * limit, &[&most, &by_http]).await;
    let (endpoint, bomb) = (siege.endpoint(), bomb(wire));
    let mut senders = JoinSet::new();
    for _ in 0..50 {
        let (endpoint, bomb) = (endpoint.clone(), bomb.clone());
        senders.spawn(async move {
            let sender = Sender::connect(&endpoint).await;
            for_good(&send_frame(&sender, &endpoint, "gzip", bomb).await)
        });
    }
    let refused = senders.join_all().await.into_iter().filter(|for_good| *for_good).count() as u64;
    let alone = send_frame(&siege.scene.forebay.sender().await, &endpoint, "gzip", bomb).await;
    assert!(for_good(&alone), "by itself it has room: {alone:?}");
    let (page, what) = (siege.scene.forebay.scrape().await, "log_buffer_unread_requests_total");
    let counted = ["too_large", "no_room"].map(|reason| page.sum(what, &format!("reason=\"{reason}\"")));
    assert_eq!(counted, [refused + 1, 50 - refused], "as the senders were told");
    siege.ends(&format!("fault 27, 50 bombs, {refused} refused for good at once"), Oracle::default()).await;
}

/// Fault 28. Scenario: requests over the limit, by a byte, by ten times, and by what the length says, the last on a
/// thousand streams; and a thousand that say they are just within it and do not come. Promise: those over the limit
/// are refused for good, without their bytes; those that are announced take no memory.
#[tokio::test(flavor = "multi_thread")]
async fn oversize() {
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[]).await;
    let (endpoint, sender) = (siege.endpoint(), siege.scene.forebay.sender().await);
    let over = vec![0; (4 << 20) + 1];
    assert!(for_good(
        &send_frame(&sender, &endpoint, "identity", message(0, over.len() as u32, &over)).await
    ));
    assert!(for_good(&send_frame(&sender, &endpoint, "identity", message(0, 40 << 20, &over)).await));
    drop(over);
    let mut silent = Vec::new();
    for _ in 0..10 {
        let mut client = siege.streams().await;
        let mut answers = Vec::new();
        for stream in 0..100 {
            client = client.ready().await.unwrap();
            let (answer, mut body) = client.send_request(export_head(), false).unwrap();
            body.send_data(message(0, u32::MAX, &[]), false).unwrap();
            answers.push((stream, answer, body));
        }
        for (stream, answer, _body) in answers {
            assert!(for_good(&status(answer.await.unwrap().headers())), "stream {stream}");
        }
        for _ in 0..100 {
            client = client.ready().await.unwrap();
            let (answer, mut body) = client.send_request(export_head(), false).unwrap();
            body.send_data(message(0, 4 << 20, b"x"), false).unwrap();
            silent.push((answer, body));
        }
    }
    siege.scene.flushes(5_000).await;
    drop(silent);
    siege.ends("fault 28, 2,000 streams that announce much", Oracle::default()).await;
}

/// Fault 28. Scenario: the official Python SDK has a record over the limit. Promise: it sends it once.
#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_sends_what_is_too_large_once() {
    let most = "receivers.otlp.protocols.grpc.max_recv_msg_size_mib=1";
    let siege = Siege::begin(REQUEST_LIMIT_MIB, &[most]).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python");
    assert!(python.exists(), "{} is missing; ./dev test makes it", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/sdk/python/oversize.py")).arg(siege.endpoint()).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, "sent 1 time: FAILURE\n", "{error}");
    assert!(error.contains("RESOURCE_EXHAUSTED"), "{error}");
    siege.ends("fault 28, too large, from Python", Oracle::default()).await;
}

/// A request of one numbered record from each of these services.
fn of_services(numbers: std::ops::Range<u64>) -> ExportLogsServiceRequest {
    let mut all = numbered_request(0..0);
    let one = all.resource_logs.pop().expect("one resource");
    all.resource_logs = numbers
        .map(|number| {
            let mut resource = one.clone();
            resource.resource.as_mut().unwrap().attributes[0] =
                pair("service.name", text(format!("s{number}")));
            resource.scope_logs[0].log_records = vec![numbered(OTHERS + number)];
            resource
        })
        .collect();
    all
}

/// Fault 29. Scenario: every record is from another service. Promise: memory and the metrics page know no services.
#[tokio::test(flavor = "multi_thread")]
async fn services_without_end() {
    let siege =
        Siege::begin(REQUEST_LIMIT_MIB, &["exporters.postgres.sending_queue.queue_size=200000"]).await;
    let sender = siege.scene.forebay.sender().await;
    let mut oracle = Oracle::default();
    for first in (0..either(20_000, 100_000)).step_by(200) {
        let numbers = first..first + 200;
        let answer = Answer::of(sender.send(of_services(numbers.clone())).await);
        let numbers = OTHERS + numbers.start..OTHERS + numbers.end;
        oracle.requests.push(Sent { numbers, answers: vec![answer] });
    }
    let (_, page) = get(&format!("http://{}/metrics", siege.scene.forebay.metrics_address())).await;
    assert!(page.len() < 1_000_000, "{} bytes of metrics", page.len());
    siege.ends(&format!("fault 29, services, {} bytes of metrics", page.len()), oracle).await;
}

/// Scenario: ten thousand requests a second, each of one record (in CI three thousand, beside other tests). Promise: all are
/// taken, and answered in time.
#[tokio::test(flavor = "multi_thread")]
async fn tiny_requests() {
    const SENDERS: u64 = 40;
    let (rate, seconds) = either((3_000, 3), (10_000, 60));
    let siege =
        Siege::begin(REQUEST_LIMIT_MIB, &["exporters.postgres.sending_queue.queue_size=200000"]).await;
    let (began, requests) = (Instant::now(), rate * seconds);
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let endpoint = siege.endpoint();
        senders.spawn(async move {
            let (client, mut oracle) = (Sender::connect(&endpoint).await, Oracle::default());
            // Who is late makes up for it.
            let mut pace = interval(Duration::from_secs(1) * SENDERS as u32 / rate as u32);
            for number in (OTHERS + sender..OTHERS + requests).step_by(SENDERS as usize) {
                oracle.is_late(pace.tick().await);
                let sent = Instant::now();
                let answer = Answer::of(client.send(numbered_request(number..number + 1)).await);
                oracle.answered(sent.elapsed(), answer);
                oracle.requests.push(Sent { numbers: number..number + 1, answers: vec![answer] });
            }
            oracle
        });
    }
    let mut oracle = Oracle::default();
    senders.join_all().await.into_iter().for_each(|one| oracle.add(one));
    oracle.assert_answers_in_time();
    let (lasted, taken) = (began.elapsed(), requests as f64 / began.elapsed().as_secs_f64());
    assert_within(Duration::from_secs(seconds).mul_f64(1.1), lasted, "requests that are paced");
    siege.ends(&format!("tiny requests, {taken:.0} a second"), oracle).await;
}
