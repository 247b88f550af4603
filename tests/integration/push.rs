//! forebay's own metrics by OTLP: to receivers that take them, and to ones that do not.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::HeaderMap;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use prost::Message;
use support::PATIENCE;
use support::forebay::{Forebay, arguments, command};
use support::postgres::database;
use support::records::numbered_request;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

/// A push as it arrived: its headers, and what was in it.
type Pushed = (HeaderMap, ExportMetricsServiceRequest);

const HEADER: &str = "x-key";

/// Takes metrics by gRPC.
struct Grpc(UnboundedSender<Pushed>);

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.0
            .send((metadata.into_headers(), message))
            .map_err(|_| Status::new(Code::Unavailable, "gone"))?;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

async fn grpc() -> (SocketAddr, UnboundedReceiver<Pushed>) {
    let (sender, received) = unbounded_channel();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let service = MetricsServiceServer::new(Grpc(sender));
    let service = service.accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    (address, received)
}

/// Takes metrics by HTTP.
async fn http() -> (SocketAddr, UnboundedReceiver<Pushed>) {
    let (sender, received) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let take = async move |headers: HeaderMap, body: Bytes| {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let mut plain = Vec::new();
        if headers.contains_key("content-encoding") {
            std::io::copy(&mut flate2::read::GzDecoder::new(&body[..]), &mut plain).unwrap();
        } else {
            plain.extend(body);
        }
        let _ = sender.send((headers, ExportMetricsServiceRequest::decode(&plain[..]).unwrap()));
    };
    let router = axum::Router::new().route("/v1/metrics", axum::routing::post(take));
    tokio::spawn(async { axum::serve(listener, router).await });
    (address, received)
}

/// The readers of a configuration: the page of the tests, and one that is pushed to.
fn readers(interval: u32, timeout: u32, otlp: &str) -> String {
    format!(
        "service.telemetry.metrics.readers=[{{pull: {{exporter: {{prometheus: {{port: 0}}}}}}}}, \
         {{periodic: {{interval: {interval}, timeout: {timeout}, exporter: {{otlp: {{{otlp}}}}}}}}}]"
    )
}

async fn next(received: &mut UnboundedReceiver<Pushed>) -> Pushed {
    tokio::time::timeout(PATIENCE, received.recv()).await.expect("a push in time").expect("the server runs")
}

/// The sum of all points of the metric called `name`.
fn value(pushed: &ExportMetricsServiceRequest, name: &str) -> i64 {
    let scopes = pushed.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let metric = scopes.flat_map(|scope| &scope.metrics).find(|metric| metric.name == name);
    let points = match metric.unwrap_or_else(|| panic!("no {name}")).data.as_ref().unwrap() {
        Data::Sum(sum) => &sum.data_points,
        Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("{name} is no number: {other:?}"),
    };
    points
        .iter()
        .map(|point| match point.value {
            Some(Number::AsInt(value)) => value,
            _ => panic!("{name} is no whole number"),
        })
        .sum()
}

fn attribute(pushed: &ExportMetricsServiceRequest, key: &str) -> Option<String> {
    let resource = pushed.resource_metrics[0].resource.as_ref()?;
    let found = resource.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{key}: {other:?}"),
    }
}

/// Scenario: metrics are pushed by OTLP/HTTP twenty times a second, and scraped as well. Guarantee: both have the same
/// values; header, compression and resource are as configured.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_pushed_and_shown_at_once() {
    let (address, mut received) = http().await;
    let database = database().await;
    let otlp = format!(
        "protocol: http/protobuf, endpoint: 'http://{address}', compression: gzip, headers: {{{HEADER}: secret}}"
    );
    let resource = "service.telemetry.resource={deployment.environment: test, service.version: null}";
    let forebay = Forebay::ready(database.dsn(), &[&readers(50, 5000, &otlp), resource]).await;
    forebay.sender().await.send(numbered_request(0..321)).await.unwrap();
    let pushed = loop {
        let (headers, pushed) = next(&mut received).await;
        assert_eq!(
            (&headers[HEADER], &headers["content-encoding"]),
            (&"secret".parse().unwrap(), &"gzip".parse().unwrap())
        );
        if value(&pushed, "log_buffer_flushed") == 321 {
            break pushed;
        }
    };
    assert_eq!(value(&pushed, "log_buffer_dropped"), 0);
    assert_eq!(value(&pushed, "log_buffer_capacity"), 10_000);
    assert_eq!(attribute(&pushed, "service.name").as_deref(), Some("forebay"));
    assert_eq!(attribute(&pushed, "deployment.environment").as_deref(), Some("test"));
    assert_eq!(attribute(&pushed, "service.version"), None);
    assert_eq!(attribute(&pushed, "service.instance.id").map(|id| id.len()), Some(36));
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 321);
}

/// Scenario: metrics are pushed by OTLP/gRPC once an hour, and forebay ends before that. Guarantee: the end pushes what
/// became of the records.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_pushes_a_last_time() {
    let (address, mut received) = grpc().await;
    let database = database().await;
    let otlp = format!(
        "endpoint: 'http://{address}', compression: gzip, headers: [{{name: {HEADER}, value: secret}}]"
    );
    let forebay = Forebay::ready(database.dsn(), &[&readers(3_600_000, 5000, &otlp)]).await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    let (headers, pushed) = next(&mut received).await;
    assert_eq!(headers[HEADER], "secret");
    assert_eq!(value(&pushed, "log_buffer_flushed"), 10);
    assert!(received.try_recv().is_err(), "once");
}

/// What the environment of a machine says to its applications.
const OF_APPLICATIONS: [(&str, &str); 14] = [
    ("OTEL_EXPORTER_OTLP_HEADERS", "x-somebody-elses-key=hunter2,user-agent=hunter2"),
    ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-somebody-elses-key=hunter2,x-key=hunter2"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:1"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "3600000"),
    ("OTEL_RESOURCE_ATTRIBUTES", "service.name=hunter2,team=hunter2"),
    ("OTEL_SERVICE_NAME", "hunter2"),
    ("OTEL_SDK_DISABLED", "true"),
    ("HTTP_PROXY", "http://127.0.0.1:1"),
];

/// Scenario: the environment has headers, an endpoint, a compression and more for the applications of the machine, and a
/// proxy. Guarantee: forebay's metrics arrive at its own endpoint with the headers of its configuration and no others,
/// not compressed, and as its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_of_applications_adds_nothing_to_a_push() {
    let database = database().await;
    for protocol in ["grpc", "http/protobuf"] {
        let (address, mut received) = if protocol == "grpc" { grpc().await } else { http().await };
        let otlp =
            format!("protocol: {protocol}, endpoint: 'http://{address}', headers: {{{HEADER}: secret}}");
        let mut command = command();
        command.env("DATABASE_URL", database.dsn()).envs(OF_APPLICATIONS);
        command.env("http_proxy", "http://127.0.0.1:1");
        let _forebay = Forebay::spawn({
            command.args(arguments(&[&readers(20, 5000, &otlp)]));
            command
        })
        .await;
        let (headers, pushed) = next(&mut received).await;
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        let expected: &[&str] = match protocol {
            "grpc" => &["content-type", "te", "user-agent", HEADER],
            _ => &["content-length", "content-type", "host", "user-agent", HEADER],
        };
        assert_eq!(names, expected, "{protocol}");
        assert_eq!(headers[HEADER], "secret", "{protocol}");
        let shown = format!("{headers:?} {pushed:?}");
        assert!(!shown.contains("hunter2"), "{protocol}: {shown}");
        assert_eq!(attribute(&pushed, "service.name").as_deref(), Some("forebay"), "{protocol}");
    }
}

/// Scenario: the endpoint takes connections and never answers. Guarantee: forebay starts, stores, says once that it
/// cannot push, and ends soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_endpoint_harms_nothing() {
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let database = database().await;
    for protocol in ["grpc", "http/protobuf"] {
        let otlp = format!("protocol: {protocol}, endpoint: 'http://{}'", frozen.local_addr().unwrap());
        let forebay = Forebay::ready(database.dsn(), &[&readers(10, 3_600_000, &otlp)]).await;
        // It is in the middle of a push that would wait for an hour.
        let (_stream, _) =
            tokio::time::timeout(PATIENCE, frozen.accept()).await.expect("it connects").unwrap();
        forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
        assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10);
        // It does not wait for the hour.
        let (status, said) = forebay.terminate().await;
        assert_eq!(status, Some(0), "{said:#?}");
        assert_eq!(said.iter().filter(|line| line.contains("cannot push metrics")).count(), 1, "{said:#?}");
    }
}

/// Scenario: the endpoint ends every connection, over and over, and then takes pushes. Guarantee: that is said in one
/// line, and that it works again in another.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_is_told_once() {
    let failing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = failing.local_addr().unwrap();
    let otlp = format!("protocol: http/protobuf, endpoint: 'http://{address}'");
    let forebay = Forebay::start("host=127.0.0.1 port=1 user=nobody", &[&readers(10, 5000, &otlp)]).await;
    for _ in 0..30 {
        drop(tokio::time::timeout(PATIENCE, failing.accept()).await.expect("it tries again").unwrap());
    }
    let router = axum::Router::new().fallback(async || "");
    tokio::spawn(async { axum::serve(failing, router).await });
    support::eventually("it works again", || async {
        forebay.said().iter().any(|line| line.contains("pushing metrics works again")).then_some(())
    })
    .await;
    let said = forebay.said();
    let about: Vec<_> = said.iter().filter(|line| line.contains("push")).collect();
    assert_eq!(about.len(), 2, "{about:#?}");
    assert!(about[0].contains("cannot push metrics"), "{about:#?}");
}
