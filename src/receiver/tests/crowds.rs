//! Many connections and requests that bring nothing, and good senders among them.

use http::StatusCode;
use tokio::net::TcpStream;

use super::connections::{export_h2, h2_client, h2_request, last};
use super::http1::Client;
use super::*;
use crate::buffer::samples::request;
use crate::receiver::reception::REQUEST;
use crate::receiver::turned_away::TurnedAwayReason;

/// A head with this token.
fn with_token(token: &str) -> http::Request<()> {
    let mut head = h2_request();
    head.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    head
}

/// Sends an empty request, reads its answer to the end, and gives its status.
async fn asks(client: &mut h2::client::SendRequest<Bytes>, token: &str) -> Option<String> {
    let mut client = client.clone().ready().await.ok()?;
    let (answer, mut body) = client.send_request(with_token(token), false).ok()?;
    let _ = body.send_data(Bytes::from_static(&[0; 5]), true);
    let answer = soon(answer).await.ok()?;
    let early = answer.headers().get("grpc-status").cloned();
    let status = match early {
        Some(status) => status,
        None => soon(last(answer.into_body())).await["grpc-status"].clone(),
    };
    Some(status.to_str().unwrap().to_owned())
}

const TAKEN: &str = "0";
const DENIED: &str = "16";

#[tokio::test]
async fn who_was_never_admitted_makes_place_for_a_newcomer() {
    let setup = Setup::default().with(|setup| {
        setup.gates[0] = Gate::with_token();
        setup.grpc().max_connections = 3;
    });
    let gateway = setup.start().await;
    let (known, mut client) = h2_client(&gateway).await;
    assert_eq!(asks(&mut client, "right").await.as_deref(), Some(TAKEN));
    // These were in use later than the one that is known, and go before it.
    let mut strangers = Vec::new();
    for _ in 0..2 {
        let (connection, mut stranger) = h2_client(&gateway).await;
        assert_eq!(asks(&mut stranger, "wrong").await.as_deref(), Some(DENIED));
        strangers.push((connection, stranger));
    }
    for gone in [1, 2] {
        let (connection, mut newcomer) = h2_client(&gateway).await;
        assert_eq!(asks(&mut newcomer, "right").await.as_deref(), Some(TAKEN));
        let (stranger, _) = strangers.remove(0);
        soon(stranger).await.unwrap().expect("it was asked to go");
        assert!(!known.is_finished(), "after {gone}");
        assert_eq!(asks(&mut client, "right").await.as_deref(), Some(TAKEN));
        drop((connection, newcomer));
    }
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn who_is_denied_again_and_again_is_asked_to_go() {
    let setup = Setup { gates: [Gate::with_token(), Gate::with_token()], ..Setup::default() };
    let gateway = setup.start().await;
    let (stranger, mut client) = h2_client(&gateway).await;
    let mut denied = 0;
    while let Some(status) = asks(&mut client, "wrong").await {
        assert_eq!(status, DENIED);
        denied += 1;
    }
    assert_eq!(denied, 8);
    soon(stranger).await.unwrap().expect("an orderly end");

    let (known, mut client) = h2_client(&gateway).await;
    for token in ["right"].into_iter().chain(["wrong"; 20]).chain(["right"]) {
        let expected = if token == "right" { TAKEN } else { DENIED };
        assert_eq!(asks(&mut client, token).await.as_deref(), Some(expected));
    }
    assert!(!known.is_finished(), "one bad sender behind a proxy costs the others nothing");

    let mut client = gateway.client().await;
    for _ in 0..8 {
        assert_eq!(client.ask("POST /v1/logs HTTP/1.1", b"").await.status, StatusCode::UNAUTHORIZED);
    }
    assert!(client.ends().await);
    gateway.stop().await;
}

/// Opens requests and gives what is sent back of them, as soon as all others wait.
async fn open(
    gateway: &Gateway,
    begins: &'static [u8],
) -> (Vec<h2::SendStream<Bytes>>, tokio::task::JoinSet<Code>) {
    let (mut bodies, mut answers) = (Vec::new(), tokio::task::JoinSet::new());
    for _ in 0..4 {
        let (connection, client) = h2_client(gateway).await;
        for _ in 0..100 {
            let mut client = soon(client.clone().ready()).await.unwrap();
            let (answer, mut body) = client.send_request(h2_request(), false).unwrap();
            if !begins.is_empty() {
                body.send_data(Bytes::from_static(begins), false).unwrap();
            }
            answers.spawn(
                async move { Status::from_header_map(answer.await.unwrap().headers()).unwrap().code() },
            );
            bodies.push(body);
        }
        drop(connection);
    }
    (bodies, answers)
}

/// A good sender, from the same address, over connections of its own and with batches larger than most.
async fn sends(gateway: &Gateway) {
    for _ in 0..20 {
        let answer = gateway.export(request(["x".repeat(20_000)])).await;
        assert_eq!(answer.unwrap(), None);
        gateway.take().await.settle_written(&all_but([]));
        let reply = gateway.client().await.ask(super::over_http::POST_JSON, b"{}").await;
        assert_eq!(reply.status, StatusCode::OK);
    }
}

/// Whether a batch is taken.
async fn has_room(gateway: &Gateway) -> bool {
    let taken = gateway.export(request(["x".repeat(20_000)])).await.is_ok();
    if taken {
        gateway.take().await.settle_written(&all_but([]));
    }
    taken
}

/// There are 8 places for such requests in a room of 1 MiB; none of them takes any of it.
#[tokio::test]
async fn headers_without_a_body_keep_nobody_out() {
    let setup = Setup::default().with(|setup| {
        setup.config.admission.request_limit = ByteSize::mib(1);
        setup.grpc().max_connections = 64;
    });
    let gateway = setup.start().await;
    let (bodies, mut answers) = open(&gateway, b"").await;
    for _ in 0..392 {
        assert_eq!(soon(answers.join_next()).await.unwrap().unwrap(), Code::Unavailable);
    }
    assert_eq!(gateway.intake.unread(Unread::NoRoom), 392);
    sends(&gateway).await;
    assert!(answers.try_join_next().is_none(), "whose body comes at once needs no place");
    drop((bodies, answers));
    gateway.stop().await;
}

/// The same with a byte of their bodies each, or with all but their last one: together more than there is room for.
#[tokio::test]
async fn requests_that_never_end_keep_nobody_out() {
    for begins in [&[0][..], &[0, 0, 0, 0, 9, 1, 2, 3]] {
        let setup = Setup::default().with(|setup| {
            setup.config.admission.request_limit = ByteSize::mib(2);
            setup.grpc().max_connections = 64;
        });
        let gateway = setup.start().await;
        let (bodies, mut answers) = open(&gateway, begins).await;
        // Those for which there is no room are sent back.
        assert_eq!(soon(answers.join_next()).await.unwrap().unwrap(), Code::Unavailable);
        // In a second they have been there for long enough to make place.
        soon(async { while !has_room(&gateway).await {} }).await;
        sends(&gateway).await;
        drop((bodies, answers));
        gateway.stop().await;
    }
}

/// Where all of them are known, one more is closed at once.
#[tokio::test]
async fn one_address_has_its_places() {
    let gateway = Setup::default().with(|setup| setup.grpc().max_connections_per_address = 2).start().await;
    let turned_away = &gateway.turned_away[0];
    let known: Vec<_> = [h2_client(&gateway).await, h2_client(&gateway).await].into();
    for (_, client) in &known {
        assert_eq!(export_h2(client.clone()).await, StatusCode::OK);
    }
    let mut third = TcpStream::connect(gateway.address).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut third, &mut rest)).await;
    assert_eq!((rest.len(), turned_away.times(TurnedAwayReason::TooManyConnections)), (0, 1));
    assert_eq!(export_h2(known[0].1.clone()).await, StatusCode::OK, "those that are there go on");
    drop(known);
    gateway.stop().await;
}

/// Scenario: one address takes all that it may of the room at the port of gRPC. Promise: it finds no more at the port of HTTP,
/// where another address does.
#[tokio::test]
async fn an_address_has_one_share_for_both_ports() {
    let setup = Setup::default().with(|setup| {
        setup.config.admission.request_limit = ByteSize::mib(2);
        setup.grpc().max_connections = 64;
    });
    let gateway = setup.start().await;
    let head = "POST /v1/logs HTTP/1.1\r\ncontent-type: application/x-protobuf";
    // A field that nobody knows.
    let body = [&[15 << 3 | 2, 0xf0, 0xa2, 0x04][..], &[b'x'; 70_000]].concat();
    let ask = async |address: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        let stream = socket.connect(gateway.http).await.unwrap();
        Client::over(stream).ask(head, &body).await.status.as_u16()
    };
    assert_eq!(ask("127.0.0.1:0").await, 200, "there is room");
    soon(async {
        loop {
            let since = tokio::time::Instant::now();
            let (bodies, mut answers) = open(&gateway, &[0]).await;
            let mut sent_back = 0;
            // Each of the others has its part of the room.
            while sent_back + gateway.intake.receiving() / REQUEST < bodies.len() {
                sent_back += usize::from(answers.try_join_next().is_some());
                tokio::task::yield_now().await;
            }
            let found = (ask("127.0.0.1:0").await, ask("127.0.0.2:0").await);
            // Who arrives for longer than a second makes place.
            if since.elapsed() < Duration::from_millis(900) {
                assert_eq!(found, (429, 200));
                break;
            }
            drop((bodies, answers));
        }
    })
    .await;
    gateway.stop().await;
}
