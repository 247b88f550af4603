//! The ports of the receiver: one for each protocol that is on, each with the bounds of its own connections, and one
//! room for the requests of both.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Request, Response};
use futures_util::future::OptionFuture;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::answer::Failure;
use super::body::Answer;
use super::client::Client;
use super::config::{Config, Protocols};
use super::connection::{Terms, Times};
use super::crowd::Crowd;
use super::error::Error;
use super::gate::Gate;
use super::gates::Gates;
use super::grpc;
use super::health::Watches;
use super::http::{self, LogsPort};
use super::intake::Intake;
use super::listen::{Acceptor, most_connections, most_of_one_address};
use super::lobby::Lobby;
use super::metrics::Transport;
use super::peers::{Doorway, Peers};
use super::reception::{REQUEST, Reception};

/// The listeners.
#[derive(Debug)]
pub struct Ports {
    /// For OTLP/gRPC.
    pub grpc: Option<TcpListener>,
    /// For OTLP/HTTP.
    pub http: Option<TcpListener>,
}

/// What connections may take of time, by protocol.
pub(super) struct TimesOfPorts {
    pub(super) grpc: Times,
    pub(super) http: Times,
}

/// Flow control: what a sender may have under way, by request and by connection, before it is read. Senders'
/// batches are some 100 KiB, and what is not read yet is not counted in the room.
const WINDOW: u32 = 1 << 20;
/// The same where requests wait for their passwords to be verified, unread.
const UNVERIFIED_WINDOW: u32 = 256 << 10;
pub(super) const MAX_HEADERS: u32 = 16 << 10;
/// HTTP/2's default of 16 KiB cuts a batch into a dozen frames, each with reads and bookkeeping of its own.
const MAX_FRAME: u32 = 64 << 10;
/// Where the protocol has no keys for them: requests under way on one connection, and pings.
const MAX_STREAMS: u32 = 128;
const PING_AFTER: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// What requests without a byte of their body may take, as a part of what the others may.
const LOBBY: usize = 16;

impl Ports {
    /// Listens where `config` says.
    ///
    /// # Errors
    ///
    /// The first port that is not to be had.
    pub async fn bind(config: &Protocols) -> Result<Self, Error> {
        let grpc = config.grpc.as_ref().map(|grpc| grpc.endpoint.as_str());
        let http = config.http.as_ref().map(|http| http.endpoint.as_str());
        Ok(Self { grpc: bind("grpc", grpc).await?, http: bind("http", http).await? })
    }

    /// Serves until `shutdown`, and then for the requests under way, five seconds at most.
    pub async fn serve(
        self,
        config: &Config,
        gates: &Gates,
        intake: Arc<Intake>,
        shutdown: impl Future<Output = ()>,
    ) {
        let Protocols { grpc, http } = &config.protocols;
        let times = TimesOfPorts {
            grpc: grpc.clone().unwrap_or_default().times(),
            http: http.clone().unwrap_or_default().times(),
        };
        self.serve_within(times, config, [gates.grpc.clone(), gates.http.clone()], intake, shutdown).await;
    }

    pub(super) async fn serve_within(
        self,
        times: TimesOfPorts,
        config: &Config,
        [grpc_gate, http_gate]: [Gate; 2],
        intake: Arc<Intake>,
        shutdown: impl Future<Output = ()>,
    ) {
        let limit = config.admission.request_limit.bytes();
        let (peers, lobby) =
            (Peers::new(intake.room().clone()), Arc::new(Lobby::new(limit / LOBBY / REQUEST)));
        let ratio = config.admission.max_decompression_ratio;
        // Its end is the signal that listeners and connections wait for.
        let (running, ended) = watch::channel(());
        let reception = |transport, gate: &Gate, times: &Times, limit| Reception {
            gate: gate.clone(),
            transport,
            intake: intake.clone(),
            lobby: lobby.clone(),
            watches: Watches::default(),
            ended: ended.clone(),
            arrival: times.arrival,
            limit,
            sender_attribute: config.sender_attribute.clone(),
        };
        let ports = usize::from(self.grpc.is_some()) + usize::from(self.http.is_some());
        let grpc = self.grpc.zip(config.protocols.grpc.as_ref()).map(|(listener, grpc)| {
            let reception = Arc::new(reception(Transport::Grpc, &grpc_gate, &times.grpc, grpc.limit(ratio)));
            let mut http2 = http2(&grpc_gate);
            grpc.adapt(&mut http2);
            let most = most_connections(grpc.max_connections, ports);
            let of_one = most_of_one_address(grpc.max_connections_per_address, most);
            let peers = peers.at(Transport::Grpc, of_one);
            let port = Port { listener, most, peers, gate: grpc_gate, http1: None, http2, times: times.grpc };
            port.serve(
                ended.clone(),
                move |request, client| grpc::answer(reception.clone(), request, client),
                grpc::unlooked,
            )
        });
        let http = self.http.zip(config.protocols.http.as_ref()).map(|(listener, http)| {
            let reception = reception(Transport::Http, &http_gate, &times.http, http.limit(ratio));
            let logs = Arc::new(LogsPort::new(http, reception));
            let most = most_connections(http.max_connections, ports);
            let port = Port {
                listener,
                most,
                peers: peers.at(Transport::Http, most_of_one_address(http.max_connections_per_address, most)),
                http2: http2(&http_gate),
                gate: http_gate,
                http1: Some(http.http1()),
                times: times.http,
            };
            port.serve(
                ended.clone(),
                move |request, client| logs.clone().answer(request, client),
                http::unlooked,
            )
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

fn http2(gate: &Gate) -> http2::Builder<TokioExecutor> {
    let window = if gate.keeps_waiting() { UNVERIFIED_WINDOW } else { WINDOW };
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PONG_WITHIN);
    http2
}

/// One port.
struct Port {
    listener: TcpListener,
    most: usize,
    peers: Doorway,
    gate: Gate,
    http1: Option<http1::Builder>,
    http2: http2::Builder<TokioExecutor>,
    times: Times,
}

impl Port {
    /// Serves until the other side of `ended` is dropped, and then its connections to their ends.
    async fn serve<A, F>(
        self,
        ended: watch::Receiver<()>,
        answer: A,
        deny: fn(&HeaderMap, Failure) -> Response<Answer>,
    ) where
        A: Fn(Request<Incoming>, Arc<Client>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = (Response<Answer>, Incoming)> + Send + 'static,
    {
        let Self { listener, most, peers, gate, http1, http2, times } = self;
        let crowd = Arc::new(Crowd::default());
        let turned_away = gate.turned_away.clone();
        let acceptor = Acceptor { listener, most, peers, turned_away, crowd: crowd.clone() };
        let terms = Arc::new(Terms { http1, http2, times, gate, crowd, ended });
        let shutdown = {
            let terms = terms.clone();
            async move { terms.ended().await }
        };
        let last =
            acceptor.run(|accepted| terms.clone().serve(accepted, answer.clone(), deny), shutdown).await;
        last.await;
    }
}
