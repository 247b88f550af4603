//! The two pages: `/metrics` in Prometheus text format, and health in the Collector's format.
//!
//! Both are computed from memory and wait for nothing. GET and HEAD are answered, other methods with 405, other paths with a 404 that
//! names the right one.
//!
//! At the connection limit the oldest connection closes, so that silent ones do not lock out probes. For that, no client is ever
//! marked as admitted. There is no limit per address, because all probes may come from one.

use std::fmt;
use std::future::ready;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::{Health, LargeSender, Metrics};
use crate::net::{self, Http1, Limits, Service, Timeouts};

const LIMITS: Limits = Limits {
    connections: 64,
    connections_per_address: usize::MAX,
    timeouts: Timeouts {
        opening: Duration::from_secs(5),
        first: Duration::from_secs(5),
        idle: QUIET,
        age: Duration::ZERO,
        age_grace: Duration::ZERO,
        // A probe does not wait for those who have yet to ask.
        crowded: Duration::ZERO,
        shutdown: Duration::from_secs(2),
    },
    http1: Some(Http1 { keep_alive: true, header_timeout: QUIET }),
    http2: None,
};
const QUIET: Duration = Duration::from_secs(30);

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One page, served at its path only.
pub struct Page {
    path: String,
    answer: Box<dyn Fn() -> Response<String> + Send + Sync>,
}

impl Page {
    /// The page of `metrics`, at `/metrics`.
    pub fn metrics(metrics: Metrics) -> Self {
        let answer = move || match metrics.render() {
            Ok(text) => page(StatusCode::OK, PROMETHEUS, text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        };
        Self { path: "/metrics".to_owned(), answer: Box::new(answer) }
    }

    /// The page of `health`, at `path`: 200 while forebay can accept and write, 503 otherwise. It has the senders that `largest`
    /// returns.
    pub fn health(
        health: Health,
        path: &str,
        largest: impl Fn() -> Vec<LargeSender> + Send + Sync + 'static,
    ) -> Self {
        let answer = move || {
            let report = health.report();
            let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            page(status, "application/json", report.to_json(&largest()))
        };
        Self { path: path.to_owned(), answer: Box::new(answer) }
    }

    /// Serves the page on `listener` until `shutdown`, and then for at most two seconds the requests in flight.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        net::serve(LIMITS, listener, self, shutdown).await;
    }

    /// The response to `request`. The server omits the body for HEAD.
    fn response<B>(&self, request: &Request<B>) -> Response<String> {
        let path = &self.path;
        if request.uri().path() != path {
            return page(StatusCode::NOT_FOUND, TEXT, format!("nothing here; try {path}\n"));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
            return with(refusal, ALLOW, "GET, HEAD");
        }
        (self.answer)()
    }
}

impl Service for Page {
    type Body = String;

    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = (Response<String>, Incoming)> + Send + 'static + use<> {
        ready((self.response(&request), request.into_body()))
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("path", &self.path).finish_non_exhaustive()
    }
}

fn page(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, content_type)
}

fn with(mut response: Response<String>, name: HeaderName, value: &'static str) -> Response<String> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::Server;
    use crate::telemetry::StoreTrouble;

    #[tokio::test]
    async fn the_metrics_are_at_metrics() {
        let server = Server::start(LIMITS, Page::metrics(Metrics::new().unwrap())).await;
        let page = server.ask("GET /metrics").await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        assert!(page.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
        assert!(page.contains("\notelcol_process_uptime_seconds_total "), "{page}");
        let page = server.ask("GET /").await;
        assert!(page.starts_with("HTTP/1.1 404 ") && page.contains("/metrics"), "{page}");
        assert!(server.ask("POST /metrics").await.starts_with("HTTP/1.1 405 "));
        server.stop().await;
    }

    #[tokio::test]
    async fn the_health_is_at_its_path() {
        let health = Health::new();
        // A path that a router could take for a pattern.
        let server = Server::start(LIMITS, Page::health(health.clone(), "/{health", Vec::new)).await;
        health.store_unavailable(StoreTrouble::DatabaseUnreachable, "connection refused");
        let page = server.ask("GET /{health").await;
        assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
        assert!(page.contains("\"reason\":\"database_unreachable\""), "{page}");
        health.store_ready();
        let page = server.ask("GET /{health").await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        assert!(page.contains("\r\ncontent-type: application/json\r\n"), "{page}");
        assert!(page.contains("\"status\":\"Server available\""), "{page}");
        let page = server.ask("HEAD /{health").await;
        assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with("\r\n\r\n"), "{page}");
        server.stop().await;
    }

    /// Scenario: many connections from one address that say nothing, or half of a request. Promise: another one from there is answered,
    /// and waits for none of them to take notice.
    #[tokio::test]
    async fn connections_that_ask_nothing_keep_nobody_from_asking() {
        // Only those who wait make them go.
        let never = Duration::from_secs(600);
        let timeouts = Timeouts { opening: never, first: never, idle: never, ..LIMITS.timeouts };
        let limits = Limits { timeouts, ..LIMITS };
        for (begins, is_answered) in [
            ("", false),
            ("GET / HTTP/1.1\r\nhost:", false),
            ("GET / HTTP/1.1\r\nhost: forebay\r\n\r\n", true),
        ] {
            let server = Server::start(limits.clone(), Page::health(Health::new(), "/", Vec::new)).await;
            let mut connections = Vec::new();
            for _ in 0..200 {
                let mut connection = server.connect().await;
                tokio::io::AsyncWriteExt::write_all(&mut connection, begins.as_bytes()).await.unwrap();
                if is_answered {
                    tokio::io::AsyncReadExt::read_exact(&mut connection, &mut [0; 12]).await.unwrap();
                }
                connections.push(connection);
            }
            assert!(server.ask("GET /").await.starts_with("HTTP/1.1 503 "), "{begins:?}");
            server.stop().await;
        }
    }
}
