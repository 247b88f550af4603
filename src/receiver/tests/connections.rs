//! What is not an export request by gRPC, and how connections begin and end.

use std::error::Error as _;
use std::fmt::Debug;

use http::{Method, Request as HttpRequest, Response as HttpResponse, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tonic::body::Body;
use tower_service::Service;
use tracing::field::Field;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::*;
use crate::buffer::samples::request;
use crate::receiver::turned_away::TurnedAwayReason;

/// Sends frames of gRPC as they are.
async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpResponse<Body> {
    let body = axum::body::Body::from(Bytes::copy_from_slice(body));
    let mut request = HttpRequest::builder().method(Method::POST).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut channel = gateway.channel().await;
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    soon(channel.call(request.body(Body::new(body)).unwrap())).await.unwrap()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

async fn status(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let response = post(gateway, path, headers, body).await;
    assert_eq!(response.status(), StatusCode::OK);
    Err(Status::from_header_map(response.headers()).expect("an answer without a message"))
}

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

#[tokio::test]
async fn another_path_is_told_the_right_one() {
    let gateway = Setup::default().start().await;
    for path in ["/opentelemetry.proto.collector.trace.v1.TraceService/Export", "/v1/logs", "/"] {
        let answer = status(&gateway, path, &[GRPC], &frame(0, &request(["a"]))).await;
        let message = assert_final(answer, Code::Unimplemented);
        assert!(message.contains(path) && message.contains(PATH), "{message}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn broken_frames_are_refused_for_good() {
    let gateway = Setup::default().start().await;
    let (good, gzip) = (frame(0, &request(["a"])), [GRPC, ("grpc-encoding", "gzip")]);
    for body in [&good[..3], &good[..good.len() - 1], &frame(7, b"x"), &frame(1, b"x"), &good.repeat(2), b""]
    {
        assert_final(status(&gateway, PATH, &[GRPC], body).await, Code::InvalidArgument);
    }
    assert_final(status(&gateway, PATH, &gzip, &frame(1, b"not gzip")).await, Code::InvalidArgument);
    let other = [GRPC, ("grpc-encoding", "snappy")];
    let message = assert_final(status(&gateway, PATH, &other, &frame(1, b"x")).await, Code::Unimplemented);
    assert!(message.contains("snappy"), "{message}");
    assert_eq!(gateway.intake.unread(Unread::Encoding), 1);
    assert_eq!(gateway.buffer.books().received(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn another_content_type_is_told_by_http() {
    let gateway = Setup::default().start().await;
    for headers in
        [&[("content-type", "application/json")][..], &[], &[("content-type", "application/grpc-web")]]
    {
        let response = post(&gateway, PATH, headers, b"{}").await;
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    for accepted in ["application/grpc+proto", "application/grpc; charset=utf-8"] {
        let headers = [("content-type", accepted)];
        assert_eq!(post(&gateway, PATH, &headers, &frame(0, b"")).await.status(), StatusCode::OK);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn http1_is_told_that_this_is_grpc() {
    let gateway = Setup::default().start().await;
    let body = vec![0; 1 << 20];
    let head = "POST /v1/logs HTTP/1.1\r\nhost: forebay\r\ncontent-type: application/x-protobuf\r\n";
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    assert!(answer.contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_shutdown() {
    let gateway = Setup::default().start().await;
    let channel = gateway.channel().await;
    assert_eq!(export(Grpc::new(channel.clone()), Bytes::new()).await.unwrap(), None);
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    // Connections are accepted in turn, so that the silent one is once this one has its answer.
    assert_eq!(gateway.export(Bytes::new()).await.unwrap(), None);
    // The grace is ten minutes here.
    gateway.stop().await;
    // Its port may be another test's by now, so that connecting to it would tell nothing.
    assert!(matches!(soon(silent.read(&mut [0])).await, Ok(0) | Err(_)), "it was ended, not forgotten");
    drop(channel);
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_shutdown() {
    let gateway = Setup::waits_for_result().start().await;
    let client = Grpc::new(gateway.channel().await);
    let sender = tokio::spawn(export(client, request(["a"])));
    let batch = gateway.take().await;
    gateway.stop.send(()).unwrap();
    batch.settle_written(&all_but([]));
    assert_eq!(soon(sender).await.unwrap().unwrap(), None);
    soon(gateway.server).await.unwrap();
    assert_balanced(&gateway.buffer);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_when_the_grace_is_over() {
    let gateway = Setup::waits_for_result().with(|setup| setup.timeouts.shutdown = SHORT).start().await;
    let client = Grpc::new(gateway.channel().await);
    let sender = tokio::spawn(export(client, request(["a"])));
    let batch = gateway.take().await;
    gateway.stop.send(()).unwrap();
    soon(gateway.server).await.unwrap();
    soon(sender).await.unwrap().unwrap_err();
    batch.settle_written(&all_but([]));
    assert_eq!(gateway.buffer.books().flushed(), 1, "who has gone away is counted all the same");
    assert_balanced(&gateway.buffer);
}

#[tokio::test]
async fn who_says_nothing_is_cut() {
    let gateway = Setup::default().with(|setup| setup.timeouts.opening = SHORT).start().await;
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    silent.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(silent.read_to_end(&mut answer)).await;
    gateway.stop().await;
}

#[tokio::test]
async fn who_never_shakes_hands_is_cut() {
    let setup = Setup::default().with(|setup| {
        setup.timeouts.opening = SHORT;
        setup.gates[0] = Gate::with_tls();
    });
    let gateway = setup.start().await;
    let turned_away = &gateway.turned_away[0];
    let mut streams = Vec::new();
    // What stops in the middle, and what does not even begin.
    for begins in [&b""[..], &[0x16, 3, 1]] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(begins).await.unwrap();
        streams.push(stream);
    }
    for mut stream in streams {
        let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    }
    assert_eq!(turned_away.times(TurnedAwayReason::HandshakeTimeout), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn who_may_not_send_is_told_before_the_body() {
    let gateway = Setup::default().with(|setup| setup.gates[0] = Gate::with_token()).start().await;
    let turned_away = &gateway.turned_away[0];
    let (_connection, mut client) = h2_client(&gateway).await;
    let (answer, _no_body) = client.send_request(h2_request(), false).unwrap();
    let answer = soon(answer).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert_eq!(turned_away.times(TurnedAwayReason::NoCredentials), 1);

    let mut known = h2_request();
    known.headers_mut().insert("authorization", "Bearer right".parse().unwrap());
    let (answer, mut body) = client.send_request(known, false).unwrap();
    body.send_data(frame(0, b"").into(), true).unwrap();
    let trailers = soon(last(soon(answer).await.unwrap().into_body())).await;
    assert_eq!(trailers["grpc-status"], "0");
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_given_up() {
    let gateway = Setup { arrival: SHORT, ..Setup::default() }.start().await;
    let (_connection, mut client) = h2_client(&gateway).await;
    let (answer, mut body) = client.send_request(h2_request(), false).unwrap();
    body.send_data(Bytes::from(frame(0, &request(["a"]))).slice(..9), false).unwrap();
    let answer = soon(answer).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(gateway.intake.unread(Unread::TooSlow), 1);
    drop((body, client));
    gateway.stop().await;
}

/// Tells when a message with these words is written on this thread, which is the only one of the test, until the guard is dropped.
fn heard(words: &'static str) -> (DefaultGuard, Arc<Notify>) {
    struct Ear(&'static str, Arc<Notify>);
    impl<S: Subscriber> Layer<S> for Ear {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut |field: &Field, value: &dyn Debug| {
                if field.name() == "message" && format!("{value:?}").contains(self.0) {
                    self.1.notify_one();
                }
            });
        }
    }
    let told = Arc::new(Notify::new());
    (tracing_subscriber::registry().with(Ear(words, told.clone())).set_default(), told)
}

/// What `meanwhile` gives, to whose end `waits` must not have been answered.
async fn unanswered<T>(waits: impl Future, meanwhile: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        _ = waits => panic!("the only connection is taken"),
        done = soon(meanwhile) => done,
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_busy_one() {
    let (_ear, waits) = heard("new ones wait");
    let gateway = Setup::waits_for_result().with(|setup| setup.grpc().max_connections = 1).start().await;
    let client = Grpc::new(gateway.channel().await);
    let first = tokio::spawn(export(client.clone(), request(["a"])));
    let batch = gateway.take().await;
    let mut second = Box::pin(gateway.export(Bytes::new()));
    unanswered(&mut second, waits.notified()).await;
    assert_eq!(unanswered(&mut second, export(client, Bytes::new())).await.unwrap(), None);
    batch.settle_written(&all_but([]));
    assert_eq!(soon(first).await.unwrap().unwrap(), None);
    assert_eq!(soon(&mut second).await.unwrap(), None);
    drop(second);
    gateway.stop().await;
}

#[tokio::test]
async fn who_has_waited_for_a_connection_keeps_it() {
    let (_ear, waits) = heard("new ones wait");
    let gateway = Setup::waits_for_result().with(|setup| setup.grpc().max_connections = 1).start().await;
    let (first, mut client) = h2_client(&gateway).await;
    let (_answer, _body) = send_h2(&mut client, frame(0, &request(["a"])));
    let batch = gateway.take().await;
    let mut second = Box::pin(gateway.export(Bytes::new()));
    unanswered(&mut second, waits.notified()).await;
    assert_eq!(unanswered(&mut second, export_h2(client.clone())).await, StatusCode::OK);
    // It ends without having been idle.
    first.abort();
    assert_eq!(soon(&mut second).await.unwrap(), None);
    batch.settle_written(&all_but([]));
    drop(second);
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_give_way_the_longest_idle_first() {
    let gateway = Setup::default().with(|setup| setup.grpc().max_connections = 2).start().await;
    let (longest, idle) = h2_client(&gateway).await;
    assert_eq!(export_h2(idle.clone()).await, StatusCode::OK);
    let (other, client) = h2_client(&gateway).await;
    assert_eq!(export_h2(client.clone()).await, StatusCode::OK);
    assert_eq!(gateway.export(Bytes::new()).await.unwrap(), None);
    assert!(soon(longest).await.unwrap().is_ok(), "it was asked to go");
    assert_eq!(export_h2(client.clone()).await, StatusCode::OK);
    assert!(!other.is_finished());
    drop((idle, client));
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_are_asked_to_go() {
    let gateway = Setup::default()
        .with(|setup| (setup.timeouts.first, setup.timeouts.idle) = (SHORT, SHORT))
        .start()
        .await;
    let (ended, client) = h2_client(&gateway).await;
    assert!(soon(ended).await.unwrap().is_ok(), "GOAWAY without an error, and the end");
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn old_connections_are_asked_to_go_and_finish_what_is_under_way() {
    let gateway = Setup::waits_for_result().with(|setup| setup.timeouts.age = SHORT).start().await;
    let (ended, mut client) = h2_client(&gateway).await;
    let (answer, _body) = send_h2(&mut client, frame(0, &request(["a"])));
    let batch = gateway.take().await;
    // GOAWAY leaves the client no further request on this connection.
    let mut refused = client.clone();
    soon(async {
        while std::future::poll_fn(|context| refused.poll_ready(context)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!ended.is_finished(), "a request is under way");
    batch.settle_written(&all_but([]));
    let answer = soon(answer).await.unwrap();
    let trailers = soon(last(answer.into_body())).await;
    assert_eq!(trailers["grpc-status"], "0");
    assert!(soon(ended).await.unwrap().is_ok());
    gateway.stop().await;
}

#[tokio::test]
async fn old_connections_that_do_not_go_are_cut() {
    let setup = Setup::waits_for_result().with(|setup| {
        setup.timeouts.age = SHORT;
        setup.timeouts.age_grace = SHORT;
    });
    let gateway = setup.start().await;
    let (ended, mut client) = h2_client(&gateway).await;
    let (answer, _body) = send_h2(&mut client, frame(0, &request(["a"])));
    let batch = gateway.take().await;
    let _ = soon(ended).await.unwrap();
    soon(answer).await.unwrap_err();
    batch.settle_written(&all_but([]));
    gateway.stop().await;
}

/// A client may learn that its connection has gone just when it sends. Then that is what it is told, by its own
/// library: the request was not received.
#[tokio::test]
async fn nothing_is_lost_or_taken_twice_as_connections_grow_old() {
    let setup = Setup::default().with(|setup| {
        setup.timeouts.age = Duration::from_millis(5);
        setup.queue.queue_size = 1000;
    });
    let gateway = setup.start().await;
    let client = Grpc::new(gateway.channel().await);
    for number in 0..500 {
        while let Err(status) = export(client.clone(), request([format!("{number}")])).await {
            assert!(status.source().is_some(), "that is an answer: {status:?}");
        }
    }
    assert_eq!(gateway.buffer.books().received(), 500);
    while gateway.buffer.budget().records() > 0 {
        gateway.take().await.settle_written(&all_but([]));
    }
    drop(client);
    gateway.stop().await;
}

/// A client that shows what HTTP/2 does; its connection's task, and what sends requests over it.
pub(super) async fn h2_client(
    gateway: &Gateway,
) -> (tokio::task::JoinHandle<Result<(), h2::Error>>, h2::client::SendRequest<Bytes>) {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    (tokio::spawn(connection), soon(client.ready()).await.unwrap())
}

pub(super) fn h2_request() -> HttpRequest<()> {
    let uri = format!("http://forebay{PATH}");
    HttpRequest::post(uri).header(GRPC.0, GRPC.1).body(()).unwrap()
}

/// Sends a request with this body; its answer to be, and its stream.
fn send_h2(
    client: &mut h2::client::SendRequest<Bytes>,
    body: Vec<u8>,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let (answer, mut stream) = client.send_request(h2_request(), false).unwrap();
    stream.send_data(body.into(), true).unwrap();
    (answer, stream)
}

/// Sends an empty request, and reads its answer to the end.
pub(super) async fn export_h2(mut client: h2::client::SendRequest<Bytes>) -> StatusCode {
    let (answer, _body) = send_h2(&mut client, frame(0, b""));
    let (head, body) = soon(answer).await.unwrap().into_parts();
    soon(last(body)).await;
    head.status
}

/// Reads a body to its trailers.
pub(super) async fn last(mut body: h2::RecvStream) -> http::HeaderMap {
    while body.data().await.is_some() {}
    body.trailers().await.unwrap().expect("trailers")
}
