//! Connecting: to one address after the other, with a bound for each.
//!
//! tokio-postgres bounds how long a TCP connection may take, and nothing behind it: a host that takes the connection and
//! then says nothing (a frozen server, a proxy with nothing behind it) would keep all others from their turn for ever.
//! Here the bound is on all of it, as libpq's `connect_timeout` is: a session that can write is there by then, or the next
//! address has its turn. Whoever took us last is asked first, and whoever kept us waiting last.

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
    /// What an address may take.
    each: Duration,
    /// Where the next turn begins, counted around the addresses.
    next: AtomicUsize,
    random: bool,
}

type Connected = Result<(Client, JoinHandle<()>), Error>;

impl Connector {
    /// A connector to the hosts of `target`, which takes `tls` there.
    pub(crate) fn new(target: Target, tls: Encrypting) -> Self {
        Self {
            one: ConfigConnectImpl { tls },
            each: target.connect_timeout(),
            next: AtomicUsize::new(0),
            random: target.is_random(),
            target,
        }
    }

    /// Goes around the addresses until one takes us, or until all have had their turn and somebody has said why not.
    /// Where nobody says anything it goes on for as long as the pool has patience.
    async fn connect(&self) -> Connected {
        let addresses = self.addresses().await;
        let first = if self.random { fastrand::usize(..addresses.len()) } else { self.next() };
        let (mut refusal, mut turn) = (None, first);
        loop {
            // Whoever ends this wait, the next one begins behind the one that was waited for.
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

    fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Every address of every host, looked up anew, since names move and passwords change.
    async fn addresses(&self) -> Vec<Config> {
        let mut addresses = Vec::new();
        for host in self.target.each_host() {
            addresses.extend(self.addresses_of(&host).await);
        }
        addresses
    }

    /// The addresses of a host with one name. What has none to look up, or cannot be looked up, is left to
    /// tokio-postgres, which says why.
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
