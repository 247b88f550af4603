//! The meaning of a connection string's keys, for each of its hosts.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config as PgConfig;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs};

use super::conninfo::Written;
use super::{DsnError, refused};

/// The directory of PostgreSQL's socket in distributions, and libpq's default host.
pub(super) const SOCKETS: &str = "/var/run/postgresql";

/// Keys and values; if a key is repeated, the last one counts.
pub(super) struct Keys(pub(super) Written);

impl Keys {
    /// The value of `key`; an empty one counts as not set.
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

    /// The meaning of `key`, whose value must be one of `words`.
    fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, DsnError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(Some(*meaning));
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        refused(key, format!("allowed are {}", known.join(", ")))
    }

    /// A configuration for each host. An empty element of a list has its default.
    pub(super) fn hosts(&self, ssl_mode: SslMode) -> Result<Vec<PgConfig>, DsnError> {
        let list = |key| self.get(key).map_or(Vec::new(), |text| text.split(',').map(str::trim).collect());
        let (hosts, addresses, ports): (Vec<_>, Vec<_>, Vec<_>) =
            (list("host"), list("hostaddr"), list("port"));
        let count = hosts.len().max(addresses.len()).max(1);
        for (key, list) in [("host", &hosts), ("hostaddr", &addresses)] {
            if !list.is_empty() && list.len() != count {
                let parts = list.len();
                let problem =
                    format!("it has {parts} parts, and hostaddr and host together are {count} hosts");
                return refused(key, problem);
            }
        }
        if ports.len() > 1 && ports.len() != count {
            let ports = ports.len();
            let problem =
                format!("{ports} ports are named for {count} hosts; write one for all, or one for each");
            return refused("port", problem);
        }
        let all = self.all()?;
        let one = |index: usize| {
            let part = |list: &[&str], index: usize| {
                list.get(index).copied().filter(|part| !part.is_empty()).map(str::to_owned)
            };
            let port = part(&ports, if ports.len() > 1 { index } else { 0 });
            located(all.clone(), part(&hosts, index), part(&addresses, index), port, ssl_mode)
        };
        (0..count).map(one).collect()
    }

    /// The settings that all hosts share.
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
            // forebay writes, so that `any` still needs a writable server.
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

    /// Sets keepalives and timeouts. libpq's defaults are the system's, which notice a silent peer after two hours;
    /// forebay has defaults of its own.
    fn keepalive(&self, all: &mut PgConfig) -> Result<(), DsnError> {
        all.keepalives(self.number::<i64>("keepalives")?.is_none_or(|number| number != 0));
        let span = |key, unit: fn(u64) -> Duration, default| -> Result<Option<Duration>, DsnError> {
            let written = self.number::<i64>(key)?.map(|number| unit(u64::try_from(number).unwrap_or(0)));
            // 0 leaves it to the system.
            Ok(Some(written.unwrap_or(default)).filter(|span| !span.is_zero()))
        };
        let seconds = Duration::from_secs;
        span("keepalives_idle", seconds, seconds(10))?.map(|span| all.keepalives_idle(span));
        span("keepalives_interval", seconds, seconds(5))?.map(|span| all.keepalives_interval(span));
        let unacknowledged = span("tcp_user_timeout", Duration::from_millis, seconds(20))?;
        unacknowledged.map(|span| all.tcp_user_timeout(span));
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

/// The settings `all` for one host.
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
    // The first @ ends the password. A second one would leave the rest of it in the host's name, which messages show.
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
