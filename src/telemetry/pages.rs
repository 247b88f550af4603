//! The two pages: `/metrics` in Prometheus' text format, and the health, worded like the Collector's.
//!
//! Both are computed from memory when asked for and wait for nothing. GET and HEAD are answered, other methods with
//! 405, other paths with a 404 that names the right one.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::{Health, Metrics};

const METRICS_PATH: &str = "/metrics";

/// The page of `metrics`, at `/metrics`.
pub fn metrics_router(metrics: Metrics) -> Router {
    page(METRICS_PATH, move || metrics_page(&metrics))
}

/// The page of `health`, at `path`: 200 while forebay can accept and write, 503 otherwise.
pub fn health_router(health: Health, path: &str) -> Router {
    page(path, move || health_page(&health))
}

fn metrics_page(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn health_page(health: &Health) -> Response {
    let report = health.report();
    let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, "application/json")], report.to_json()).into_response()
}

/// A router that has `answer` at `path` and nothing else. The path is compared, not registered as a route: it comes
/// from the configuration, and a route panics where it cannot be read as a pattern.
fn page(path: &str, answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Router {
    let path = path.to_owned();
    Router::new().fallback(async move |method: Method, uri: Uri| {
        if uri.path() != path {
            return (StatusCode::NOT_FOUND, format!("nothing here; try {path}\n")).into_response();
        }
        match method {
            // The server leaves the body out of its answer to HEAD.
            Method::GET | Method::HEAD => answer(),
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    })
}
