//! The gates of all ports, their files, and warnings about them for the operator.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use opentelemetry::metrics::Meter;
use tracing::warn;

use super::auth::{self, Authenticator};
use super::config::Config;
use super::file::Unusable;
use super::gate::Gate;
use super::turned_away;
use super::work::run_blocking;

/// The gates of all ports.
#[derive(Debug)]
pub struct Gates {
    pub(super) grpc: Gate,
    pub(super) http: Gate,
    authenticators: BTreeMap<String, Arc<Authenticator>>,
    warnings: Warnings,
}

/// Settings that are valid and may not be intended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    certificate: Option<String>,
    clear_text: Option<String>,
    anybody: Option<String>,
}

/// The protocol, endpoint and gate of a port.
type Port<'a> = (&'static str, &'a str, &'a Gate);

impl Gates {
    /// Reads all files that `config` names. The error is the first one that cannot be used.
    pub fn open(config: &Config) -> Result<Self, Unusable> {
        let authenticators = auth::open(&config.authenticators)?;
        let open = |transport, alpn, tls: &Option<_>, auth: &Option<_>| {
            Gate::open(transport, alpn, tls.as_ref(), auth.as_ref(), &authenticators)
        };
        let (mut grpc, mut http) = (Gate::open_to_all("grpc"), Gate::open_to_all("http"));
        if let Some(config) = &config.protocols.grpc {
            grpc = open("grpc", &["h2"], &config.tls, &config.auth)?;
        }
        if let Some(config) = &config.protocols.http {
            http = open("http", &["h2", "http/1.1"], &config.tls, &config.auth)?;
        }
        let mut ports: Vec<Port<'_>> = Vec::new();
        ports.extend(config.protocols.grpc.as_ref().map(|config| ("grpc", config.endpoint.as_str(), &grpc)));
        ports.extend(config.protocols.http.as_ref().map(|config| ("http", config.endpoint.as_str(), &http)));
        let warnings = Warnings::about(&ports);
        Ok(Self { grpc, http, authenticators, warnings })
    }

    /// The warnings about the configuration.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Registers the counter of refused connections and requests.
    pub fn observe(&self, meter: &Meter) {
        let ports = [&self.grpc, &self.http];
        turned_away::observe(ports.map(|gate| gate.turned_away.clone()), meter);
    }

    /// Applies changes of the files now, and logs what cannot be used.
    pub fn reload(&self) {
        run_blocking(|| {
            for tls in [&self.grpc.tls, &self.http.tls].into_iter().flatten() {
                tls.reload();
            }
            for authenticator in self.authenticators.values() {
                authenticator.reload();
            }
        });
    }

    /// Applies changes of the files for as long as it is polled.
    pub async fn keep_fresh(&self) {
        let certificates =
            join_all([&self.grpc.tls, &self.http.tls].into_iter().flatten().map(|tls| tls.keep_fresh()));
        let senders = join_all(self.authenticators.values().map(|authenticator| authenticator.keep_fresh()));
        tokio::join!(certificates, senders, std::future::pending::<()>());
    }
}

impl Warnings {
    fn about(ports: &[Port<'_>]) -> Self {
        let outdated = |(_, _, gate): &Port<'_>| gate.tls.as_ref()?.outdated();
        let dates: Vec<_> = ports.iter().filter_map(outdated).collect();
        let keys = |name: &str, lacks: fn(&Gate) -> bool| {
            let lacking = ports.iter().filter(|(_, endpoint, gate)| !is_loopback(endpoint) && lacks(gate));
            let key = |(protocol, endpoint, _): &Port<'_>| {
                format!("`receivers.otlp.protocols.{protocol}.{name}` ({endpoint})")
            };
            let keys: Vec<_> = lacking.map(key).collect();
            (!keys.is_empty()).then(|| keys.join(" and "))
        };
        Self {
            certificate: (!dates.is_empty()).then(|| dates.join("; ")),
            clear_text: keys("tls", |gate| gate.tls.is_none())
                .map(|keys| format!("traffic to addresses other than loopback is not encrypted; set {keys}")),
            anybody: keys("auth", |gate| !gate.asks_who_is_there()).map(|keys| {
                format!("anyone who can reach the port can send logs; set {keys}, or tls.client_ca_file")
            }),
        }
    }

    /// The warnings as lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        [&self.certificate, &self.clear_text, &self.anybody].into_iter().flatten().map(String::as_str)
    }

    /// Logs them, each from a place of its own, because repeats are folded by place.
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

/// Whether `endpoint` is reachable from this machine only.
fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(grpc: &str, http: &str) -> Warnings {
        let mut config = Config::default();
        config.protocols.grpc.as_mut().unwrap().endpoint = grpc.to_owned();
        config.protocols.http.as_mut().unwrap().endpoint = http.to_owned();
        Gates::open(&config).unwrap().warnings().clone()
    }

    #[test]
    fn endpoints_beyond_loopback_are_warned_about_by_their_keys() {
        for endpoint in ["127.0.0.1:4317", "127.8.0.1:4317", "[::1]:4317", "localhost:4317"] {
            assert_eq!(warnings(endpoint, endpoint), Warnings::default(), "{endpoint}");
        }
        for endpoint in ["0.0.0.0:4317", "[::]:4317", "192.0.2.7:4317", "logs.example.com:4317"] {
            for (grpc, http) in [(true, false), (false, true), (true, true)] {
                let at = |far| if far { endpoint } else { "127.0.0.1:1" };
                let warnings = warnings(at(grpc), at(http));
                let lines: Vec<_> = warnings.lines().collect();
                assert_eq!(lines.len(), 2, "{lines:?}");
                for (line, name) in lines.iter().zip(["tls", "auth"]) {
                    for (protocol, far) in [("grpc", grpc), ("http", http)] {
                        let key = format!("`receivers.otlp.protocols.{protocol}.{name}` ({endpoint})");
                        assert_eq!(line.contains(&key), far, "{line}");
                    }
                }
            }
        }
    }
}
