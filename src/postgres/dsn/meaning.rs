//! What the keys of a connection string mean, for each of its hosts.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config as PgConfig;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs};

use super::DsnError;
use super::conninfo::Written;

/// Where distributions have PostgreSQL's socket, and what libpq asks where no host is named.
pub(super) const SOCKETS: &str = "/var/run/postgresql";

/// Keys and values, of which the last counts.
pub(super) struct Keys(pub(super) Written);

fn refused<T>(key: &str, problem: impl Into<String>) -> Result<T, DsnError> {
    Err(DsnError::Key { key: key.to_owned(), problem: problem.into() })
}

impl Keys {
    /// The value of `key`; an empty one is none.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, DsnError> {
        match self.get(key).map(|text| text.trim().parse()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => refused(key, "expected a whole number"),
        }
    }

    /// One of the words that `key` may have.
    fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, DsnError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => refused(key, format!("allowed are {}", known())),
        }
    }

    /// A configuration for each host. Where several are named, an empty part is what it would be alone.
    pub(super) fn hosts(&self, ssl_mode: SslMode) -> Result<Vec<PgConfig>, DsnError> {
        let list = |key| self.get(key).map_or(Vec::new(), |text| text.split(',').map(str::trim).collect());
        let (hosts, addresses, ports): (Vec<_>, Vec<_>, Vec<_>) =
            (list("host"), list("hostaddr"), list("port"));
        let count = hosts.len().max(addresses.len()).max(1);
        for (key, list) in [("host", &hosts), ("hostaddr", &addresses)] {
            if !list.is_empty() && list.len() != count {
                return refused(
                    key,
                    format!("it has {} parts, and hostaddr and host together are {count} hosts", list.len()),
                );
            }
        }
        if ports.len() > 1 && ports.len() != count {
            return refused(
                "port",
                format!(
                    "{} ports are named for {count} hosts; write one for all, or one for each",
                    ports.len()
                ),
            );
        }
        let all = self.all()?;
        let one = |index: usize| {
            let part =
                |list: &[&str]| list.get(index).copied().filter(|part| !part.is_empty()).map(str::to_owned);
            let port =
                if ports.len() > 1 { part(&ports) } else { ports.first().map(|port| (*port).to_owned()) };
            located(
                all.clone(),
                part(&hosts),
                part(&addresses),
                port.filter(|port| !port.is_empty()),
                ssl_mode,
            )
        };
        (0..count).map(one).collect()
    }

    /// What all hosts have.
    fn all(&self) -> Result<PgConfig, DsnError> {
        let mut all = PgConfig::new();
        self.get("user").map(|user| all.user(user));
        self.get("password").map(|password| all.password(password));
        self.get("dbname").map(|name| all.dbname(name));
        self.get("options").map(|options| all.options(options));
        let name = self.get("application_name").or(self.get("fallback_application_name"));
        all.application_name(name.unwrap_or("forebay"));
        let seconds: Option<i64> = self.number("connect_timeout")?;
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map(|seconds| all.connect_timeout(Duration::from_secs(seconds)));
        self.keepalive(&mut all)?;
        let attributes = [
            // forebay writes: of any server it needs one that takes that.
            ("any", TargetSessionAttrs::ReadWrite),
            ("read-write", TargetSessionAttrs::ReadWrite),
            ("primary", TargetSessionAttrs::ReadWrite),
            ("read-only", TargetSessionAttrs::ReadOnly),
            ("standby", TargetSessionAttrs::ReadOnly),
            ("prefer-standby", TargetSessionAttrs::Any),
        ];
        let wanted = self.word("target_session_attrs", &attributes)?;
        all.target_session_attrs(wanted.unwrap_or(TargetSessionAttrs::ReadWrite));
        let binding = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        self.word("channel_binding", &binding)?.map(|binding| all.channel_binding(binding));
        let negotiation = [("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];
        self.word("sslnegotiation", &negotiation)?.map(|negotiation| all.ssl_negotiation(negotiation));
        let order = [("disable", LoadBalanceHosts::Disable), ("random", LoadBalanceHosts::Random)];
        self.word("load_balance_hosts", &order)?.map(|order| all.load_balance_hosts(order));
        Ok(all)
    }

    /// libpq leaves a silent peer to the system, which takes two hours to notice; here what is not said is forebay's own.
    fn keepalive(&self, all: &mut PgConfig) -> Result<(), DsnError> {
        all.keepalives(self.number::<i64>("keepalives")?.is_none_or(|number| number != 0));
        let spans = [
            self.number::<i64>("keepalives_idle")?,
            self.number("keepalives_interval")?,
            self.number("tcp_user_timeout")?,
        ];
        let [idle, interval, unacknowledged] =
            spans.map(|span| span.map(|span| u64::try_from(span).unwrap_or(0)));
        // 0 is the system's own.
        match idle {
            None => drop(all.keepalives_idle(Duration::from_secs(10))),
            Some(0) => {}
            Some(seconds) => drop(all.keepalives_idle(Duration::from_secs(seconds))),
        }
        match interval {
            None => drop(all.keepalives_interval(Duration::from_secs(5))),
            Some(0) => {}
            Some(seconds) => drop(all.keepalives_interval(Duration::from_secs(seconds))),
        }
        match unacknowledged {
            None => drop(all.tcp_user_timeout(Duration::from_secs(20))),
            Some(0) => {}
            Some(millis) => drop(all.tcp_user_timeout(Duration::from_millis(millis))),
        }
        let count = match self.number::<u32>("keepalives_count")? {
            None => self.number("keepalives_retries")?.unwrap_or(3),
            Some(count) => count,
        };
        if count > 0 {
            all.keepalives_retries(count);
        }
        Ok(())
    }
}

/// `all`, at one host.
fn located(
    all: PgConfig,
    host: Option<String>,
    address: Option<String>,
    port: Option<String>,
    ssl_mode: SslMode,
) -> Result<PgConfig, DsnError> {
    let mut one = all;
    let is_socket = address.is_none() && host.as_ref().is_none_or(|host| host.starts_with('/'));
    if let Some(address) = &address {
        let Ok(address) = IpAddr::from_str(address) else {
            return refused("hostaddr", "expected IP addresses; a name goes into host");
        };
        one.hostaddr(address);
    }
    let host = host.or(address).unwrap_or_else(|| SOCKETS.to_owned());
    // The first @ ends the password, so that this host, which messages name, has the rest of it.
    if host.contains('@') {
        let problem = "there is an @ in the name of a host; one in a password is written %40";
        return Err(DsnError::Parse(problem.to_owned()));
    }
    one.host(host);
    match port.map(|port| port.parse::<u16>()) {
        None => drop(one.port(5432)),
        Some(Ok(port)) if port > 0 => drop(one.port(port)),
        Some(_) => {
            return refused(
                "port",
                "expected numbers from 1 to 65535; in a URL, a : / or @ in a password is written %3A %2F %40",
            );
        }
    }
    // As in libpq, a socket is never encrypted.
    one.ssl_mode(if is_socket { SslMode::Disable } else { ssl_mode });
    if ssl_mode == SslMode::Prefer && one.get_ssl_negotiation() == SslNegotiation::Direct {
        return refused("sslnegotiation", "direct takes sslmode=require, verify-ca or verify-full");
    }
    Ok(one)
}
