//! One bounded HTTP server: for OTLP, for health and metrics, and for whatever is served by HTTP next.
//!
//! Everything that a client could take has a bound: connections in all and from one address ([`Port::listen`]), the time
//! that each part of a connection takes ([`Timeouts`]), the bytes that are read ahead. Where a place is needed, an idle
//! connection is asked to go. At the shutdown the listener closes, requests under way are answered, and what is left after
//! a grace is cut.
//!
//! A [`Service`] answers the requests of one connection. What is spoken before HTTP, such as TLS, is the caller's: it has a
//! stream of its own served by [`Port::serve`], and waits for the beginning of that in [`Port::opening`].
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

/// A port: the limits of its connections, and those that are there.
pub struct Port {
    limits: Limits,
    http1: Option<http1::Builder>,
    http2: Option<http2::Builder<TokioExecutor>>,
    /// All of its connections.
    crowd: Arc<Crowd>,
    ended: watch::Receiver<()>,
}

/// Has `service` answer the requests of all connections to `listener` until `shutdown`, and then those under way.
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
    /// One with these limits, until the other side of `ended` is dropped.
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
