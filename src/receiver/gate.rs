//! The gate of a port: TLS and authentication.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderValue;

use super::answer::{Failure, FailureKind};
use super::auth::config::AuthConfig;
use super::auth::{self, Authenticator, Denied};
use super::client::Client;
use super::file::Unusable;
use super::intake::retry_after;
use super::tls::config::TlsConfig;
use super::tls::{Refused, Tls};
use super::turned_away::{TurnedAway, TurnedAwayReason};

/// TLS and authentication of one port.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) authenticator: Option<Arc<Authenticator>>,
    pub(super) turned_away: Arc<TurnedAway>,
}

/// Why a request is not admitted.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) failure: Failure,
    /// The value of HTTP's `WWW-Authenticate`.
    pub(super) challenge: Option<HeaderValue>,
}

impl Gate {
    /// A gate without TLS and authentication for the port of `transport`.
    pub(super) fn open_to_all(transport: &'static str) -> Self {
        Self { tls: None, authenticator: None, turned_away: Arc::new(TurnedAway::new(transport)) }
    }

    /// A gate as the configuration of `transport` says, with the protocols `alpn` inside TLS.
    pub(super) fn open(
        transport: &'static str,
        alpn: &'static [&'static str],
        tls: Option<&TlsConfig>,
        auth: Option<&AuthConfig>,
        authenticators: &BTreeMap<String, Arc<Authenticator>>,
    ) -> Result<Self, Unusable> {
        let key = |name| format!("receivers.otlp.protocols.{transport}.{name}");
        let tls = tls.map(|config| Tls::open(config, &key("tls"), alpn)).transpose()?;
        let authenticator =
            auth.map(|config| auth::named(authenticators, config, &key("auth"))).transpose()?;
        Ok(Self { tls: tls.map(Arc::new), authenticator, ..Self::open_to_all(transport) })
    }

    /// A gate with a self-signed certificate.
    #[cfg(test)]
    pub(super) fn with_tls() -> Self {
        use crate::values::secret::Secret;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls = TlsConfig {
            cert_pem: Some(Secret::new(made.cert.pem())),
            key_pem: Some(Secret::new(made.signing_key.serialize_pem())),
            ..TlsConfig::default()
        };
        Self::open("grpc", &["h2"], Some(&tls), None, &BTreeMap::new()).unwrap()
    }

    /// A gate that accepts the token `right`.
    #[cfg(test)]
    pub(super) fn with_token() -> Self {
        use super::auth::config::{AuthenticatorConfig, BearerConfig};
        let token = Some(crate::values::secret::Secret::new("right"));
        let config = AuthenticatorConfig::Bearer(BearerConfig { token, ..BearerConfig::default() });
        let known = auth::open(&BTreeMap::from([("it".to_owned(), config)])).unwrap();
        let auth = AuthConfig { authenticator: "it".to_owned() };
        Self::open("grpc", &[], None, Some(&auth), &known).unwrap()
    }

    /// Admits a request from `client` by its headers, and returns the sender's name, if known.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        client: &Client,
    ) -> Result<Option<Arc<str>>, Denial> {
        let Some(authenticator) = &self.authenticator else {
            client.peer.admitted();
            return Ok(client.presented.get().and_then(|presented| presented.name.clone()));
        };
        let denied = match authenticator.identify(headers, client.peer.origin).await {
            Ok(sender) => {
                client.peer.admitted();
                return Ok(Some(sender));
            }
            Err(denied) => denied,
        };
        let reason = match denied {
            Denied::Missing => TurnedAwayReason::NoCredentials,
            Denied::Wrong => TurnedAwayReason::WrongCredentials,
            Denied::Busy => TurnedAwayReason::VerifierBusy,
        };
        let message = authenticator.advice(denied);
        self.turned_away.count(reason, Some(client.peer.address), &message);
        if denied != Denied::Busy {
            client.peer.denied();
        }
        Err(match denied {
            Denied::Missing | Denied::Wrong => Denial {
                failure: Failure::new(FailureKind::Denied, message),
                challenge: HeaderValue::try_from(authenticator.challenge()).ok(),
            },
            Denied::Busy => Denial {
                failure: Failure {
                    kind: FailureKind::Unavailable,
                    message,
                    retry_after: Some(retry_after()),
                },
                challenge: None,
            },
        })
    }

    /// Counts a failed handshake.
    pub(super) fn refused(&self, refused: &Refused, peer: Option<SocketAddr>) {
        let (reason, why): (_, &dyn Display) = match refused {
            // A client that has disconnected was not turned away; the caller still serves plain text.
            Refused::Gone | Refused::PlainText(_) => return,
            Refused::ClientCertificate(error) => (TurnedAwayReason::ClientCertificate, error),
            Refused::Handshake(error) => (TurnedAwayReason::Handshake, error),
        };
        self.turned_away.count(reason, peer, why);
    }

    /// Whether requests may wait for the verification of their credentials.
    pub(super) fn keeps_waiting(&self) -> bool {
        self.authenticator.as_ref().is_some_and(|authenticator| authenticator.keeps_waiting())
    }

    /// Whether it authenticates senders.
    pub(super) fn asks_who_is_there(&self) -> bool {
        self.authenticator.is_some() || self.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates())
    }
}
