//! A bounded HTTP server for OTLP, health and metrics.
//!
//! Every resource that a client could exhaust has a limit: connections in all and from one address ([`Port::listen`]), the time of
//! each phase of a connection ([`Timeouts`]), the bytes read ahead. At the limit, an idle connection is asked to close. At the
//! shutdown the listener closes, requests in flight are answered, and connections left after a grace period are cut.
//!
//! A [`Service`] answers the requests of one connection. The caller speaks the protocols below HTTP, such as TLS: it waits for their
//! handshake in [`Port::opening`] and passes the stream to [`Port::serve`].
//!
//! Only this module names hyper's servers.

mod activity;
mod addresses;
mod client;
mod connection;
mod crowd;
mod limits;
mod listener;
mod opening;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use addresses::Origin;
pub use client::Client;
pub use connection::{Refused, Service};
pub use limits::{Http1, Http2, Limits, MAX_HEADERS, Timeouts, most_connections, most_of_one_address};
pub use opening::TLS_HANDSHAKE;

use crowd::Crowd;

/// A port: its limits and its open connections.
pub struct Port {
    limits: Limits,
    http1: Option<http1::Builder>,
    http2: Option<http2::Builder<TokioExecutor>>,
    crowd: Arc<Crowd>,
    ended: watch::Receiver<()>,
}

/// Has `service` answer the requests of all connections to `listener` until `shutdown`, and then those in flight.
pub async fn serve<S>(limits: Limits, listener: TcpListener, service: S, shutdown: impl Future<Output = ()>)
where
    S: Service + Send + 'static,
{
    let (running, ended) = watch::channel(());
    let served = Arc::new((Port::new(limits, ended), service));
    let shutdown = async {
        shutdown.await;
        drop(running);
    };
    let connection = |stream, client| {
        let served = served.clone();
        async move { served.0.serve(stream, &client, &served.1).await }
    };
    tokio::join!(shutdown, served.0.listen(listener, |_, _| {}, connection));
}

impl Port {
    /// A port with these limits. It shuts down when the sender of `ended` is dropped.
    pub fn new(limits: Limits, ended: watch::Receiver<()>) -> Self {
        let (http1, http2) =
            (limits.http1.as_ref().map(Http1::builder), limits.http2.as_ref().map(Http2::builder));
        Self { limits, http1, http2, crowd: Arc::default(), ended }
    }

    /// Waits for the shutdown.
    async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}
