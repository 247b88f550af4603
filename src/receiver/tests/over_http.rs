//! OTLP/HTTP: what a request is answered, and how its connection begins and ends.

use http::StatusCode;
use prost::Message;
use tonic_types::pb;

use super::http1::Reply;
use super::*;
use crate::buffer::RejectReason;
use crate::buffer::samples::{bodies_of, malformed_record, record, request, request_of};
use crate::receiver::tests::messages::gzip;
use crate::values::duration::GoDuration;

const POST: &str = "POST /v1/logs HTTP/1.1\r\ncontent-type: application/x-protobuf";

impl Gateway {
    /// Sends one request over a connection of its own.
    async fn post(&self, body: &[u8]) -> Reply {
        self.ask(POST, body).await
    }

    pub(super) async fn ask(&self, head: &str, body: &[u8]) -> Reply {
        self.client().await.ask(head, body).await
    }
}

/// The answer is OK; what it says of rejected records.
fn taken(reply: &Reply) -> Option<ExportLogsPartialSuccess> {
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/x-protobuf"));
    ExportLogsServiceResponse::decode(reply.body.clone()).unwrap().partial_success
}

/// The answer is not to send that again; what it says.
fn refused(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("retry-after"), None);
    assert_eq!(reply.header("content-type"), Some("application/x-protobuf"));
    pb::Status::decode(reply.body.clone()).unwrap().message
}

/// The answer is to send again in a second or two.
fn postponed(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert!(matches!(reply.header("retry-after"), Some("1" | "2")), "{reply:?}");
    let body = pb::Status::decode(reply.body.clone()).unwrap();
    assert_eq!(body.code, Code::Unavailable as i32, "{body:?}");
}

#[tokio::test]
async fn what_is_accepted_is_in_the_buffer() {
    let gateway = Setup::default().with(|setup| setup.queue.queue_size = 5).start().await;
    let mut client = gateway.client().await;
    assert_eq!(taken(&client.ask(POST, &request(["a", "b"])).await), None);
    let compressed = format!("{POST}\r\ncontent-encoding: gzip");
    assert_eq!(taken(&client.ask(&compressed, &gzip(&request(["c"]))).await), None);
    let compressed = format!("{POST}\r\ncontent-encoding: zstd");
    let body = zstd::bulk::compress(&request(["d"]), 3).unwrap();
    assert_eq!(taken(&client.ask(&compressed, &body).await), None);
    client.write(format!("{POST}\r\nhost: forebay\r\ntransfer-encoding: chunked\r\n\r\n")).await;
    let body = request(["e"]);
    for part in [&body[..3], &body[3..]] {
        client.write(format!("{:x}\r\n", part.len())).await;
        client.write(part).await;
        client.write("\r\n").await;
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(taken(&client.reply().await), None);
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["a", "b", "c", "d", "e"]);
    batch.settle_written(&all_but([]));
    gateway.stop().await;
}

#[tokio::test]
async fn an_empty_request_succeeds() {
    let gateway = Setup::default().start().await;
    for body in [&b""[..], &request_of([])] {
        let reply = gateway.post(body).await;
        assert_eq!((taken(&reply), reply.body.len()), (None, 0));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_rejected_is_said() {
    let gateway = Setup::default().start().await;
    let body = request_of([record("a"), malformed_record(), record("b")]);
    let partial = taken(&gateway.post(&body).await).expect("one is rejected");
    assert_eq!((partial.rejected_log_records, partial.error_message.is_empty()), (1, false));
    gateway.take().await.settle_written(&all_but([]));
    assert_eq!(gateway.buffer.books().rejected(RejectReason::Malformed), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_never_passes_is_refused_for_good() {
    let gateway = Setup::default().start().await;
    let encoded = |name| format!("{POST}\r\ncontent-encoding: {name}");
    for (head, body, status, said) in [
        (POST.to_owned(), b"this is not protobuf".to_vec(), 400, "malformed protobuf"),
        (encoded("gzip"), b"this is not gzip".to_vec(), 400, "not gzip"),
        (encoded("snappy"), vec![], 415, "content-encoding snappy"),
        (POST.replace("logs", "traces"), vec![], 404, "/v1/logs"),
        (POST.replace("POST", "PUT"), vec![], 405, "POST"),
        (POST.to_owned(), vec![0; (1 << 20) + 1], 413, "1048576 bytes"),
        (encoded("gzip"), gzip(&request(["x".repeat(1 << 20)])), 413, "max_request_body_size"),
    ] {
        let reply = gateway.ask(&head, &body).await;
        let message = refused(&reply, status);
        assert!(message.contains(said), "{head}: {message}");
        assert_eq!(reply.header("allow"), (status == 405).then_some("POST"));
    }
    for head in [&POST.replace("application/x-protobuf", "text/plain"), "POST /v1/logs HTTP/1.1"] {
        let reply = gateway.ask(head, b"").await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (415, Some("application/json")));
    }
    assert_eq!(gateway.buffer.books().received(), 0);
    let unread =
        [Unread::Malformed, Unread::Encoding, Unread::TooLarge].map(|why| gateway.intake.unread(why));
    assert_eq!(unread, [2, 1, 2]);
    gateway.stop().await;
}

pub(super) const POST_JSON: &str = "POST /v1/logs HTTP/1.1\r\ncontent-type: application/json; charset=utf-8";

/// Records in JSON.
fn json(records: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#)
}

fn text(body: &str) -> String {
    format!(r#"{{"severityNumber":9,"body":{{"stringValue":"{body}"}}}}"#)
}

#[tokio::test]
async fn json_is_answered_in_json() {
    let gateway = Setup::default().with(|setup| setup.queue.queue_size = 5).start().await;
    let bad = r#"{"traceId":{"hex":1}}"#;
    let compressed = format!("{POST_JSON}\r\ncontent-encoding: gzip");
    let rejected = r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"1 refused because they are malformed"}}"#;
    let malformed = r#"{"code":3,"message":"malformed JSON at byte 16: expected a list"}"#;
    for (head, body, status, answer) in [
        (POST_JSON, json(&text("a")).into_bytes(), 200, "{}"),
        (&compressed, gzip(json(&text("b")).as_bytes()), 200, "{}"),
        (POST_JSON, json(&[&text("c"), bad, &text("d")].join(",")).into_bytes(), 200, rejected),
        (POST_JSON, b"{}".to_vec(), 200, "{}"),
        (POST_JSON, vec![], 200, "{}"),
        (POST_JSON, br#"{"resourceLogs":5}"#.to_vec(), 400, malformed),
    ] {
        let reply = gateway.ask(head, &body).await;
        assert_eq!(reply.status, status, "{reply:?}");
        let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(said, serde_json::from_str::<serde_json::Value>(answer).unwrap());
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
    let batch = gateway.take().await;
    assert_eq!(bodies_of(&batch), ["a", "b", "c", "d"]);
    batch.settle_written(&all_but([]));
    let books = gateway.buffer.books();
    assert_eq!((books.rejected(RejectReason::Malformed), gateway.intake.unread(Unread::Malformed)), (1, 1));
    gateway.stop().await;
}

/// The limit is for what is sent; what JSON becomes takes its share of the room beside it, and gives it back.
#[tokio::test]
async fn json_takes_room_for_what_it_becomes() {
    let gateway =
        Setup::default().with(|setup| setup.config.admission.request_limit = ByteSize::mib(1)).start().await;
    let large = json(&text(&"x".repeat(500_000)));
    let reply = gateway.ask(POST_JSON, large.as_bytes()).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    let message = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(message.contains("request_limit_mib"), "{message}");
    for _ in 0..20 {
        let reply = gateway.ask(POST_JSON, json(&text(&"x".repeat(200_000))).as_bytes()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        gateway.take().await.settle_written(&all_but([]));
    }
    gateway.stop().await;
}

/// What is too large by its length is answered before it is sent, and the sender sees the answer, also where it sends on.
#[tokio::test]
async fn what_is_too_large_is_answered_at_once() {
    let gateway = Setup::default().start().await;
    let mut client = gateway.client().await;
    client
        .write(format!("{POST}\r\nhost: forebay\r\nexpect: 100-continue\r\ncontent-length: 3000000\r\n\r\n"))
        .await;
    refused(&client.reply().await, 413);
    drop(client);
    let mut client = gateway.client().await;
    client.send(POST, &vec![0; 3_000_000]).await;
    let reply = client.reply().await;
    refused(&reply, 413);
    assert!(reply.headers["connection"] == "close" && client.ends().await);
    let mut client = gateway.client().await;
    client.write(format!("{POST}\r\nhost: forebay\r\ntransfer-encoding: chunked\r\n\r\n200000\r\n")).await;
    client.write(vec![0; 2 << 20]).await;
    refused(&client.reply().await, 413);
    gateway.stop().await;
}

/// A request that is refused unread costs no connection where its rest is there.
#[tokio::test]
async fn a_refused_request_leaves_the_connection_to_the_next_one() {
    let gateway = Setup::default().start().await;
    let mut client = gateway.client().await;
    for _ in 0..2 {
        let reply = client.ask("POST /v1/traces HTTP/1.1", &[0; 200_000]).await;
        assert_eq!((reply.status, reply.headers.get("connection")), (StatusCode::NOT_FOUND, None));
    }
    assert_eq!(taken(&client.ask(POST, &request(["a"])).await), None);
    gateway.take().await.settle_written(&all_but([]));
    gateway.stop().await;
}

#[tokio::test]
async fn a_sender_may_ask_before_it_sends() {
    let gateway = Setup::default().start().await;
    let mut client = gateway.client().await;
    let body = request(["a"]);
    let length = body.len();
    let head = format!("{POST}\r\nhost: forebay\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
    client.write(head).await;
    assert_eq!(client.reply().await.status, StatusCode::CONTINUE);
    client.write(body).await;
    assert_eq!(taken(&client.reply().await), None);
    gateway.take().await.settle_written(&all_but([]));
    gateway.stop().await;
}

#[tokio::test]
async fn what_passes_has_a_time_to_come_back() {
    let gateway = Setup::overflow(Overflow::Reject).start().await;
    assert_eq!(taken(&gateway.post(&request(["a", "b", "c"])).await), None);
    postponed(&gateway.post(&request(["d", "e"])).await, 429);
    assert_eq!(gateway.buffer.books().rejected(RejectReason::Full), 2);
    gateway.take().await.settle_written(&all_but([]));
    gateway.intake.drain();
    postponed(&gateway.post(&request(["f"])).await, 503);
    gateway.stop().await;

    let gateway = Setup::waits_for_result().with(|setup| setup.result_timeout = SHORT).start().await;
    postponed(&gateway.post(&request(["a"])).await, 503);
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_given_up() {
    let gateway = Setup { arrival: SHORT, ..Setup::default() }.start().await;
    let mut client = gateway.client().await;
    client.write(format!("{POST}\r\nhost: forebay\r\ncontent-length: 9\r\n\r\nabc")).await;
    refused(&client.reply().await, 408);
    assert_eq!(gateway.intake.unread(Unread::TooSlow), 1);
    assert!(client.ends().await);
    gateway.stop().await;
}

#[tokio::test]
async fn headers_that_do_not_arrive_are_given_up() {
    let gateway =
        Setup::default().with(|setup| setup.http().read_header_timeout = GoDuration(SHORT)).start().await;
    let mut client = gateway.client().await;
    client.write(POST).await;
    assert!(client.ends().await);
    gateway.stop().await;
}

#[tokio::test]
async fn http2_is_spoken_as_well() {
    let gateway = Setup::default().start().await;
    let stream = tokio::net::TcpStream::connect(gateway.http).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let head = http::Request::post("http://forebay/v1/logs").header("content-type", "application/x-protobuf");
    let (answer, mut body) = client.send_request(head.body(()).unwrap(), false).unwrap();
    body.send_data(request(["a"]), true).unwrap();
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    gateway.take().await.settle_written(&all_but([]));
    drop((client, body, answer));
    soon(connection).await.unwrap().unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let gateway = Setup::default()
        .with(|setup| (setup.timeouts.first, setup.timeouts.idle) = (SHORT, SHORT))
        .start()
        .await;
    let mut client = gateway.client().await;
    assert_eq!(taken(&client.ask(POST, b"").await), None);
    assert!(client.ends().await);
    gateway.stop().await;
}

#[tokio::test]
async fn old_connections_finish_what_is_under_way() {
    let gateway = Setup::waits_for_result().with(|setup| setup.timeouts.age = SHORT).start().await;
    let mut client = gateway.client().await;
    let lane = async {
        let batch = gateway.take().await;
        for _ in 0..2 {
            // Each one lives for 45 ms or more, and the first one is asked to go after no more than 55.
            let mut other = gateway.client().await;
            assert_eq!(taken(&other.ask(POST, b"").await), None);
            assert!(other.ends().await);
        }
        batch.settle_written(&all_but([]));
    };
    let body = request(["a"]);
    let (reply, ()) = tokio::join!(client.ask(POST, &body), lane);
    assert_eq!(taken(&reply), None);
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(client.ends().await);
    gateway.stop().await;
}

#[tokio::test]
async fn without_keep_alive_each_request_has_its_connection() {
    let gateway = Setup::default().with(|setup| setup.http().keep_alives_enabled = false).start().await;
    let mut client = gateway.client().await;
    assert_eq!(client.ask(POST, b"").await.header("connection"), Some("close"));
    assert!(client.ends().await);
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_give_way() {
    let gateway = Setup::default().with(|setup| setup.http().max_connections = 1).start().await;
    let mut idle = gateway.client().await;
    assert_eq!(taken(&idle.ask(POST, b"").await), None);
    assert_eq!(taken(&gateway.post(b"").await), None);
    assert!(idle.ends().await);
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_shutdown() {
    let gateway = Setup::waits_for_result().start().await;
    let mut idle = gateway.client().await;
    assert_eq!(taken(&idle.ask(POST, b"").await), None);
    let mut client = gateway.client().await;
    client.send(POST, &request(["a"])).await;
    let batch = gateway.take().await;
    gateway.stop.send(()).unwrap();
    assert!(idle.ends().await, "it does not wait for the grace, which is ten minutes here");
    batch.settle_written(&all_but([]));
    assert_eq!(taken(&client.reply().await), None);
    assert!(client.ends().await);
    soon(gateway.server).await.unwrap();
    assert_balanced(&gateway.buffer);
}
