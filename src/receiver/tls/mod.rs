//! TLS at a port, by rustls: who has no certificate that is asked for, or does not speak TLS, comes no further.
//!
//! The files are read again while forebay runs, every `reload_interval` and at SIGHUP. Connections that are there keep what
//! they began with, new ones get the new certificate; where it cannot be used, the one before stays in force. A client whose
//! certificate would not be taken any more is told to go.

mod accept;
pub mod config;
mod pem;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

pub(super) use accept::{Presented, Refused};
use config::TlsConfig;
use pem::{Pem, Served};

use super::file::{Unusable, Watch};
use super::work::run_blocking;

/// TLS at one port.
#[derive(Debug)]
pub struct Tls {
    config: TlsConfig,
    /// Where the configuration has it.
    key: String,
    /// The protocols in it.
    alpn: &'static [&'static str],
    in_force: RwLock<Arc<Served>>,
    /// Told when others are asked for certificates than before.
    asks_others: watch::Sender<()>,
    /// Of the files.
    watch: Watch,
}

/// When what could not be used is looked at again.
const SOON: Duration = Duration::from_secs(1);
/// When a client's certificate is looked at again, though nothing has changed.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Tls {
    /// Reads what `config` names, which stands at `key`. `alpn` is spoken inside, the best first.
    pub fn open(config: &TlsConfig, key: &str, alpn: &'static [&'static str]) -> Result<Self, Unusable> {
        let pem = Pem::read(config, key)?;
        let served = pem.serve(config.min_version, alpn)?;
        Ok(Self {
            config: config.clone(),
            key: key.to_owned(),
            alpn,
            in_force: RwLock::new(Arc::new(served)),
            asks_others: watch::Sender::new(()),
            watch: Watch::new(pem.fingerprint()),
        })
    }

    /// Whether clients must have a certificate.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.config.client_ca_file.is_some() || self.config.client_ca_pem.is_some()
    }

    /// What is wrong with the dates of the certificate in force.
    pub(super) fn outdated(&self) -> Option<String> {
        self.in_force().outdated().map(|what| format!("{}: the certificate {what}", self.key))
    }

    /// Looks at the files again and again, as often as the configuration says.
    pub(super) async fn keep_fresh(&self) {
        let interval = self.config.reload_interval.0;
        if interval.is_zero() {
            return;
        }
        let mut settled = true;
        loop {
            sleep(if settled { interval } else { interval.min(SOON) }).await;
            settled = run_blocking(|| self.look());
        }
    }

    /// Takes the files over, and tells at once what cannot be used.
    pub(super) fn reload(&self) {
        while !self.look() {}
    }

    /// Takes the files over where they have changed; see [`Watch::look`].
    fn look(&self) -> bool {
        let pem = Pem::read(&self.config, &self.key).map(|pem| (pem.fingerprint(), pem));
        self.watch.look(pem, |pem, _| {
            self.put_in_force(pem.serve(self.config.min_version, self.alpn)?);
            Ok(())
        })
    }

    fn put_in_force(&self, served: Served) {
        let before = self.in_force();
        if let (Some(what), None) = (served.outdated(), before.outdated()) {
            let key = &self.key;
            warn!(key, "the new certificate {what}; the one before stays in force");
            return;
        }
        info!(key = self.key, valid_until = served.valid_until(), "a new certificate is in force");
        let asks_others = !served.asks_as(&before);
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
        if asks_others {
            self.asks_others.send_replace(());
        }
    }

    /// Waits until a client that is known by these certificates would not get a connection any more.
    pub(super) async fn distrusts(&self, presented: &Presented) {
        let mut asks_others = self.asks_others.subscribe();
        while self.in_force().trusts(presented) {
            let expired = sleep(presented.remains().map_or(LONGEST, |remains| (remains + SOON).min(LONGEST)));
            tokio::select! {
                () = expired => {}
                _ = asks_others.changed() => {}
            }
        }
    }

    fn in_force(&self) -> Arc<Served> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
