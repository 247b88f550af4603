//! The two pages: `/metrics` in Prometheus' text format, and the health, worded like the Collector's.
//!
//! Both are computed from memory when asked for and wait for nothing. GET and HEAD are answered, other methods with
//! 405, other paths with a 404 that names the right one.

use std::fmt;

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::{Health, Metrics};

const METRICS_PATH: &str = "/metrics";
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page, at its path and nowhere else.
pub struct Page {
    path: String,
    answer: Box<dyn Fn() -> Response<String> + Send + Sync>,
}

impl Page {
    /// The page of `metrics`, at `/metrics`.
    pub fn metrics(metrics: Metrics) -> Self {
        Self { path: METRICS_PATH.to_owned(), answer: Box::new(move || metrics_page(&metrics)) }
    }

    /// The page of `health`, at `path`: 200 while forebay can accept and write, 503 otherwise.
    pub fn health(health: Health, path: &str) -> Self {
        Self { path: path.to_owned(), answer: Box::new(move || health_page(&health)) }
    }

    /// The answer to `request`. The server leaves the body out of that to HEAD.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<String> {
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

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("path", &self.path).finish_non_exhaustive()
    }
}

fn metrics_page(metrics: &Metrics) -> Response<String> {
    match metrics.render() {
        Ok(text) => page(StatusCode::OK, PROMETHEUS, text),
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

fn health_page(health: &Health) -> Response<String> {
    let report = health.report();
    let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    page(status, "application/json", report.to_json())
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
