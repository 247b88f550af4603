//! TLS at a port, by rustls.
//!
//! The files are read again every `reload_interval` and at SIGHUP. New connections get the new certificate; if it cannot be used, the
//! previous one stays in force. A connection is asked to close once its client's certificate is no longer trusted.

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
    /// Its key in the configuration.
    key: String,
    /// The protocols inside TLS.
    alpn: &'static [&'static str],
    in_force: RwLock<Arc<Served>>,
    /// Notified when the authorities for clients change.
    asks_others: watch::Sender<()>,
    /// Watches the files.
    watch: Watch,
}

/// The wait before reading files again that could not be used.
const SOON: Duration = Duration::from_secs(1);
/// The longest wait before checking a client's certificate again.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Tls {
    /// Reads the files of `config`, the value of `key`. `alpn` has the protocols inside TLS, the preferred one first.
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

    /// The problem with the dates of the certificate in force, if any.
    pub(super) fn outdated(&self) -> Option<String> {
        self.in_force().outdated().map(|what| format!("{}: the certificate {what}", self.key))
    }

    /// Checks the files for changes at the configured interval, forever.
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

    /// Applies changes of the files, and logs at once what cannot be used.
    pub(super) fn reload(&self) {
        while !self.look() {}
    }

    /// Applies the files if they have changed; see [`Watch::look`].
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
            warn!(key, "the new certificate {what}; the previous one stays in force");
            return;
        }
        info!(key = self.key, valid_until = served.valid_until(), "a new certificate is in force");
        let asks_others = !served.asks_as(&before);
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
        if asks_others {
            self.asks_others.send_replace(());
        }
    }

    /// Waits until a client with these certificates would no longer be accepted.
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
