//! TLS at a port, by rustls: who has no certificate that is asked for, or does not speak TLS, comes no further.
//!
//! The files are read again while forebay runs, by [`Tls::look`]. Connections that are there keep what they began with,
//! new ones get the new certificate; where it cannot be used, the one before stays in force.

mod accept;
pub mod config;
mod pem;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

pub(super) use accept::{HANDSHAKE, Refused};
use config::TlsConfig;
use pem::{Pem, Served};

use super::file::{Unusable, aside};

/// TLS at one port.
#[derive(Debug)]
pub struct Tls {
    config: TlsConfig,
    /// Where the configuration has it.
    key: String,
    /// The protocols in it.
    alpn: &'static [&'static str],
    in_force: RwLock<Arc<Served>>,
    seen: Mutex<Seen>,
}

/// What the files were when they were last looked at.
#[derive(Debug)]
struct Seen {
    /// A fingerprint, or why there is none.
    files: Result<[u8; 32], String>,
    /// Why they cannot be used, until it is told: certificate and key may have been replaced one after the other, with
    /// this look between.
    untold: Option<Unusable>,
}

/// When what could not be used is looked at again.
const SOON: Duration = Duration::from_secs(1);

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
            seen: Mutex::new(Seen { files: Ok(pem.fingerprint()), untold: None }),
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
            return std::future::pending().await;
        }
        let mut settled = true;
        loop {
            sleep(if settled { interval } else { interval.min(SOON) }).await;
            settled = aside(|| self.look());
        }
    }

    /// Takes the files over, and tells at once what cannot be used.
    pub(super) fn reload(&self) {
        while !self.look() {}
    }

    /// Takes the files over where they have changed. What cannot be used changes nothing; it is told when it has not
    /// changed by the next look. Gives whether there is no need for that.
    fn look(&self) -> bool {
        let pem = Pem::read(&self.config, &self.key);
        let files = pem.as_ref().map(Pem::fingerprint).map_err(ToString::to_string);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.files == files {
            if let Some(error) = seen.untold.take() {
                warn!(%error, "changed files of TLS cannot be used; what was read before stays in force");
            }
            return true;
        }
        let served = pem.and_then(|pem| pem.serve(self.config.min_version, self.alpn));
        *seen = Seen { files, untold: None };
        match served {
            Ok(served) => self.put_in_force(served),
            Err(error) => seen.untold = Some(error),
        }
        seen.untold.is_none()
    }

    fn put_in_force(&self, served: Served) {
        let before = self.in_force();
        if let (Some(what), None) = (served.outdated(), before.outdated()) {
            let key = &self.key;
            warn!(key, "the new certificate {what}; the one before stays in force");
            return;
        }
        info!(key = self.key, valid_until = served.valid_until(), "a new certificate is in force");
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
    }

    fn in_force(&self) -> Arc<Served> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
