//! gRPC's standard health service and the probes of HTTP, by the clients that load balancers are made of.

use http::uri::PathAndQuery;
use tonic::Streaming;

use super::*;
use crate::buffer::samples::request;
use crate::otlp::messages::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse, ServingStatus,
};

const LOGS: &str = "opentelemetry.proto.collector.logs.v1.LogsService";

fn path(method: &str) -> PathAndQuery {
    format!("/grpc.health.v1.Health/{method}").parse().unwrap()
}

fn of(service: &str) -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest { service: service.to_owned() })
}

async fn check(channel: &Channel, service: &str) -> Result<ServingStatus, Code> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer =
        soon(client.unary(of(service), path("Check"), codec)).await.map_err(|status| status.code())?;
    Ok(answer.into_inner().status())
}

async fn watch(channel: &Channel, service: &str) -> Streaming<HealthCheckResponse> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    soon(client.server_streaming(of(service), path("Watch"), codec)).await.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Result<ServingStatus, Code> {
    let message = soon(watch.message()).await.map_err(|status| status.code())?;
    Ok(message.expect("a status ends it").status())
}

/// Scenario: a port that asks for a token. Promise: whoever asks whether it takes logs is told so without one, and nothing else.
#[tokio::test]
async fn health_is_told_to_everybody() {
    let setup = Setup { gates: [Gate::with_token(), Gate::with_token()], ..Setup::default() };
    let gateway = setup.start().await;
    let channel = gateway.channel().await;
    for service in ["", LOGS] {
        assert_eq!(check(&channel, service).await, Ok(ServingStatus::Serving), "{service}");
    }
    assert_eq!(check(&channel, "elsewhere").await, Err(Code::NotFound));
    assert_eq!(check(&channel, &"x".repeat(2000)).await, Err(Code::InvalidArgument));
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<HealthListRequest, HealthListResponse>::default();
    let list = soon(client.unary(Request::new(HealthListRequest {}), path("List"), codec)).await.unwrap();
    let mut list: Vec<_> =
        list.into_inner().statuses.into_iter().map(|(name, is)| (name, is.status())).collect();
    list.sort();
    assert_eq!(list, [("".to_owned(), ServingStatus::Serving), (LOGS.to_owned(), ServingStatus::Serving)]);
    let codec = ProstCodec::<HealthListRequest, HealthListResponse>::default();
    client.ready().await.unwrap();
    let other = soon(client.unary(Request::new(HealthListRequest {}), path("Mend"), codec)).await;
    assert_eq!(other.unwrap_err().code(), Code::Unimplemented);
    assert_final(gateway.export(request(["a"])).await, Code::Unauthenticated);
    assert_eq!(gateway.intake.receiving(), 0, "none of that takes room");
    gateway.stop().await;
}

/// A full buffer is not ill health: where records go instead, there is no more room.
#[tokio::test]
async fn a_full_buffer_is_well_and_the_end_is_told() {
    let gateway = Setup::overflow(Overflow::Reject).start().await;
    let channel = gateway.channel().await;
    let (mut all, mut elsewhere) = (watch(&channel, LOGS).await, watch(&channel, "elsewhere").await);
    assert_eq!(next(&mut all).await, Ok(ServingStatus::Serving));
    assert_eq!(next(&mut elsewhere).await, Ok(ServingStatus::ServiceUnknown));
    assert_eq!(gateway.export(request(["a", "b", "c", "d"])).await.unwrap(), None);
    assert_retryable(gateway.export(request(["e"])).await);
    assert_eq!(check(&channel, "").await, Ok(ServingStatus::Serving));
    gateway.take().await.settle_written(&all_but([]));
    gateway.intake.drain();
    assert_eq!(check(&channel, "").await, Ok(ServingStatus::NotServing));
    let stopped = tokio::spawn(gateway.stop());
    assert_eq!(next(&mut all).await, Ok(ServingStatus::NotServing));
    assert_eq!(next(&mut all).await, Err(Code::Unavailable), "it ends");
    assert_eq!(next(&mut elsewhere).await, Err(Code::Unavailable));
    soon(stopped).await.unwrap();
}

/// Watches have a few places, which take no room of requests; one more ends the oldest.
#[tokio::test]
async fn watches_are_bounded_and_keep_nobody_out() {
    let gateway = Setup::default().start().await;
    let channel = gateway.channel().await;
    let mut watches = Vec::new();
    for _ in 0..66 {
        let mut one = watch(&channel, "").await;
        assert_eq!(next(&mut one).await, Ok(ServingStatus::Serving));
        watches.push(one);
    }
    for one in &mut watches[..2] {
        assert_eq!(next(one).await, Err(Code::Unavailable), "the oldest have made place");
    }
    assert_eq!(gateway.intake.receiving(), 0);
    assert_eq!(gateway.export(request(["a"])).await.unwrap(), None);
    gateway.take().await.settle_written(&all_but([]));
    drop(watches);
    gateway.stop().await;
}

/// A connection with a watch has no request under way.
#[tokio::test]
async fn a_watch_keeps_no_connection() {
    let gateway = Setup::default()
        .with(|setup| (setup.timeouts.first, setup.timeouts.idle) = (SHORT, SHORT))
        .start()
        .await;
    let mut one = watch(&gateway.channel().await, "").await;
    assert_eq!(next(&mut one).await, Ok(ServingStatus::Serving));
    assert!(soon(one.message()).await.is_err(), "it ends with its idle connection");
    gateway.stop().await;
}

#[tokio::test]
async fn probes_of_http_are_answered_until_the_end() {
    let setup = Setup { gates: [Gate::with_token(), Gate::with_token()], ..Setup::default() };
    let gateway = setup.start().await;
    for (drained, status) in [(false, 200), (true, 503)] {
        let reply = gateway.client().await.ask("GET / HTTP/1.1", b"").await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body[..]),
            (status, &b"this port takes OTLP/HTTP logs, by POST at /v1/logs\n"[..])
        );
        let mut client = gateway.client().await;
        assert_eq!(client.ask("HEAD / HTTP/1.1", b"").await.status, status);
        if !drained {
            gateway.intake.drain();
        }
    }
    let reply = gateway.client().await.ask("POST / HTTP/1.1", b"").await;
    assert_eq!(reply.status, 401, "that is no probe");
    gateway.stop().await;
}
