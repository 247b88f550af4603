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

use bytes::{Buf, BufMut, Bytes};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codec::{
    BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming,
};
use tonic::server::{ClientStreamingService, Grpc};
use tonic::transport::Server;
use tonic::{Request as GrpcRequest, Response as GrpcResponse, Status};
use tower_service::Service;

use super::answer;
use super::config::GrpcConfig;
use super::error::Error;
use super::intake::Intake;
use super::listen::{Limits, connections};
use crate::otlp::messages::export_response;

/// The path of the method that takes logs.
pub const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// From the headers of a request to its last byte.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Flow control: what a sender may have under way, by request and by connection, before it is read. Senders'
/// batches are some 100 KiB.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_HEADERS: u32 = 16 << 10;
/// HTTP/2's default of 16 KiB cuts a batch into a dozen frames, each with reads and bookkeeping of its own.
const MAX_FRAME: u32 = 64 << 10;

/// Listens where `config` says.
pub async fn bind(config: &GrpcConfig) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { endpoint: config.endpoint.clone(), source };
    TcpListener::bind(&config.endpoint).await.map_err(failed)
}

/// Serves `listener` until `shutdown`, and then for the requests under way, five seconds at most.
pub async fn serve(
    listener: TcpListener,
    config: &GrpcConfig,
    intake: Arc<Intake>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    serve_within(Limits::of_this_process(), listener, config, intake, shutdown).await
}

pub(super) async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    config: &GrpcConfig,
    intake: Arc<Intake>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let (running, ended) = watch::channel(());
    let shutdown = async move {
        shutdown.await;
        // Its end is the signal that the connections wait for.
        drop(running);
    };
    let keepalive = &config.keepalive.server_parameters;
    let service = LogsService { intake, max_mib: config.max_recv_msg_size_mib };
    Server::builder()
        // So that who speaks HTTP/1.1 to this port gets an answer.
        .accept_http1(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams((config.max_concurrent_streams > 0).then_some(config.max_concurrent_streams))
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval((!keepalive.time.0.is_zero()).then_some(keepalive.time.0))
        .http2_keepalive_timeout(Some(keepalive.timeout.0))
        .serve_with_incoming_shutdown(service, connections(listener, limits, ended), shutdown)
        .await
        .map_err(Error::Serve)
}

/// Everything that is at this port.
#[derive(Clone, Debug)]
struct LogsService {
    intake: Arc<Intake>,
    max_mib: u32,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<Request<Body>> for LogsService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

impl LogsService {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        if request.version() < Version::HTTP_2 {
            return not_http2(request).await;
        }
        if !is_grpc(request.headers().get(CONTENT_TYPE)) {
            return not_grpc("this port takes OTLP/gRPC, whose content-type is application/grpc\n");
        }
        if request.uri().path() != PATH {
            return answer::unknown_path(request.uri().path(), PATH).into_http();
        }
        let max_bytes = (self.max_mib as usize).saturating_mul(1 << 20);
        Grpc::new(RawCodec)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(max_bytes)
            .client_streaming(self, request)
            .await
    }

    async fn export(self, mut stream: Streaming<Bytes>) -> Result<GrpcResponse<Bytes>, Status> {
        let request = timeout(ARRIVAL, self.one_message(&mut stream))
            .await
            .map_err(|_| answer::too_slow(ARRIVAL))??;
        // Its buffers are not needed while the sender waits for a result.
        drop(stream);
        match self.intake.take_in(request).await {
            Ok(accepted) => Ok(GrpcResponse::new(export_response(accepted.rejected, &accepted.message))),
            Err(refusal) => Err(answer::refused(&refusal)),
        }
    }

    async fn one_message(&self, stream: &mut Streaming<Bytes>) -> Result<Bytes, Status> {
        let unreadable = |status| answer::unreadable(status, self.max_mib);
        let message = stream.message().await.map_err(unreadable)?;
        let more = stream.message().await.map_err(unreadable)?;
        message.filter(|_| more.is_none()).ok_or_else(answer::not_one_message)
    }
}

/// The method is unary. It is served as a stream of one message so that what cannot be read is answered here.
impl ClientStreamingService<Bytes> for LogsService {
    type Response = Bytes;
    type Future = BoxFuture<Result<GrpcResponse<Bytes>, Status>>;

    fn call(&mut self, request: GrpcRequest<Streaming<Bytes>>) -> Self::Future {
        Box::pin(self.clone().export(request.into_inner()))
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

/// Answers a request in HTTP/1, mostly from an exporter that is set to `http/protobuf` at this port.
async fn not_http2(request: Request<Body>) -> Response<Body> {
    // A connection that is closed on unread bytes is reset, and the sender may never see the answer.
    let mut body = axum::body::Body::new(request.into_body()).into_data_stream();
    let mut left = 4usize << 20;
    let read = async {
        while let Some(Ok(bytes)) = body.next().await
            && left > 0
        {
            left = left.saturating_sub(bytes.len());
        }
    };
    let _ = timeout(Duration::from_secs(5), read).await;
    let mut response = not_grpc(
        "this port takes OTLP/gRPC only; set the exporter's protocol to grpc \
         (OTEL_EXPORTER_OTLP_PROTOCOL=grpc), or its endpoint to a port that takes OTLP/HTTP\n",
    );
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn not_grpc(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(axum::body::Body::from(text)));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// Hands messages over as they are, without a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        // The answer is one message, and mostly empty.
        BufferSettings::new(128, 128)
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
