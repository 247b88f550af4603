//! A gateway on a port of its own, and a client that sends it any bytes.

mod answers;
mod books;
mod connections;
mod crowds;
mod folding;
mod gates;
mod health;
mod http1;
mod messages;
mod misdirected;
mod over_http;
mod pages;
mod sharing;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::{ProstCodec, ProstDecoder};
use tonic_types::StatusExt;

use super::config::{Config, GrpcConfig, HttpConfig};
use super::gate::Gate;
use super::grpc::{self, PATH};
use super::metrics::Unread;
use super::turned_away::TurnedAway;
use super::{Intake, Ports};
use crate::buffer::config::{BatchConfig, Overflow, QueueConfig};
use crate::buffer::samples::assert_balanced;
use crate::buffer::{Batch, Buffer};
use crate::net::{Limits, Timeouts};
use crate::otlp::messages::{ExportLogsPartialSuccess, ExportLogsServiceResponse, retry_info};
use crate::table::partition::Width;
use crate::values::size::ByteSize;

const LONG: Duration = Duration::from_secs(600);
/// What a test waits for to be over.
const SHORT: Duration = Duration::from_millis(50);

/// What a test wants to be different.
struct Setup {
    timeouts: Timeouts,
    arrival: Duration,
    config: Config,
    /// Of OTLP/gRPC, and of OTLP/HTTP.
    gates: [Gate; 2],
    queue: QueueConfig,
    result_timeout: Duration,
}

struct Gateway {
    buffer: Arc<Buffer>,
    intake: Arc<Intake>,
    /// Of OTLP/gRPC.
    address: SocketAddr,
    /// Of OTLP/HTTP.
    http: SocketAddr,
    /// What was turned away at OTLP/gRPC, and at OTLP/HTTP.
    turned_away: [Arc<TurnedAway>; 2],
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

type Answer = Result<Option<ExportLogsPartialSuccess>, Status>;

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        let anywhere = "127.0.0.1:0".to_owned();
        config.protocols.grpc = Some(GrpcConfig {
            endpoint: anywhere.clone(),
            max_recv_msg_size: ByteSize::mib(1),
            max_connections: 16,
            ..GrpcConfig::default()
        });
        config.protocols.http = Some(HttpConfig {
            endpoint: anywhere,
            max_request_body_size: ByteSize::mib(1),
            max_connections: 16,
            ..HttpConfig::default()
        });
        Self {
            timeouts: Timeouts {
                opening: LONG,
                first: LONG,
                idle: LONG,
                age: LONG,
                age_grace: LONG,
                crowded: SHORT,
                shutdown: LONG,
            },
            arrival: LONG,
            config,
            gates: ["grpc", "http"].map(Gate::open_to_all),
            queue: QueueConfig { queue_size: 4, overflow: Overflow::DropNewest, ..QueueConfig::default() },
            result_timeout: LONG,
        }
    }
}

impl Setup {
    fn overflow(overflow: Overflow) -> Self {
        Self::default().with(|setup| setup.queue.overflow = overflow)
    }

    fn waits_for_result() -> Self {
        Self::default().with(|setup| setup.queue.enabled = false)
    }

    /// The same, changed.
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn grpc(&mut self) -> &mut GrpcConfig {
        self.config.protocols.grpc.as_mut().unwrap()
    }

    fn http(&mut self) -> &mut HttpConfig {
        self.config.protocols.http.as_mut().unwrap()
    }

    async fn start(self) -> Gateway {
        let batch = BatchConfig { send_batch_size: 1, ..BatchConfig::default() };
        let buffer = Arc::new(Buffer::new(&self.queue, &batch));
        let admission = &self.config.admission;
        let intake = Intake::new(buffer.clone(), !self.queue.enabled, self.result_timeout)
            .writing(Width::default(), None, admission.limits())
            .within(admission.request_limit.bytes(), Arc::default());
        let intake = Arc::new(intake);
        let ports = Ports::bind(&self.config.protocols).await.unwrap();
        let address = |listener: &Option<TcpListener>| listener.as_ref().unwrap().local_addr().unwrap();
        let (address, http) = (address(&ports.grpc), address(&ports.http));
        let turned_away = self.gates.each_ref().map(|gate| gate.turned_away.clone());
        let (stop, stopped) = oneshot::channel();
        let server = {
            let intake = intake.clone();
            tokio::spawn(async move {
                let stopped = async move {
                    let _ = stopped.await;
                };
                let adapt = |limits: &mut Limits| limits.timeouts = self.timeouts.clone();
                ports.serve_within(self.arrival, adapt, &self.config, self.gates, intake, stopped).await;
            })
        };
        Gateway { buffer, intake, address, http, turned_away, stop, server }
    }
}

impl Gateway {
    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// A connection for OTLP/HTTP.
    async fn client(&self) -> http1::Client {
        http1::Client::connect(self.http).await
    }

    async fn export(&self, request: Bytes) -> Answer {
        export(Grpc::new(self.channel().await), request).await
    }

    async fn export_gzip(&self, request: Bytes) -> Answer {
        let client = Grpc::new(self.channel().await).send_compressed(CompressionEncoding::Gzip);
        export(client, request).await
    }

    /// The next batch, as a lane takes it.
    async fn take(&self) -> Batch {
        soon(self.buffer.take()).await.unwrap()
    }

    /// Ends the server; nothing of it is left, and the books balance.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.server).await.unwrap();
        assert_balanced(&self.buffer);
    }
}

async fn export(mut client: Grpc<Channel>, request: Bytes) -> Answer {
    client.ready().await.unwrap();
    let call = client.unary(Request::new(request), PATH.parse().unwrap(), RawRequest);
    Ok(soon(call).await?.into_inner().partial_success)
}

/// Sends bytes as the message, and decodes the answer.
struct RawRequest;

/// Writes bytes as they are.
struct RawEncoder;

impl Codec for RawRequest {
    type Encode = Bytes;
    type Decode = ExportLogsServiceResponse;
    type Encoder = RawEncoder;
    type Decoder = ProstDecoder<ExportLogsServiceResponse>;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<(), _>::default().decoder()
    }
}

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

/// Makes a wait without an end a failure.
async fn soon<F: Future>(wait: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("this should have ended")
}

fn all_but(dead: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
    dead.into_iter().collect()
}

fn rejected(answer: Answer) -> (i64, String) {
    let partial = answer.unwrap().expect("some are rejected");
    (partial.rejected_log_records, partial.error_message)
}

/// The answer is to send again, with a hint in both places.
fn assert_retryable(answer: Answer) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let hint = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&hint), "{hint:?}");
    let python = status.metadata().get_bin(grpc::RETRY_INFO).unwrap().to_bytes().unwrap();
    assert_eq!(python, retry_info(hint));
}

/// The answer is never to send that again.
fn assert_final(answer: Answer, code: Code) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.get_details_retry_info().is_none());
    let python = status.metadata().get_bin(grpc::RETRY_INFO).map(|value| value.to_bytes().unwrap());
    let never = (code == Code::ResourceExhausted).then(|| retry_info(grpc::NEVER));
    assert_eq!(python, never, "what Python's exporter does not send again");
    status.message().to_owned()
}
