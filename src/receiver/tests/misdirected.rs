//! Requests that were sent to the wrong place, or in the wrong way: each is answered, and counted by why.

use strum::VariantArray as _;

use super::http1::Client;
use super::over_http::POST_JSON;
use super::*;
use crate::buffer::samples::request;
use crate::receiver::turned_away::TurnedAwayReason;

#[tokio::test]
async fn what_is_misdirected_by_http_is_counted_by_reason() {
    let setup = Setup::default();
    let gateway = setup.start().await;
    let turned_away = &gateway.turned_away[1];
    let large = format!("{POST_JSON}\r\nx-large: {}", "x".repeat(20_000));
    for (head, status, reason, said) in [
        ("POST /v1/traces HTTP/1.1", 404, TurnedAwayReason::Traces, "OTEL_TRACES_EXPORTER=none"),
        ("POST //v1/traces/ HTTP/1.1", 404, TurnedAwayReason::Traces, "OTEL_TRACES_EXPORTER=none"),
        ("POST /v1/metrics HTTP/1.1", 404, TurnedAwayReason::Metrics, "OTEL_METRICS_EXPORTER=none"),
        ("POST /v1 HTTP/1.1", 404, TurnedAwayReason::UnknownPath, "at /v1/logs"),
        ("POST /v1/logs/traces2 HTTP/1.1", 404, TurnedAwayReason::UnknownPath, "at /v1/logs"),
        ("PUT /v1/logs HTTP/1.1", 405, TurnedAwayReason::WrongMethod, "POST is"),
        ("GET /v1/logs/ HTTP/1.1", 405, TurnedAwayReason::WrongMethod, "POST is"),
        (
            "POST /v1/logs HTTP/1.1\r\ncontent-type: text/plain",
            415,
            TurnedAwayReason::UnknownType,
            "the content-type of a request must be",
        ),
        (&large, 431, TurnedAwayReason::HeadersTooLarge, ""),
    ] {
        let before = turned_away.times(reason);
        let reply = gateway.client().await.ask(head, b"{}").await;
        assert_eq!(reply.status.as_u16(), status, "{head:.40}");
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(body.contains(said), "{head:.40}: {body}");
        soon(async {
            while turned_away.times(reason) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(turned_away.times(reason), before + 1, "{head:.40}");
    }
    for broken in
        ["PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "POST /v1/logs HTTP/1.1\r\ncontent-length: abc\r\n\r\n"]
    {
        let before = turned_away.times(TurnedAwayReason::NotHttp);
        let mut client = gateway.client().await;
        client.write(broken).await;
        assert_eq!(client.reply().await.status, 400, "{broken}");
        soon(async {
            while turned_away.times(TurnedAwayReason::NotHttp) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let all: u64 = TurnedAwayReason::VARIANTS.iter().map(|reason| turned_away.times(*reason)).sum();
    assert_eq!(all, 9 + 2, "each for one reason");
    gateway.stop().await;
}

#[tokio::test]
async fn slashes_too_many_are_passed_over() {
    let gateway = Setup::default().start().await;
    for path in ["/v1/logs", "//v1/logs", "/v1/logs/", "/v1//logs", "//v1/logs//"] {
        let head = POST_JSON.replacen("/v1/logs", path, 1);
        assert_eq!(gateway.client().await.ask(&head, b"{}").await.status, 200, "{path}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_misdirected_by_grpc_is_counted_by_reason() {
    let setup = Setup::default();
    let gateway = setup.start().await;
    let turned_away = &gateway.turned_away[0];
    for (path, reason, said) in [
        (
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            TurnedAwayReason::Traces,
            "OTEL_TRACES_EXPORTER=none",
        ),
        (
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            TurnedAwayReason::Metrics,
            "OTEL_METRICS_EXPORTER=none",
        ),
        ("/elsewhere", TurnedAwayReason::UnknownPath, "logs only"),
    ] {
        let mut client = Grpc::new(gateway.channel().await);
        client.ready().await.unwrap();
        let call = client.unary(Request::new(request(["a"])), path.parse().unwrap(), RawRequest);
        let status = soon(call).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains(said), "{status}");
        assert_eq!(turned_away.times(reason), 1, "{path}");
    }
    let reply = Client::connect(gateway.address).await.ask(POST_JSON, b"{}").await;
    assert_eq!((reply.status.as_u16(), turned_away.times(TurnedAwayReason::NotGrpc)), (415, 1));
    gateway.stop().await;
}
