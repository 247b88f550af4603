//! OTLP/HTTP: `POST /v1/logs`, over HTTP/1.1 and HTTP/2.
//!
//! JSON bodies are converted to protobuf before the intake. Answers have the content type of their request; failures are a
//! `google.rpc.Status`, with the HTTP status that OTLP defines for them.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::answer::{Failure, FailureKind, Limit};
use super::body::Answer;
use super::client::Client;
use super::config::HttpConfig;
use super::content_type::{self, ContentType};
use super::cors::{self, Cors};
use super::encoding::{Encoding, KNOWN, Most};
use super::gate::Denial;
use super::intake::Accepted;
use super::message::receive_whole;
use super::port::Protocol;
use super::probe;
use super::reception::Reception;
use super::request_memory::Share;
use super::turned_away::TurnedAwayReason;
use crate::otlp::messages::{export_response, export_response_json, status, status_json};

/// OTLP/HTTP at its port.
#[derive(Debug)]
pub(super) struct Http {
    reception: Reception,
    path: String,
    cors: Option<Cors>,
}

impl HttpConfig {
    pub(super) fn limit(&self, ratio: usize) -> Limit {
        Limit {
            most: Most { bytes: self.max_request_body_size.bytes(), ratio },
            said: format!("{} bytes", self.max_request_body_size.bytes()),
            key: "receivers.otlp.protocols.http.max_request_body_size",
        }
    }
}

impl Protocol for Http {
    fn reception(&self) -> &Reception {
        &self.reception
    }

    async fn answer(&self, request: Request<Incoming>, client: &Client) -> (Response<Answer>, Incoming) {
        let (head, mut body) = request.into_parts();
        (self.response(head, &mut body, client).await, body)
    }

    fn refuse(&self, headers: &HeaderMap, failure: Failure) -> Response<Answer> {
        failed(answer_type(headers), &failure)
    }
}

impl Http {
    pub(super) fn new(config: &HttpConfig, reception: Reception) -> Self {
        Self { reception, path: config.logs_url_path.clone(), cors: Cors::new(&config.cors) }
    }

    async fn response(&self, head: Parts, body: &mut Incoming, client: &Client) -> Response<Answer> {
        if let Some(preflight) = self.cors.as_ref().and_then(|cors| cors.preflight(&head)) {
            return preflight;
        }
        let what = format!("this port takes OTLP/HTTP logs, by POST at {}", self.path);
        if let Some(page) = probe::page(&head, self.reception.is_ending(), &what) {
            return page;
        }
        let origin = self.cors.as_ref().and_then(|cors| cors.allowed(&head.headers));
        let content_type = answer_type(&head.headers);
        let sender = match self.reception.gate.admit(&head.headers, client).await {
            Ok(sender) => sender,
            Err(denial) => return self.marked(denied(content_type, denial), origin),
        };
        let admitted = self.admit(&head, client);
        // Headers may be large, and the request may take long.
        drop(head);
        let reception = &self.reception;
        let taken = async {
            let encoding = admitted.inspect_err(|failure| reception.refuse(failure))?;
            let (body, arriving) = reception.begin(body, &client.room).await?;
            let receiving = receive_whole(body, content_type, encoding, reception.limit.most, &client.room);
            reception.take_in(arriving, sender, receiving).await
        };
        let response = match taken.await {
            Ok((accepted, request)) => ok(content_type, &accepted, request),
            Err(failure) => failed(content_type, &failure),
        };
        self.marked(response, origin)
    }

    /// Adds the CORS headers for a page of this origin.
    fn marked(&self, mut response: Response<Answer>, origin: Option<HeaderValue>) -> Response<Answer> {
        if self.cors.is_some() {
            cors::mark(response.headers_mut(), origin);
        }
        response
    }

    /// Checks a request's headers, and returns how its body is compressed.
    fn admit(&self, head: &Parts, client: &Client) -> Result<Encoding, Failure> {
        let Parts { method, uri, headers, .. } = head;
        let turn_away = |reason, failure| Err(self.reception.turn_away(reason, client, failure));
        if !is_same(uri.path(), &self.path) {
            let failure = Failure::unknown_path(uri.path(), &self.path);
            return turn_away(TurnedAwayReason::of_path(uri.path()), failure);
        }
        if method != Method::POST {
            let message = format!("{method} is not allowed at {}; POST is", self.path);
            return turn_away(TurnedAwayReason::WrongMethod, Failure::new(FailureKind::WrongMethod, message));
        }
        if ContentType::of(headers).is_none() {
            let message = format!("the content-type of a request must be {}", content_type::KNOWN);
            return turn_away(TurnedAwayReason::UnknownType, Failure::new(FailureKind::UnknownType, message));
        }
        let name = headers.get(CONTENT_ENCODING).map_or(b"identity".as_slice(), HeaderValue::as_bytes);
        Encoding::of_name(name).ok_or_else(|| Failure::unknown_encoding("content-encoding", name))
    }
}

/// Whether both are the same path, ignoring extra slashes: endpoints often end in one.
fn is_same(path: &str, known: &str) -> bool {
    let steps = |path| str::split(path, '/').filter(|step| !step.is_empty());
    steps(path).eq(steps(known))
}

/// The content type of the answer; JSON, which people can read, for a request of neither type.
fn answer_type(headers: &HeaderMap) -> ContentType {
    ContentType::of(headers).unwrap_or(ContentType::Json)
}

fn ok(content_type: ContentType, accepted: &Accepted, request: Share) -> Response<Answer> {
    let body = match content_type {
        ContentType::Protobuf => export_response(accepted.rejected, &accepted.message),
        ContentType::Json => export_response_json(accepted.rejected, &accepted.message),
    };
    let mut response = response(StatusCode::OK, content_type, body);
    response.body_mut().request = Some(request);
    response
}

fn denied(content_type: ContentType, denial: Denial) -> Response<Answer> {
    let mut response = failed(content_type, &denial.failure);
    if let Some(challenge) = denial.challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn failed(content_type: ContentType, failure: &Failure) -> Response<Answer> {
    let code = failure.kind.code() as i32;
    let body = match content_type {
        ContentType::Protobuf => status(code, &failure.message),
        ContentType::Json => status_json(code, &failure.message),
    };
    let mut response = response(failure.kind.status(), content_type, body);
    if let Some(delay) = failure.retry_after {
        // Whole seconds: one or two.
        let seconds = (delay + Duration::from_millis(500)).as_secs();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    match failure.kind {
        FailureKind::WrongMethod => response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST")),
        FailureKind::UnknownEncoding => {
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(KNOWN))
        }
        _ => None,
    };
    response
}

fn response(status: StatusCode, content_type: ContentType, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(Answer::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type.header());
    response
}
