//! `GET /` and `HEAD /`, by which load balancers check whether a port answers. They need no credentials.

use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::body::Answer;

/// The answer to such a probe, with `what` the port is for; `None` if the request is no probe.
pub(super) fn page(head: &Parts, is_ending: bool, what: &str) -> Option<Response<Answer>> {
    let is_head = head.method == Method::HEAD;
    if head.uri.path() != "/" || !(is_head || head.method == Method::GET) {
        return None;
    }
    let text = if is_head { String::new() } else { format!("{what}\n") };
    let status = if is_ending { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Some(Answer::text(status, text))
}
