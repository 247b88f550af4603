//! Who is not let in by HTTP, and what it is told.

use prost::Message;
use tonic_types::pb;

use super::*;

const POST: &str = "POST /v1/logs HTTP/1.1\r\ncontent-type: application/x-protobuf";
const POST_JSON: &str = "POST /v1/logs HTTP/1.1\r\ncontent-type: application/json";

#[tokio::test]
async fn who_may_not_send_is_told_how_before_the_body() {
    let gateway = Setup::default().with(|setup| setup.gates[1] = Gate::with_token()).start().await;
    for authorization in ["", "\r\nauthorization: Bearer wrong"] {
        let mut client = gateway.client().await;
        // It announces a body and does not send it.
        client.write(format!("{POST}{authorization}\r\nhost: forebay\r\ncontent-length: 100\r\n\r\n")).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 401, "{reply:?}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"forebay\""));
        let status = pb::Status::decode(reply.body).unwrap();
        assert_eq!(status.code, Code::Unauthenticated as i32);
        assert!(status.message.contains("Bearer TOKEN"), "{status:?}");
    }
    let known = format!("{POST}\r\nauthorization: Bearer right");
    assert_eq!(gateway.client().await.ask(&known, b"").await.status, 200);
    gateway.stop().await;
}

/// A browser asks for leave without credentials, and shows its page an answer only where that is marked.
#[tokio::test]
async fn pages_are_told_of_credentials() {
    let setup = Setup::default().with(|setup| {
        setup.gates[1] = Gate::with_token();
        setup.http().cors.allowed_origins = vec!["https://shop.example".to_owned()];
        setup.http().cors.allowed_headers = vec!["authorization".to_owned()];
    });
    let gateway = setup.start().await;
    let origin = "origin: https://shop.example";
    let asks =
        "access-control-request-method: POST\r\naccess-control-request-headers: authorization,content-type";
    for (head, body, status) in [
        (format!("OPTIONS /v1/logs HTTP/1.1\r\n{origin}\r\n{asks}"), "", 204),
        (format!("{POST_JSON}\r\n{origin}"), "{}", 401),
        (format!("{POST_JSON}\r\n{origin}\r\nauthorization: Bearer right"), "{}", 200),
    ] {
        let reply = gateway.client().await.ask(&head, body.as_bytes()).await;
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("https://shop.example"), "{reply:?}");
    }
    gateway.stop().await;
}
