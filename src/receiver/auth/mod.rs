//! Who may send: asked when a request's headers are there, before its body is read and before it takes any room.
//!
//! What is compared are digests (`keyed`), so that the time it takes tells nothing, whichever of many secrets it is.

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

/// Knows who may send.
#[derive(Debug)]
pub(super) struct Authenticator {
    knows: Knows,
}

#[derive(Debug)]
enum Knows {
    Bearer(Box<Bearer>),
    Basic(Box<Basic>),
}

/// Why a request may not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It says nothing of who sends it.
    Missing,
    /// Nobody is known by what it says.
    Wrong,
    /// What it says cannot be verified now.
    Busy,
}

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// All that `configs` has, by their names.
pub(super) fn open(
    configs: &BTreeMap<String, AuthenticatorConfig>,
) -> Result<BTreeMap<String, Arc<Authenticator>>, Unusable> {
    let verifier = Arc::new(Verifier::default());
    let opened = configs.iter().map(|(name, config)| {
        let at = format!("extensions.{name}");
        let knows = match config {
            AuthenticatorConfig::Bearer(config) => Knows::Bearer(Box::new(Bearer::open(config, &at)?)),
            AuthenticatorConfig::Basic(config) => {
                Knows::Basic(Box::new(Basic::open(config, &at, verifier.clone())?))
            }
        };
        Ok((name.clone(), Arc::new(Authenticator { knows })))
    });
    opened.collect()
}

/// The one that `config`, which stands at `key`, names.
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
    /// By which name a request with these headers may be sent from `origin`: that of the user, or a part of the token's digest.
    pub(super) async fn identify(&self, headers: &HeaderMap, origin: Origin) -> Result<Arc<str>, Denied> {
        match &self.knows {
            Knows::Bearer(bearer) => bearer.identify(headers),
            Knows::Basic(basic) => basic.identify(headers, origin).await,
        }
    }

    /// Whether it may be sent at all.
    #[cfg(test)]
    pub(super) async fn check(&self, headers: &HeaderMap, origin: Origin) -> Result<(), Denied> {
        self.identify(headers, origin).await.map(drop)
    }

    /// What a sender that is denied is told.
    pub(super) fn advice(&self, denied: Denied) -> String {
        match (denied, &self.knows) {
            (Denied::Missing, Knows::Bearer(bearer)) => {
                let (form, sdk) = (bearer.form(), "in SDKs by OTEL_EXPORTER_OTLP_HEADERS");
                format!("nothing says who sends this; a token is sent as `{form}`, {sdk}")
            }
            (Denied::Missing, Knows::Basic(_)) => {
                let sdk = "in SDKs by OTEL_EXPORTER_OTLP_HEADERS";
                format!("nothing says who sends this; it is sent as `authorization: Basic BASE64`, {sdk}")
            }
            (Denied::Wrong, Knows::Bearer(bearer)) => {
                format!("the token is not known; one that is known is sent as `{}`", bearer.form())
            }
            (Denied::Wrong, Knows::Basic(_)) => {
                "name or password is wrong; they are sent as `authorization: Basic BASE64`, which is of NAME:PASSWORD"
                    .to_owned()
            }
            (Denied::Busy, _) => {
                "too many passwords are being verified; send the request again a little later".to_owned()
            }
        }
    }

    /// Whether a request may have to wait for its turn.
    pub(super) fn keeps_waiting(&self) -> bool {
        matches!(self.knows, Knows::Basic(_))
    }

    /// `WWW-Authenticate` of HTTP.
    pub(super) fn challenge(&self) -> String {
        let scheme = match &self.knows {
            Knows::Bearer(bearer) => bearer.scheme(),
            Knows::Basic(_) => "Basic",
        };
        format!("{scheme} realm=\"forebay\"")
    }

    /// Reads its file where that has changed; see [`super::file::Watch::look`].
    fn look(&self) -> bool {
        match &self.knows {
            Knows::Bearer(bearer) => bearer.look(),
            Knows::Basic(basic) => basic.look(),
        }
    }

    /// Reads its file, and tells at once what cannot be used.
    pub(super) fn reload(&self) {
        while !self.look() {}
    }

    /// Looks at its file again and again.
    pub(super) async fn keep_fresh(&self) {
        let has_file = match &self.knows {
            Knows::Bearer(bearer) => bearer.has_file(),
            Knows::Basic(basic) => basic.has_file(),
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
