//! Senders in browsers: what a page is told, and what it may see.

use super::http1::{Client, Reply};
use super::over_http::POST_JSON;
use super::*;

#[tokio::test]
async fn pages_of_allowed_origins_may_send() {
    let mut setup = Setup::default();
    setup.http().cors.allowed_origins = vec!["https://*.example".to_owned()];
    let gateway = setup.start().await;
    let mut client = Client::connect(gateway.http).await;
    for (origin, allowed) in [("https://shop.example", true), ("https://shop.test", false)] {
        let origin_is = |reply: &Reply| {
            let found = reply.header("access-control-allow-origin");
            assert_eq!(found, allowed.then_some(origin), "{reply:?}");
        };
        let ask = "access-control-request-method: POST\r\naccess-control-request-headers: content-type";
        let preflight = format!("OPTIONS /v1/logs HTTP/1.1\r\norigin: {origin}\r\n{ask}");
        let reply = client.ask(&preflight, b"").await;
        assert_eq!(reply.status, 204);
        origin_is(&reply);
        for body in ["{}", "[]"] {
            let reply = client.ask(&format!("{POST_JSON}\r\norigin: {origin}"), body.as_bytes()).await;
            origin_is(&reply);
            assert_eq!(reply.header("vary"), Some("Origin"));
        }
    }
    let reply = client.ask("OPTIONS /v1/logs HTTP/1.1", b"").await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, Some("POST")));
    gateway.stop().await;
}

/// A browser asks for leave without credentials, and shows its page an answer only where that is marked.
#[tokio::test]
async fn pages_are_told_of_credentials() {
    let mut setup = Setup::default();
    setup.gates[1] = Gate::with_token();
    setup.http().cors.allowed_origins = vec!["https://shop.example".to_owned()];
    setup.http().cors.allowed_headers = vec!["authorization".to_owned()];
    let gateway = setup.start().await;
    let origin = "origin: https://shop.example";
    let asks =
        "access-control-request-method: POST\r\naccess-control-request-headers: authorization,content-type";
    for (head, status) in [
        (format!("OPTIONS /v1/logs HTTP/1.1\r\n{origin}\r\n{asks}"), 204),
        (format!("{POST_JSON}\r\n{origin}"), 401),
        (format!("{POST_JSON}\r\n{origin}\r\nauthorization: Bearer right"), 200),
    ] {
        let reply = gateway.ask(&head, if status == 204 { b"" } else { b"{}" }).await;
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("https://shop.example"), "{reply:?}");
    }
    gateway.stop().await;
}
