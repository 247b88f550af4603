//! What stands before each port: TLS, and the question who is there.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use opentelemetry::metrics::Meter;
use tracing::warn;

use super::config::{Config, GrpcConfig};
use super::file::{Unusable, aside};
use super::tls::{Refused, Tls};
use super::turned_away::{self, Reason, TurnedAway};

/// What stands before one port.
#[derive(Clone, Debug)]
pub struct Gate {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) turned_away: Arc<TurnedAway>,
}

/// The gates of all ports, with the files that they are made of.
#[derive(Debug)]
pub struct Gates {
    /// Before OTLP/gRPC.
    pub grpc: Gate,
    warnings: Warnings,
}

/// What is not wrong, and may not be meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    certificate: Option<String>,
    clear_text: Option<String>,
    anybody: Option<String>,
}

const GRPC: &str = "receivers.otlp.protocols.grpc";

impl Gate {
    /// One that lets everybody in.
    #[cfg(test)]
    pub(super) fn open_to_all() -> Self {
        Self { tls: None, turned_away: Arc::new(TurnedAway::new("grpc")) }
    }

    /// One with a certificate that is made for it.
    #[cfg(test)]
    pub(super) fn with_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut config = GrpcConfig::default();
        let tls = config.tls.get_or_insert_default();
        tls.cert_pem = Some(crate::secret::Secret::new(made.cert.pem()));
        tls.key_pem = Some(crate::secret::Secret::new(made.signing_key.serialize_pem()));
        Self::grpc(&config).unwrap()
    }

    fn grpc(config: &GrpcConfig) -> Result<Self, Unusable> {
        let tls = config.tls.as_ref().map(|tls| Tls::open(tls, &format!("{GRPC}.tls"), &["h2"]));
        Ok(Self { tls: tls.transpose()?.map(Arc::new), turned_away: Arc::new(TurnedAway::new("grpc")) })
    }

    /// Counts a handshake that came to nothing.
    pub(super) fn refused(&self, refused: &Refused, peer: Option<SocketAddr>) {
        let (reason, why): (_, &dyn Display) = match refused {
            // What has gone away has not been turned away, and plain text is still there.
            Refused::Gone | Refused::PlainText(_) => return,
            Refused::ClientCertificate(error) => (Reason::ClientCertificate, error),
            Refused::Handshake(error) => (Reason::Handshake, error),
        };
        self.turned_away.count(reason, peer, why);
    }

    fn asks_who_is_there(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates())
    }
}

impl Gates {
    /// Reads all files that `config` names.
    pub fn open(config: &Config) -> Result<Self, Unusable> {
        let grpc = Gate::grpc(&config.protocols.grpc)?;
        let warnings = Warnings::about(&[(GRPC, &config.protocols.grpc.endpoint, &grpc)]);
        Ok(Self { grpc, warnings })
    }

    /// What an operator should know before anything is sent.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Shows what is turned away.
    pub fn observe(&self, meter: &Meter) {
        turned_away::observe(vec![self.grpc.turned_away.clone()], meter);
    }

    /// Takes over what has changed in the files, at once.
    pub fn reload(&self) {
        if let Some(tls) = &self.grpc.tls {
            aside(|| tls.reload());
        }
    }

    /// Takes over what changes in the files, as long as it is polled.
    pub async fn keep_fresh(&self) {
        match &self.grpc.tls {
            Some(tls) => tls.keep_fresh().await,
            None => std::future::pending().await,
        }
    }
}

impl Warnings {
    /// About ports: where their configuration stands, where they listen, and what stands before them.
    fn about(ports: &[(&str, &str, &Gate)]) -> Self {
        let dates = ports.iter().filter_map(|(_, _, gate)| gate.tls.as_ref()?.outdated()).collect::<Vec<_>>();
        let far: Vec<_> = ports.iter().filter(|(_, endpoint, _)| !is_loopback(endpoint)).collect();
        let keys = |name: &str, lacks: fn(&Gate) -> bool| {
            let lacking = far.iter().filter(|(_, _, gate)| lacks(gate));
            let keys =
                lacking.map(|(key, endpoint, _)| format!("`{key}.{name}` ({endpoint})")).collect::<Vec<_>>();
            (!keys.is_empty()).then(|| keys.join(" and "))
        };
        Self {
            certificate: (!dates.is_empty()).then(|| dates.join("; ")),
            clear_text: keys("tls", |gate| gate.tls.is_none()).map(|keys| {
                format!(
                    "what is sent to other addresses than loopback is not encrypted; TLS is set by {keys}"
                )
            }),
            anybody: keys("auth", |gate| !gate.asks_who_is_there()).map(|keys| {
                format!(
                    "whoever reaches the port may send; who may is set by {keys}, or by tls.client_ca_file"
                )
            }),
        }
    }

    /// Each as a line.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        [&self.certificate, &self.clear_text, &self.anybody].into_iter().flatten().map(String::as_str)
    }

    /// Tells them. Repeats are folded by their place in the code, so that each has its own.
    pub fn log(&self) {
        if let Some(text) = &self.certificate {
            warn!("{text}");
        }
        if let Some(text) = &self.clear_text {
            warn!("{text}");
        }
        if let Some(text) = &self.anybody {
            warn!("{text}");
        }
    }
}

/// Whether only this machine can connect to `endpoint`.
fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(endpoint: &str) -> Warnings {
        let mut config = Config::default();
        config.protocols.grpc.endpoint = endpoint.to_owned();
        Gates::open(&config).unwrap().warnings().clone()
    }

    #[test]
    fn who_listens_beyond_loopback_is_warned_by_the_keys() {
        for endpoint in ["127.0.0.1:4317", "127.8.0.1:4317", "[::1]:4317", "localhost:4317"] {
            assert_eq!(warnings(endpoint), Warnings::default(), "{endpoint}");
        }
        for endpoint in ["0.0.0.0:4317", "[::]:4317", "192.0.2.7:4317", "logs.example.com:4317"] {
            let warnings = warnings(endpoint);
            let lines: Vec<_> = warnings.lines().collect();
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines[0].contains(&format!("`{GRPC}.tls` ({endpoint})")), "{lines:?}");
            assert!(lines[1].contains(&format!("`{GRPC}.auth` ({endpoint})")), "{lines:?}");
        }
    }
}
