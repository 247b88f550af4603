//! Senders in browsers: what a page is told, and what it may see.

use super::http1::Reply;
use super::over_http::POST_JSON;
use super::*;

#[tokio::test]
async fn pages_of_allowed_origins_may_send() {
    let gateway = Setup::default()
        .with(|setup| setup.http().cors.allowed_origins = vec!["https://*.example".to_owned()])
        .start()
        .await;
    let mut client = gateway.client().await;
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
