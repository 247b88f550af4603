//! An OTLP client for metrics.
//!
//! It follows the configuration alone. The SDK's exporter would add headers and compression from `OTEL_EXPORTER_OTLP_*`, which are
//! meant for the applications of a machine and often hold keys to another service, and would use `HTTP_PROXY`.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use hyper::body::{Body, Frame};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use super::config::{Compression, OtlpConfig, Protocol};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A client of one endpoint.
#[derive(Debug)]
pub(super) struct Exporter {
    transport: Transport,
    headers: HeaderMap,
    gzip: bool,
    /// The timeout of one request.
    timeout: Duration,
}

#[derive(Debug)]
enum Transport {
    Grpc(MetricsServiceClient<Channel>),
    Http(Uri),
}

const AGENT: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

impl Exporter {
    /// A client as `config` says. It connects with its first push. For gRPC, call this within a Tokio runtime.
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, Failure> {
        let gzip = config.compression == Compression::Gzip;
        let headers = config.headers.0.iter();
        // The check of the configuration has refused names and values that are not valid in HTTP.
        let headers =
            headers.filter_map(|(name, value)| Some((name.parse().ok()?, value.expose().parse().ok()?)));
        let transport = match config.protocol {
            Protocol::Grpc => {
                let endpoint = Endpoint::from_shared(config.endpoint.clone())?.user_agent(AGENT)?;
                let client = MetricsServiceClient::new(endpoint.connect_lazy());
                Transport::Grpc(if gzip { client.send_compressed(CompressionEncoding::Gzip) } else { client })
            }
            Protocol::HttpProtobuf => Transport::Http(Uri::from_str(&config.http_endpoint())?),
        };
        Ok(Self { transport, headers: headers.collect(), gzip, timeout: config.timeout.0 })
    }

    /// Sends `metrics` once. The error text contains no headers.
    pub(super) async fn export(&self, metrics: &ResourceMetrics) -> Result<(), String> {
        let message = ExportMetricsServiceRequest::from(metrics);
        let sent = async {
            match &self.transport {
                Transport::Grpc(client) => self.call(client.clone(), message).await,
                Transport::Http(endpoint) => self.post(endpoint, &message).await.map_err(|e| e.to_string()),
            }
        };
        let late = |_| Err(format!("no answer within {:?}", self.timeout));
        timeout(self.timeout, sent).await.unwrap_or_else(late)
    }

    async fn call(
        &self,
        mut client: MetricsServiceClient<Channel>,
        message: ExportMetricsServiceRequest,
    ) -> Result<(), String> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        let answered = client.export(request).await;
        // The status's text is left out: it comes from the other end, which may repeat a header in it.
        answered.map(drop).map_err(|status| match std::error::Error::source(&status) {
            Some(cause) => format!("{:?}: {}", status.code(), chain(cause)),
            None => format!("it answers {:?}", status.code()),
        })
    }

    async fn post(&self, endpoint: &Uri, message: &ExportMetricsServiceRequest) -> Result<(), Failure> {
        let host = endpoint.authority().ok_or("the endpoint has no host")?.as_str();
        let body = message.encode_to_vec();
        let path = endpoint.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path).header(HOST, host).header(USER_AGENT, AGENT);
        request = request.header(CONTENT_TYPE, "application/x-protobuf");
        let body = if self.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
            let mut encoder = GzEncoder::new(Vec::new(), Level::default());
            encoder.write_all(&body)?;
            encoder.finish()?
        } else {
            body
        };
        let mut request = request.body(Whole(Some(body.into())))?;
        request.headers_mut().extend(self.headers.clone());
        let stream = TcpStream::connect(host).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::pin!(connection);
        let status = tokio::select! {
            answer = sender.send_request(request) => answer?.status(),
            // The connection ends before the answer only if it fails.
            Err(error) = &mut connection => return Err(error.into()),
        };
        if status.is_success() { Ok(()) } else { Err(format!("it answers {status}").into()) }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

/// A body in one piece.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
