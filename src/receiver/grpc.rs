//! OTLP/gRPC: the one method that takes logs.
//!
//! The message's bytes go to the intake as they came off the wire (decompressed, where the sender compressed
//! them); nothing is decoded into messages. Whoever speaks something else to this port is told so: by a gRPC
//! status where it is gRPC, by an HTTP status where it is not.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;

use super::answer;
use super::config::{Config, GrpcConfig};
use super::connection::{Terms, Times};
use super::error::Error;
use super::gate::Gate;
use super::intake::{Accepted, Intake};
use super::listen::{Acceptor, most_connections};
use super::message::{Encoding, Unreadable, receive};
use super::metrics::Unread;
use super::room::{Room, Share};
use crate::otlp::messages::export_response;

/// The path of the method that takes logs.
pub const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Flow control: what a sender may have under way, by request and by connection, before it is read. Senders'
/// batches are some 100 KiB, and what is not read yet is not counted in the room.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 20;
const MAX_HEADERS: u32 = 16 << 10;
/// HTTP/2's default of 16 KiB cuts a batch into a dozen frames, each with reads and bookkeeping of its own.
const MAX_FRAME: u32 = 64 << 10;
/// What a request takes beside its message while it is under way, a task among it.
const REQUEST: usize = 8 << 10;

/// Listens where `config` says.
pub async fn bind(config: &GrpcConfig) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { endpoint: config.endpoint.clone(), source };
    TcpListener::bind(&config.endpoint).await.map_err(failed)
}

/// Serves `listener` until `shutdown`, and then for the requests under way, five seconds at most.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    gate: Gate,
    intake: Arc<Intake>,
    shutdown: impl Future<Output = ()>,
) {
    let keepalive = &config.protocols.grpc.keepalive.server_parameters;
    let times = Times {
        preface: Duration::from_secs(10),
        arrival: Duration::from_secs(30),
        idle: keepalive.max_connection_idle.0,
        age: keepalive.max_connection_age.0,
        age_grace: keepalive.max_connection_age_grace.0,
        grace: Duration::from_secs(5),
    };
    serve_within(times, listener, config, gate, intake, shutdown).await;
}

pub(super) async fn serve_within(
    times: Times,
    listener: TcpListener,
    config: &Config,
    gate: Gate,
    intake: Arc<Intake>,
    shutdown: impl Future<Output = ()>,
) {
    let grpc = &config.protocols.grpc;
    let acceptor = Acceptor::new(listener, most_connections(grpc.max_connections));
    let (running, ended) = watch::channel(());
    let arrival = times.arrival;
    let terms = Arc::new(Terms { http2: http2(grpc), times, gate, crowded: acceptor.crowded(), ended });
    let room = Room::new(config.admission.request_limit_mib as usize * MIB);
    let service = Arc::new(LogsService { intake, room, arrival, max_mib: grpc.max_recv_msg_size_mib });
    let connection = |stream| {
        let (terms, service) = (terms.clone(), service.clone());
        terms.serve(stream, move |request| service.clone().answer(request))
    };
    let last = acceptor.run(connection, shutdown).await;
    // Its end is the signal that the connections wait for.
    drop(running);
    last.await;
}

const MIB: usize = 1 << 20;

fn http2(config: &GrpcConfig) -> http2::Builder<TokioExecutor> {
    let keepalive = &config.keepalive.server_parameters;
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(keepalive.time.0)
        .keep_alive_timeout(keepalive.timeout.0);
    http2
}

/// Everything that is at this port.
#[derive(Debug)]
struct LogsService {
    intake: Arc<Intake>,
    room: Arc<Room>,
    arrival: Duration,
    max_mib: u32,
}

impl LogsService {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        let (head, body) = request.into_parts();
        if !is_grpc(head.headers.get(CONTENT_TYPE)) {
            return Ok(not_grpc());
        }
        if head.uri.path() != PATH {
            return Ok(answer::unknown_path(head.uri.path(), PATH).into_http());
        }
        let encoding = encoding(&head.headers);
        // Headers may be large, and a request may take long.
        drop(head);
        let exported = match encoding {
            Ok(encoding) => self.export(encoding, body).await,
            Err(status) => {
                self.intake.refuse_unread(Unread::Encoding);
                Err(status)
            }
        };
        Ok(exported.map_or_else(Status::into_http, |(accepted, request)| taken(&accepted, request)))
    }

    async fn export(&self, encoding: Encoding, body: Incoming) -> Result<(Accepted, Share), Status> {
        let unreadable = |why: Unreadable| {
            why.counts_as().into_iter().for_each(|reason| self.intake.refuse_unread(reason));
            answer::unreadable(why, self.max_mib)
        };
        let too_slow = |_| {
            self.intake.refuse_unread(Unread::TooSlow);
            answer::too_slow(self.arrival)
        };
        let request = self.room.take(REQUEST).map_err(|error| unreadable(error.into()))?;
        let receiving = receive(body, encoding, self.max_mib as usize * MIB, &self.room);
        let received = timeout(self.arrival, receiving).await;
        let message = received.map_err(too_slow)?.map_err(unreadable)?;
        let accepted = self.intake.take_in(message).await.map_err(|refusal| answer::refused(&refusal))?;
        Ok((accepted, request))
    }
}

/// gRPC whose messages are protobuf.
fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let media_type = content_type.and_then(|value| value.to_str().ok()?.split(';').next());
    media_type.is_some_and(|media_type| {
        ["application/grpc", "application/grpc+proto"]
            .iter()
            .any(|known| media_type.trim().eq_ignore_ascii_case(known))
    })
}

/// How the sender compresses.
fn encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(Encoding::Identity),
        Some(b"gzip") => Ok(Encoding::Gzip),
        Some(other) => Err(answer::unknown_encoding(other)),
    }
}

fn not_grpc() -> Response<Answer> {
    let text = Bytes::from_static(b"this port takes OTLP/gRPC, whose content-type is application/grpc\n");
    let mut response = Response::new(Answer { data: Some(text), ..Answer::default() });
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// The answer OK: one message in gRPC's frame, and the status behind it.
fn taken(accepted: &Accepted, request: Share) -> Response<Answer> {
    let message = export_response(accepted.rejected, &accepted.message);
    let mut data = BytesMut::with_capacity(5 + message.len());
    data.put_u8(0);
    data.put_u32(message.len() as u32);
    data.put(message);
    let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
    let answer = Answer { data: Some(data.freeze()), trailers: Some(trailers), _request: Some(request) };
    let mut response = Response::new(answer);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The body of an answer. That of a status alone, which is in the headers, is empty.
#[derive(Debug, Default)]
struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// A client that does not take its answer has its request under way.
    _request: Option<Share>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }
}
