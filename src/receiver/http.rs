//! OTLP/HTTP: `POST /v1/logs`, over HTTP/1.1 and HTTP/2.
//!
//! A body of protobuf goes to the intake as gRPC's message does, one of JSON is turned into that first. A request is
//! answered in the encoding that it has itself, a failure too: `google.rpc.Status`, with the status of HTTP that OTLP
//! gives a meaning.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;

use super::answer::{Failure, Limit, Why};
use super::body::Answer;
use super::client::Client;
use super::config::HttpConfig;
use super::connection::{ARRIVAL, GRACE, Times};
use super::cors::{self, Cors};
use super::encoding::{Encoding, KNOWN, Most};
use super::form::{self, Form};
use super::gate::Denial;
use super::intake::Accepted;
use super::message::receive_whole;
use super::ports::MAX_HEADERS;
use super::probe;
use super::reception::Reception;
use super::room::Share;
use super::turned_away::Reason;

/// What a connection reads ahead at most.
const MAX_READ: usize = 64 << 10;

/// What is at the port.
#[derive(Debug)]
pub(super) struct LogsPort {
    reception: Reception,
    path: String,
    cors: Option<Cors>,
}

impl HttpConfig {
    pub(super) fn times(&self) -> Times {
        Times {
            opening: self.read_header_timeout.0,
            arrival: ARRIVAL,
            idle: self.idle_timeout.0,
            age: self.max_connection_age.0,
            age_grace: self.max_connection_age_grace.0,
            grace: GRACE,
        }
    }

    pub(super) fn limit(&self, ratio: usize) -> Limit {
        Limit {
            most: Most { bytes: self.max_request_body_size.bytes(), ratio },
            said: format!("{} bytes", self.max_request_body_size.bytes()),
            key: "receivers.otlp.protocols.http.max_request_body_size",
        }
    }

    pub(super) fn http1(&self) -> http1::Builder {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .keep_alive(self.keep_alives_enabled)
            .header_read_timeout(self.read_header_timeout.0)
            .max_header_size(MAX_HEADERS as usize)
            .max_buf_size(MAX_READ);
        http1
    }
}

impl LogsPort {
    pub(super) fn new(config: &HttpConfig, reception: Reception) -> Self {
        Self { reception, path: config.logs_url_path.clone(), cors: Cors::new(&config.cors) }
    }

    /// Answers one request, whatever it is, and gives back what is not read of it.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> (Response<Answer>, Incoming) {
        let (head, mut body) = request.into_parts();
        (self.response(head, &mut body, &client).await, body)
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
        // Who sends neither encoding is told so in the one that people read.
        let form = Form::of(&head.headers).unwrap_or(Form::Json);
        let sender = match self.reception.gate.admit(&head.headers, client).await {
            Ok(sender) => sender,
            Err(denial) => return self.marked(denied(form, denial), origin),
        };
        let admitted = self.admit(&head, client);
        // Headers may be large, and a request may take long.
        drop(head);
        let reception = &self.reception;
        let taken = async {
            let encoding = admitted.inspect_err(|failure| reception.refuse(failure))?;
            let (body, arriving) = reception.begin(body, &client.room).await?;
            let receiving = receive_whole(body, form, encoding, reception.limit.most, &client.room);
            reception.take_in(arriving, sender, receiving).await
        };
        let response = match taken.await {
            Ok((accepted, request)) => ok(form, &accepted, request),
            Err(failure) => failed(form, &failure),
        };
        self.marked(response, origin)
    }

    /// The response, for the page of this origin.
    fn marked(&self, mut response: Response<Answer>, origin: Option<HeaderValue>) -> Response<Answer> {
        if self.cors.is_some() {
            cors::mark(response.headers_mut(), origin);
        }
        response
    }

    /// Whether a request may go on, for all that its headers say; how its body is compressed.
    fn admit(&self, head: &Parts, client: &Client) -> Result<Encoding, Failure> {
        let Parts { method, uri, headers, .. } = head;
        let turn_away = |reason, failure| Err(self.reception.turn_away(reason, client, failure));
        if !is_same(uri.path(), &self.path) {
            let failure = Failure::unknown_path(uri.path(), &self.path);
            return turn_away(Reason::of_path(uri.path()), failure);
        }
        if method != Method::POST {
            let message = format!("{method} is not for {}; POST is", self.path);
            return turn_away(Reason::WrongMethod, Failure::new(Why::WrongMethod, message));
        }
        if Form::of(headers).is_none() {
            let message = format!("the content-types of requests are {}", form::KNOWN);
            return turn_away(Reason::UnknownType, Failure::new(Why::UnknownType, message));
        }
        let name = headers.get(CONTENT_ENCODING).map_or(b"identity".as_slice(), HeaderValue::as_bytes);
        Encoding::of_name(name).ok_or_else(|| Failure::unknown_encoding("content-encoding", name))
    }
}

/// Whether both are the same path, however many slashes are in it: an endpoint that ends in one is common.
fn is_same(path: &str, known: &str) -> bool {
    let steps = |path| str::split(path, '/').filter(|step| !step.is_empty());
    steps(path).eq(steps(known))
}

fn ok(form: Form, accepted: &Accepted, request: Share) -> Response<Answer> {
    let mut response = response(StatusCode::OK, form, form.accepted(accepted));
    response.body_mut().request = Some(request);
    response
}

/// The answer to a request that is not even looked at.
pub(super) fn unlooked(headers: &HeaderMap, failure: Failure) -> Response<Answer> {
    failed(Form::of(headers).unwrap_or(Form::Json), &failure)
}

fn denied(form: Form, denial: Denial) -> Response<Answer> {
    let mut response = failed(form, &denial.failure);
    if let Some(challenge) = denial.challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn failed(form: Form, failure: &Failure) -> Response<Answer> {
    let mut response = response(failure.why.status(), form, form.failure(failure));
    if let Some(delay) = failure.retry_after {
        // In whole seconds: one or two.
        let seconds = (delay + Duration::from_millis(500)).as_secs();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    match failure.why {
        Why::WrongMethod => response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST")),
        Why::UnknownEncoding => {
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(KNOWN))
        }
        _ => None,
    };
    response
}

fn response(status: StatusCode, form: Form, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(Answer::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, form.content_type());
    response
}
