//! The ports of the receiver: one for each enabled protocol, with limits of its own, and one request memory for both.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::client::AddressRooms;
use super::config::{Config, Protocols};
use super::error::Error;
use super::gate::Gate;
use super::gates::Gates;
use super::grpc::{Grpc, WATCHES};
use super::http::Http;
use super::intake::Intake;
use super::lobby::Lobby;
use super::metrics::Transport;
use super::port::Port;
use super::reception::{REQUEST, Reception};
use crate::net::Limits;

/// The listeners.
#[derive(Debug)]
pub struct Ports {
    /// For OTLP/gRPC.
    pub grpc: Option<TcpListener>,
    /// For OTLP/HTTP.
    pub http: Option<TcpListener>,
}

/// The longest time from the headers of a request to its last byte.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Requests without a byte of their body may take this part of the request memory.
const LOBBY: usize = 16;

impl Ports {
    /// Listens on the configured endpoints. The error is the first that fails.
    pub async fn bind(config: &Protocols) -> Result<Self, Error> {
        let grpc = config.grpc.as_ref().map(|grpc| grpc.endpoint.as_str());
        let http = config.http.as_ref().map(|http| http.endpoint.as_str());
        Ok(Self { grpc: bind("grpc", grpc).await?, http: bind("http", http).await? })
    }

    /// Serves until `shutdown`, and then for at most five seconds the requests in flight.
    pub async fn serve(
        self,
        config: &Config,
        gates: &Gates,
        intake: Arc<Intake>,
        shutdown: impl Future<Output = ()>,
    ) {
        let gates = [gates.grpc.clone(), gates.http.clone()];
        self.serve_within(ARRIVAL, |_| {}, config, gates, intake, shutdown).await;
    }

    /// The same with another `arrival` timeout, and with limits that `adapt` changes.
    pub(super) async fn serve_within(
        self,
        arrival: Duration,
        adapt: impl Fn(&mut Limits),
        config: &Config,
        [grpc_gate, http_gate]: [Gate; 2],
        intake: Arc<Intake>,
        shutdown: impl Future<Output = ()>,
    ) {
        let limit = config.admission.request_limit.bytes();
        let rooms = AddressRooms::new(intake.room().clone());
        let lobby = Arc::new(Lobby::new(limit / LOBBY / REQUEST));
        let ratio = config.admission.max_decompression_ratio;
        // Dropping it is the signal that listeners and connections wait for.
        let (running, ended) = watch::channel(());
        let reception = |transport, gate, limit| Reception {
            gate,
            transport,
            intake: intake.clone(),
            lobby: lobby.clone(),
            watches: Arc::new(Lobby::new(WATCHES)),
            ended: ended.clone(),
            arrival,
            limit,
            sender_attribute: config.sender_attribute.clone(),
        };
        let ports = usize::from(self.grpc.is_some()) + usize::from(self.http.is_some());
        let adapted = |mut limits| {
            adapt(&mut limits);
            limits
        };
        let grpc = self.grpc.zip(config.protocols.grpc.as_ref()).map(|(listener, grpc)| {
            let limits = adapted(grpc.limits(ports, &grpc_gate));
            let protocol = Grpc(reception(Transport::Grpc, grpc_gate, grpc.limit(ratio)));
            Port::new(protocol, limits, rooms.clone(), ended.clone()).serve(listener)
        });
        let http = self.http.zip(config.protocols.http.as_ref()).map(|(listener, http)| {
            let limits = adapted(http.limits(ports, &http_gate));
            let protocol = Http::new(http, reception(Transport::Http, http_gate, http.limit(ratio)));
            Port::new(protocol, limits, rooms.clone(), ended.clone()).serve(listener)
        });
        let shutdown = async {
            shutdown.await;
            drop(running);
        };
        tokio::join!(shutdown, OptionFuture::from(grpc), OptionFuture::from(http));
    }
}

async fn bind(protocol: &'static str, endpoint: Option<&str>) -> Result<Option<TcpListener>, Error> {
    let Some(endpoint) = endpoint else { return Ok(None) };
    let failed = |source| Error::Listen { protocol, endpoint: endpoint.to_owned(), source };
    TcpListener::bind(endpoint).await.map(Some).map_err(failed)
}
