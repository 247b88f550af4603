//! One port: TLS, if configured, and the requests inside.

use std::sync::Arc;

use ::http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::warn;

use super::answer::{Failure, FailureKind};
use super::body::Answer;
use super::client::{AddressRooms, Client};
use super::reception::Reception;
use super::tls;
use super::turned_away::TurnedAwayReason;
use crate::net::{self, Limits, MAX_HEADERS, Refused, Service};

/// The protocol of a port.
pub(super) trait Protocol: Send + Sync + 'static {
    fn reception(&self) -> &Reception;

    /// Answers any request, and returns the unread rest of its body.
    fn answer(
        &self,
        request: Request<Incoming>,
        client: &Client,
    ) -> impl Future<Output = (Response<Answer>, Incoming)> + Send;

    /// The answer with `failure` to a request with these headers.
    fn refuse(&self, headers: &HeaderMap, failure: Failure) -> Response<Answer>;
}

pub(super) struct Port<P> {
    net: net::Port,
    protocol: P,
    rooms: Arc<AddressRooms>,
}

/// The requests of one connection.
struct Requests<P> {
    port: Arc<Port<P>>,
    client: Arc<Client>,
    /// Whether they are in plain text at a port with TLS.
    lacks_tls: bool,
}

/// For clients of another protocol, mostly exporters set to `http/protobuf` at the gRPC port.
const NOT_HTTP2: &str = "HTTP/1.1 415 Unsupported Media Type\r\n\
     content-type: text/plain; charset=utf-8\r\n\
     connection: close\r\n\r\n\
     this port takes OTLP/gRPC only; set the exporter's protocol to grpc (OTEL_EXPORTER_OTLP_PROTOCOL=grpc), or its \
     endpoint to a port that takes OTLP/HTTP\n";
/// For clients that speak neither TLS nor HTTP/2 to a gRPC port with TLS.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\n\
     content-type: text/plain; charset=utf-8\r\n\
     connection: close\r\n\r\n\
     this port speaks TLS only; begin the exporter's endpoint with https://\n";
/// The advice for clients with plain text, with TLS, and without gRPC.
const SPEAK_TLS: &str = "begin the exporter's endpoint with https:// (and leave out `insecure`)";
const SPEAK_PLAIN_TEXT: &str =
    "begin the exporter's endpoint with http://, or give forebay a certificate by `tls` of this protocol";
const SPEAK_GRPC: &str = "set the exporter's protocol to grpc (OTEL_EXPORTER_OTLP_PROTOCOL=grpc), or its endpoint to a port that \
     takes OTLP/HTTP";

impl<P: Protocol> Port<P> {
    pub(super) fn new(
        protocol: P,
        limits: Limits,
        rooms: Arc<AddressRooms>,
        ended: watch::Receiver<()>,
    ) -> Arc<Self> {
        Arc::new(Self { net: net::Port::new(limits, ended), protocol, rooms })
    }

    /// Serves until the shutdown, and then the open connections until they end.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let refused = |address, refused: Refused<'_>| match refused {
            Refused::AddressFull(most) => {
                let why = format!("the limit is {most}");
                let turned_away = &self.protocol.reception().gate.turned_away;
                turned_away.count(TurnedAwayReason::TooManyConnections, Some(address), &why);
            }
            Refused::PortFull(connections) => {
                warn!(connections, "the connection limit is reached; new ones wait");
            }
            _ => {}
        };
        self.net.listen(listener, refused, |stream, peer| self.clone().connection(stream, peer)).await;
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: net::Client) {
        let client = Arc::new(Client::new(peer, &self.rooms));
        let mut requests = Requests { port: self.clone(), client: client.clone(), lacks_tls: false };
        let gate = &self.protocol.reception().gate;
        let (address, peer) = (Some(client.peer.address), &client.peer);
        let Some(tls) = &gate.tls else {
            return self.net.serve(stream, peer, &requests).await;
        };
        // Boxed, so that connections without TLS take no memory for it.
        match self.net.opening(peer, Box::pin(tls.accept(stream))).await {
            None => {}
            Some(Ok(Ok((stream, presented)))) => {
                presented.into_iter().for_each(|presented| drop(client.presented.set(presented)));
                Box::pin(self.net.serve(stream, peer, &requests)).await;
            }
            Some(Ok(Err(tls::Refused::PlainText(stream)))) => {
                gate.turned_away.count(TurnedAwayReason::PlainText, address, &SPEAK_TLS);
                requests.lacks_tls = true;
                Box::pin(self.net.serve(stream, peer, &requests)).await;
            }
            Some(Ok(Err(refused))) => gate.refused(&refused, address),
            Some(Err(given)) => {
                let given = format!("the limit is {given:?}");
                gate.turned_away.count(TurnedAwayReason::HandshakeTimeout, address, &given);
            }
        }
    }
}

impl<P: Protocol> Service for Requests<P> {
    type Body = Answer;

    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = (Response<Answer>, Incoming)> + Send + 'static + use<P> {
        let (port, client, lacks_tls) = (self.port.clone(), self.client.clone(), self.lacks_tls);
        async move {
            if lacks_tls {
                let message = format!("this port speaks TLS only; {SPEAK_TLS}");
                let failure = Failure::new(FailureKind::PlainText, message);
                return (port.protocol.refuse(request.headers(), failure), request.into_body());
            }
            port.protocol.answer(request, &client).await
        }
    }

    fn refused(&self, refused: Refused<'_>) {
        let (reason, why) = match refused {
            Refused::Tls => (TurnedAwayReason::Tls, SPEAK_PLAIN_TEXT.to_owned()),
            Refused::NotHttp2 if !self.lacks_tls => (TurnedAwayReason::NotGrpc, SPEAK_GRPC.to_owned()),
            Refused::HeadersTooLarge => (
                TurnedAwayReason::HeadersTooLarge,
                format!("its headers are larger than {} KiB", MAX_HEADERS >> 10),
            ),
            Refused::NotHttp(error) => {
                let cure = "if a load balancer is in front, turn off its PROXY protocol";
                (TurnedAwayReason::NotHttp, format!("{error}; {cure}"))
            }
            Refused::NotHttp2 | Refused::PortFull(_) | Refused::AddressFull(_) => return,
        };
        self.port.protocol.reception().gate.turned_away.count(reason, Some(self.client.peer.address), &why);
    }

    fn otherwise(&self) -> &'static str {
        if self.lacks_tls { NOT_TLS } else { NOT_HTTP2 }
    }

    /// Waits until the client's certificate is no longer trusted.
    async fn has_enough(&self) {
        match self.port.protocol.reception().gate.tls.as_ref().zip(self.client.presented.get()) {
            Some((tls, presented)) => tls.distrusts(presented).await,
            None => std::future::pending().await,
        }
    }
}
