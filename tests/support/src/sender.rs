//! A sender of OTLP over gRPC that says exactly what it was answered. The SDKs do not, and they retry.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use forebay::otlp::messages::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use prost::Message;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower_service::Service;

use crate::records::numbered_request;

/// The path of the method.
pub const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// One connection.
#[derive(Clone)]
pub struct Sender {
    channel: Channel,
}

/// What one sender was told about its records, and how long the answers took.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Numbers of records in requests that were answered OK without a rejection.
    pub stored: Vec<std::ops::Range<u64>>,
    /// Records in all requests.
    pub sent: u64,
    /// Records that `partial_success` rejected.
    pub rejected: u64,
    /// Records in requests that were refused and may be sent again.
    pub refused: u64,
    /// Records in requests that had no answer.
    pub unanswered: u64,
    /// How long each answer took.
    pub waits: Vec<Duration>,
}

/// What one request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// OK.
    Taken {
        /// How many of its records `partial_success` rejected.
        rejected: u64,
    },
    /// It may be sent again.
    Refused,
    /// Nothing came: the connection ended, or was never had.
    None,
}

impl Answer {
    /// Reads an answer. One that no test expects is a panic.
    pub fn of(answer: Result<ExportLogsServiceResponse, Status>) -> Self {
        match answer {
            Ok(response) => {
                let rejected = response.partial_success.map_or(0, |partial| partial.rejected_log_records);
                Self::Taken { rejected: rejected as u64 }
            }
            Err(status) if status.code() == Code::Unavailable && retry_delay(&status).is_some() => {
                Self::Refused
            }
            // What came over the wire has no source. This is the client's own word for a connection that ended,
            // in whatever code: a GOAWAY, a reset, a close.
            Err(status) if status.source().is_some() => Self::None,
            Err(status) => panic!("an answer that no test expects: {status:?}"),
        }
    }
}

impl Sender {
    /// Connects.
    pub async fn connect(endpoint: &str) -> Self {
        let endpoint = Channel::from_shared(endpoint.to_owned()).unwrap();
        Self { channel: endpoint.connect().await.expect("forebay listens") }
    }

    /// One that sends over `channel`.
    pub fn over(channel: Channel) -> Self {
        Self { channel }
    }

    /// One that connects when it first sends.
    pub fn lazy(endpoint: &str) -> Self {
        Self { channel: Channel::from_shared(endpoint.to_owned()).unwrap().connect_lazy() }
    }

    /// Sends one request.
    pub async fn send(&self, request: ExportLogsServiceRequest) -> Result<ExportLogsServiceResponse, Status> {
        self.send_bytes(request.encode_to_vec().into()).await
    }

    /// Sends bytes as if they were a request.
    pub async fn send_bytes(&self, request: Bytes) -> Result<ExportLogsServiceResponse, Status> {
        self.send_to(PATH, request).await
    }

    /// Sends bytes as if they were a request, with the header `authorization`.
    pub async fn send_as(
        &self,
        authorization: Option<MetadataValue<Ascii>>,
        request: Bytes,
    ) -> Result<ExportLogsServiceResponse, Status> {
        let mut request = tonic::Request::new(request);
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value);
        }
        unary(tonic::client::Grpc::new(self.channel.clone()), PATH, request).await
    }

    /// Sends bytes as if they were a request, compressed.
    pub async fn send_gzip(&self, request: Bytes) -> Result<ExportLogsServiceResponse, Status> {
        let client = tonic::client::Grpc::new(self.channel.clone());
        unary(client.send_compressed(CompressionEncoding::Gzip), PATH, tonic::Request::new(request)).await
    }

    /// Sends bytes to any path.
    pub async fn send_to(
        &self,
        path: &'static str,
        request: Bytes,
    ) -> Result<ExportLogsServiceResponse, Status> {
        unary(tonic::client::Grpc::new(self.channel.clone()), path, tonic::Request::new(request)).await
    }

    /// Sends a request of HTTP/2 that need not be gRPC; gives the answer's head.
    pub async fn send_raw(&self, request: http::Request<Bytes>) -> http::response::Parts {
        let mut channel = self.channel.clone();
        std::future::poll_fn(|context| channel.poll_ready(context)).await.expect("a connection");
        let body = |bytes| tonic::body::Body::new(axum::body::Body::from(bytes));
        channel.call(request.map(body)).await.expect("an answer").into_parts().0
    }

    /// Sends records of these numbers in one request, and notes what it was told.
    pub async fn send_numbered(&self, numbers: std::ops::Range<u64>, told: &mut Told) {
        let request = numbered_request(numbers.clone());
        let started = Instant::now();
        let answer = self.send(request).await;
        told.waits.push(started.elapsed());
        told.note(numbers, answer);
    }
}

async fn unary(
    mut client: tonic::client::Grpc<Channel>,
    path: &'static str,
    request: tonic::Request<Bytes>,
) -> Result<ExportLogsServiceResponse, Status> {
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = client.unary(request, path, BytesCodec).await?;
    ExportLogsServiceResponse::decode(answer.into_inner())
        .map_err(|error| Status::internal(error.to_string()))
}

impl Told {
    fn note(&mut self, numbers: std::ops::Range<u64>, answer: Result<ExportLogsServiceResponse, Status>) {
        let count = numbers.end - numbers.start;
        self.sent += count;
        match Answer::of(answer) {
            Answer::Taken { rejected: 0 } => self.stored.push(numbers),
            Answer::Taken { rejected } => self.rejected += rejected,
            Answer::Refused => self.refused += count,
            Answer::None => self.unanswered += count,
        }
    }

    /// Adds what another sender was told.
    pub fn add(&mut self, other: Told) {
        self.stored.extend(other.stored);
        self.sent += other.sent;
        self.rejected += other.rejected;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.waits.extend(other.waits);
    }
}

/// The retry hint of a refusal, from its standard place.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Hands bytes over as they are.
#[derive(Clone, Copy, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
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

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
