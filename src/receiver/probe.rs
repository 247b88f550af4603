//! `GET /` and `HEAD /`, by which load balancers look whether a port answers. They are told so, whoever they are.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::body::Answer;

/// The answer to such a probe, which is of `what` the port is for; `None` where the request is none.
pub(super) fn page(head: &Parts, is_ending: bool, what: &str) -> Option<Response<Answer>> {
    let is_head = head.method == Method::HEAD;
    if head.uri.path() != "/" || !(is_head || head.method == Method::GET) {
        return None;
    }
    let text = if is_head { Bytes::new() } else { Bytes::from(format!("{what}\n")) };
    let mut response = Response::new(Answer::from(text));
    if is_ending {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(response)
}
