//! A connection of HTTP/2 that brings the requests of many senders, as a proxy has it: what is refused of one costs the
//! others nothing.

use futures_util::future::join_all;
use http::{Request as HttpRequest, Response as HttpResponse};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::*;
use crate::buffer::samples::request;

/// Together more than the resets that a connection survives.
const ROUNDS: usize = 30;
const AT_A_TIME: usize = 60;

/// A request, and the status that it is answered.
struct Asked {
    head: HttpRequest<()>,
    body: Bytes,
    status: u16,
}

fn asked(head: http::request::Builder, body: impl Into<Bytes>, status: u16) -> Asked {
    Asked { head: head.body(()).unwrap(), body: body.into(), status }
}

/// gRPC's status where there is one, else that of HTTP.
async fn status(answer: HttpResponse<h2::RecvStream>) -> u16 {
    let (head, mut body) = answer.into_parts();
    while let Some(data) = soon(body.data()).await {
        data.expect("the answer to its end");
    }
    let trailers = soon(body.trailers()).await.expect("the answer to its end");
    let grpc = [Some(head.headers), trailers].into_iter().flatten().find_map(|headers| {
        headers.get("grpc-status").map(|status| status.to_str().unwrap().parse().unwrap())
    });
    grpc.unwrap_or(head.status.as_u16())
}

/// Sends all of these over one connection in turns, some thousands of them, many at a time; each is answered.
async fn share_a_connection(address: SocketAddr, all: &[Asked]) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..ROUNDS {
        let requests = all.iter().cycle().take(AT_A_TIME).map(|asked| {
            let client = client.clone();
            async move {
                let mut client = soon(client.ready()).await.expect("the connection goes on");
                let (answer, mut body) = client.send_request(asked.head.clone(), false).unwrap();
                // The head goes ahead, so that it may be refused before there is a body.
                yield_now().await;
                let _ = body.send_data(asked.body.clone(), true);
                let found = status(soon(answer).await.expect("an answer")).await;
                assert_eq!(found, asked.status, "{:?}", asked.head);
            }
        });
        join_all(requests).await;
    }
    assert!(!connection.is_finished());
}

#[tokio::test]
async fn what_is_refused_by_grpc_costs_the_others_nothing() {
    let gateway = Setup::default().with(|setup| setup.gates[0] = Gate::with_token()).start().await;
    let post = |token: &str, path: &str| {
        let post = HttpRequest::post(format!("http://forebay{path}"));
        post.header("content-type", "application/grpc").header("authorization", format!("Bearer {token}"))
    };
    let frame = |length: u32| [&[0][..], &length.to_be_bytes(), &request(["a"])].concat();
    let all = [
        asked(post("right", PATH), vec![0; 5], 0),
        asked(post("wrong", PATH), frame(9), Code::Unauthenticated as u16),
        asked(post("right", "/elsewhere"), frame(9), Code::Unimplemented as u16),
        asked(post("right", PATH).header("grpc-encoding", "br"), frame(9), Code::Unimplemented as u16),
        asked(post("right", PATH), frame(1 << 30), Code::ResourceExhausted as u16),
        asked(HttpRequest::post("http://forebay/v1/logs"), "{}", 415),
    ];
    share_a_connection(gateway.address, &all).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_refused_by_http_costs_the_others_nothing() {
    let setup = Setup::default().with(|setup| {
        setup.gates[1] = Gate::with_token();
        setup.http().max_request_body_size = ByteSize(1000);
    });
    let gateway = setup.start().await;
    let ask = |method: &str, path: &str, media_type: &str| {
        let ask = HttpRequest::builder().method(method).uri(format!("http://forebay{path}"));
        ask.header("content-type", media_type).header("authorization", "Bearer right")
    };
    let json = || ask("POST", "/v1/logs", "application/json");
    let wrong = HttpRequest::post("http://forebay/v1/logs").header("content-type", "application/json");
    let all = [
        asked(json(), "{}", 200),
        asked(wrong, "{}", 401),
        asked(ask("POST", "/v1/traces", "application/json"), "{}", 404),
        asked(ask("PUT", "/v1/logs", "application/json"), "{}", 405),
        asked(ask("POST", "/v1/logs", "text/plain"), "{}", 415),
        asked(json().header("content-encoding", "br"), "{}", 415),
        asked(json(), vec![b' '; 2000], 413),
        asked(json().header("content-length", "2000"), vec![b' '; 2000], 413),
    ];
    share_a_connection(gateway.http, &all).await;
    gateway.stop().await;
}
