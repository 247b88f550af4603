//! Authentication of senders, from a request's headers, before its body is read and before it takes request memory.
//!
//! Digests (`keyed`) are compared instead of secrets, so that the time it takes reveals nothing.

mod basic;
mod bearer;
pub mod config;
mod htpasswd;
mod keyed;
mod recent;
#[cfg(test)]
mod tests;
mod verifier;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::sleep;

use basic::Basic;
use bearer::Bearer;
use config::{AuthConfig, AuthenticatorConfig};
use verifier::Verifier;

use super::file::Unusable;
use super::work::run_blocking;
use crate::net::Origin;

/// Authenticates senders.
#[derive(Debug)]
pub(super) enum Authenticator {
    Bearer(Box<Bearer>),
    Basic(Box<Basic>),
}

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It has no credentials.
    Missing,
    /// Its credentials are wrong.
    Wrong,
    /// Its credentials cannot be verified now.
    Busy,
}

/// How often the files are checked for changes.
const LOOK: Duration = Duration::from_secs(1);

/// Opens all authenticators of `configs`, by name.
pub(super) fn open(
    configs: &BTreeMap<String, AuthenticatorConfig>,
) -> Result<BTreeMap<String, Arc<Authenticator>>, Unusable> {
    let verifier = Arc::new(Verifier::default());
    let opened = configs.iter().map(|(name, config)| {
        let at = format!("extensions.{name}");
        let authenticator = match config {
            AuthenticatorConfig::Bearer(config) => {
                Authenticator::Bearer(Box::new(Bearer::open(config, &at)?))
            }
            AuthenticatorConfig::Basic(config) => {
                Authenticator::Basic(Box::new(Basic::open(config, &at, verifier.clone())?))
            }
        };
        Ok((name.clone(), Arc::new(authenticator)))
    });
    opened.collect()
}

/// The authenticator that `config` names; `key` is the key of `config`.
pub(super) fn named(
    all: &BTreeMap<String, Arc<Authenticator>>,
    config: &AuthConfig,
    key: &str,
) -> Result<Arc<Authenticator>, Unusable> {
    all.get(&config.authenticator).cloned().ok_or_else(|| {
        let name = &config.authenticator;
        let problem = match name.as_str() {
            "" => "missing; name an extension, such as bearertokenauth or basicauth".to_owned(),
            _ => {
                format!("{name} is not there; define it under extensions, and name it in service.extensions")
            }
        };
        Unusable::new(format!("{key}.authenticator"), problem)
    })
}

impl Authenticator {
    /// The sender by these headers of a request from `origin`: a user name, or a part of the token's digest.
    pub(super) async fn identify(&self, headers: &HeaderMap, origin: Origin) -> Result<Arc<str>, Denied> {
        match self {
            Self::Bearer(bearer) => bearer.identify(headers),
            Self::Basic(basic) => basic.identify(headers, origin).await,
        }
    }

    #[cfg(test)]
    pub(super) async fn check(&self, headers: &HeaderMap, origin: Origin) -> Result<(), Denied> {
        self.identify(headers, origin).await.map(drop)
    }

    /// The message to a sender that is denied.
    pub(super) fn advice(&self, denied: Denied) -> String {
        let form = match self {
            Self::Bearer(bearer) => bearer.form(),
            Self::Basic(_) => "authorization: Basic BASE64".to_owned(),
        };
        match (denied, self) {
            (Denied::Missing, _) => {
                format!("no credentials were sent; send `{form}`, in SDKs by OTEL_EXPORTER_OTLP_HEADERS")
            }
            (Denied::Wrong, Self::Bearer(_)) => {
                format!("the token is not known; send a known one as `{form}`")
            }
            (Denied::Wrong, Self::Basic(_)) => {
                format!("name or password is wrong; send `{form}`, with NAME:PASSWORD in base64")
            }
            (Denied::Busy, _) => {
                "too many passwords are being verified; send the request again a little later".to_owned()
            }
        }
    }

    /// Whether a request may have to wait for its verification.
    pub(super) fn keeps_waiting(&self) -> bool {
        matches!(self, Self::Basic(_))
    }

    /// The value of HTTP's `WWW-Authenticate`.
    pub(super) fn challenge(&self) -> String {
        let scheme = match self {
            Self::Bearer(bearer) => bearer.scheme(),
            Self::Basic(_) => "Basic",
        };
        format!("{scheme} realm=\"forebay\"")
    }

    /// Reads its file if it has changed; see [`super::file::Watch::look`].
    fn look(&self) -> bool {
        match self {
            Self::Bearer(bearer) => bearer.look(),
            Self::Basic(basic) => basic.look(),
        }
    }

    /// Reads its file, and logs at once what cannot be used.
    pub(super) fn reload(&self) {
        while !self.look() {}
    }

    /// Checks its file for changes, forever.
    pub(super) async fn keep_fresh(&self) {
        let has_file = match self {
            Self::Bearer(bearer) => bearer.has_file(),
            Self::Basic(basic) => basic.has_file(),
        };
        if !has_file {
            return;
        }
        loop {
            sleep(LOOK).await;
            run_blocking(|| self.look());
        }
    }
}
