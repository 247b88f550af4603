//! Connecting to one address after the other, each with a time limit.
//!
//! tokio-postgres limits only the TCP connection. A host that accepts it and then stays silent (a frozen server, a proxy
//! without a server) would block all other addresses for ever. Here the limit covers everything, as libpq's
//! `connect_timeout` does: without a writable session by then, the next address is tried. The address that worked last is
//! tried first, and one that kept us waiting is tried last.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::{ConfigConnectImpl, Connect};
use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Error};

use super::dsn::Target;
use super::tls::Encrypting;

/// Connects to any of a target's addresses.
pub(crate) struct Connector {
    one: ConfigConnectImpl<Encrypting>,
    target: Target,
    /// The time limit for one address.
    each: Duration,
    /// The index of the address to try next, modulo their number.
    next: AtomicUsize,
    random: bool,
}

type Connected = Result<(Client, JoinHandle<()>), Error>;

impl Connector {
    /// A connector to the hosts of `target`, with `tls`.
    pub(crate) fn new(target: Target, tls: Encrypting) -> Self {
        Self {
            one: ConfigConnectImpl { tls },
            each: target.connect_timeout(),
            next: AtomicUsize::new(0),
            random: target.is_random(),
            target,
        }
    }

    /// Tries the addresses in turn until one accepts us, or until all were tried and at least one gave an error.
    /// If all stay silent, it goes on until the pool's timeout.
    async fn connect(&self) -> Connected {
        let addresses = self.addresses().await;
        let next = self.next.load(Ordering::Relaxed);
        let first = if self.random { fastrand::usize(..addresses.len()) } else { next };
        let (mut refusal, mut turn) = (None, first);
        loop {
            // If this wait is cancelled, the next attempt begins with the next address.
            self.next.store(turn.wrapping_add(1), Ordering::Relaxed);
            match timeout(self.each, self.one.connect(&addresses[turn % addresses.len()])).await {
                Ok(Ok(connected)) => {
                    self.next.store(turn, Ordering::Relaxed);
                    return Ok(connected);
                }
                Ok(Err(error)) => refusal = Some(error),
                Err(_) => {}
            }
            turn = turn.wrapping_add(1);
            if turn.wrapping_sub(first) >= addresses.len()
                && let Some(error) = refusal.take()
            {
                return Err(error);
            }
        }
    }

    /// Every address of every host, looked up each time, since DNS entries and passwords change.
    async fn addresses(&self) -> Vec<Config> {
        let mut addresses = Vec::new();
        for host in self.target.each_host() {
            addresses.extend(self.addresses_of(&host).await);
        }
        addresses
    }

    /// The addresses of one host. If it needs no lookup, or the lookup fails, it stays as it is: tokio-postgres then
    /// reports the reason.
    async fn addresses_of(&self, host: &Config) -> Vec<Config> {
        let ([Host::Tcp(name)], []) = (host.get_hosts(), host.get_hostaddrs()) else {
            return vec![host.clone()];
        };
        let found = timeout(self.each, lookup_host((name.as_str(), 0))).await;
        let at = |ip| {
            let mut address = host.clone();
            address.hostaddr(ip);
            address
        };
        let found: Vec<_> = match found {
            Ok(Ok(found)) => found.map(|socket| at(socket.ip())).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        if found.is_empty() { vec![host.clone()] } else { found }
    }
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        Box::pin(self.connect())
    }
}
