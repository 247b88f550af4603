//! The connection string: libpq's URL or `key=value` form, and forebay's own defaults for what it leaves open.
//!
//! tokio-postgres knows most of libpq's keys. The ones for TLS that it does not know (`sslmode=verify-ca`,
//! `verify-full`, `sslrootcert`) are taken out here and handed to `tls.rs`.

use std::net::IpAddr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config as PgConfig;
use tokio_postgres::config::{Host, TargetSessionAttrs};

use super::tls::{TlsConfig, TlsError, TlsOptions, Verify};

/// Where PostgreSQL is, and how to speak to it.
#[derive(Clone)]
pub struct Target {
    pub(super) config: PgConfig,
    pub(super) tls: TlsConfig,
}

/// A connection string that cannot be used. The text never repeats the string, which holds a password.
#[derive(Debug, thiserror::Error)]
pub enum DsnError {
    /// It is neither a URL nor `key=value` pairs that PostgreSQL's clients know.
    #[error(
        "exporters.postgres.dsn is not a PostgreSQL connection string: {0}; allowed are `embedded`, a URL such as \
         postgresql://user:password@host:5432/database, or key=value pairs such as \
         \"host=/var/run/postgresql dbname=logs\""
    )]
    Parse(String),
    /// It asks for TLS that there is not, or that does not check what it seems to.
    #[error("exporters.postgres.dsn: {0}")]
    Tls(#[from] TlsError),
}

impl Target {
    /// Reads a connection string.
    pub fn parse(dsn: &str) -> Result<Self, DsnError> {
        let (rest, options) = split_tls_options(dsn)?;
        let mut config: PgConfig = rest.parse().map_err(|error| DsnError::Parse(cause(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(DsnError::Parse("it names no host".to_owned()));
        }
        // The first @ ends the password, so that this host, which messages name, has the rest of it.
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            let problem = "there is an @ in the name of a host; one in a password is written %40";
            return Err(DsnError::Parse(problem.to_owned()));
        }
        let (mode, tls) = options.meaning()?;
        config.ssl_mode(mode);
        set_defaults(&mut config);
        Ok(Self { config, tls })
    }

    /// Whether the certificates that the connection string names can be read.
    pub fn check_certificates(&self) -> Result<(), DsnError> {
        Ok(super::tls::connector(&self.tls).map(|_| ())?)
    }

    /// The longest that one host may take until it is one that can be written to.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.config.get_connect_timeout().copied().unwrap_or_default()
    }

    /// The longest that connecting may take: each host its lookup and its session.
    pub(super) fn connecting(&self) -> Duration {
        self.connect_timeout() * u32::try_from(2 * number_of_hosts(&self.config)).unwrap_or(u32::MAX)
    }

    /// What to connect with, for each host by itself.
    pub(super) fn each_host(&self) -> Vec<PgConfig> {
        (0..number_of_hosts(&self.config)).map(|index| only_host(&self.config, index)).collect()
    }

    /// Each host as a target of its own, which takes whatever server it meets there.
    pub(super) fn hosts(&self) -> Vec<Self> {
        let one = |mut config: PgConfig| {
            config.target_session_attrs(TargetSessionAttrs::Any);
            Self { config, tls: self.tls.clone() }
        };
        self.each_host().into_iter().map(one).collect()
    }

    /// Whether nothing but this machine hears what is said to it.
    pub(super) fn is_local(&self) -> bool {
        let named = self.config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        });
        let addresses = self.config.get_hostaddrs();
        if addresses.is_empty() { named } else { addresses.iter().all(IpAddr::is_loopback) }
    }

    /// That whoever is on the way to the server can take its place, where that is so.
    pub fn warning(&self) -> Option<String> {
        let is_open = self.tls.verify == Verify::Nothing && !self.is_local();
        is_open.then(|| {
            format!(
                "The server at {} is not verified: anyone on the way to it can read and change records, and take the password; set \
                 sslmode=verify-full (and sslrootcert) in exporters.postgres.dsn",
                self.describe()
            )
        })
    }

    /// Host and port, for messages. No user, no password.
    pub fn describe(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate().map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}/.s.PGSQL.{port}", path.display()),
            }
        });
        hosts.collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.describe())
    }
}

fn number_of_hosts(config: &PgConfig) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

/// `config` with one of its hosts. tokio-postgres can only add hosts, so what else a connection string can say is
/// carried over.
fn only_host(config: &PgConfig, index: usize) -> PgConfig {
    let mut one = PgConfig::new();
    match config.get_hosts().get(index) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    config.get_hostaddrs().get(index).map(|address| one.hostaddr(*address));
    let ports = config.get_ports();
    ports.get(index).or(ports.first()).map(|port| one.port(*port));
    config.get_user().map(|user| one.user(user));
    config.get_password().map(|password| one.password(password));
    config.get_dbname().map(|name| one.dbname(name));
    config.get_options().map(|options| one.options(options));
    config.get_application_name().map(|name| one.application_name(name));
    config.get_connect_timeout().map(|timeout| one.connect_timeout(*timeout));
    one.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    one.channel_binding(config.get_channel_binding());
    set_defaults(&mut one);
    one.target_session_attrs(config.get_target_session_attrs());
    one
}

/// What the connection string leaves open.
fn set_defaults(config: &mut PgConfig) {
    if config.get_application_name().is_none() {
        config.application_name("forebay");
    }
    if config.get_connect_timeout().is_none() {
        // While one host of several keeps us waiting, another one could take us.
        let seconds = if number_of_hosts(config) > 1 { 3 } else { 5 };
        config.connect_timeout(Duration::from_secs(seconds));
    }
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    // tokio-postgres leaves a silent peer undetected for two hours.
    config.keepalives(true).keepalives_idle(Duration::from_secs(10));
    config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
    config.tcp_user_timeout(Duration::from_secs(20));
}

/// Takes the TLS keys out of `dsn`; gives what is left of it.
fn split_tls_options(dsn: &str) -> Result<(String, TlsOptions), DsnError> {
    let mut options = TlsOptions::default();
    if dsn.starts_with("postgres://") || dsn.starts_with("postgresql://") {
        let Some((base, query)) = dsn.split_once('?') else {
            return Ok((dsn.to_owned(), options));
        };
        let kept: Vec<_> = query
            .split('&')
            .filter(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                !options.set(&percent_decode(key), percent_decode(value))
            })
            .collect();
        let separator = if kept.is_empty() { "" } else { "?" };
        return Ok((format!("{base}{separator}{}", kept.join("&")), options));
    }
    let mut kept = Vec::new();
    let mut rest = dsn.trim_start();
    while !rest.is_empty() {
        let (key, value, tail) = key_value(rest)?;
        if !options.set(key, value) {
            kept.push(rest[..rest.len() - tail.len()].trim_end());
        }
        rest = tail;
    }
    Ok((kept.join(" "), options))
}

/// The first `key = value` of `text` (PostgreSQL manual, "Keyword/Value Connection Strings"), and what follows.
pub(super) fn key_value(text: &str) -> Result<(&str, String, &str), DsnError> {
    let broken = |what: &str| DsnError::Parse(what.to_owned());
    let (key, rest) = text.split_once('=').ok_or_else(|| broken("a key has no value"))?;
    let rest = rest.trim_start();
    let quoted = rest.starts_with('\'');
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((key.trim(), value, rest[at + 1..].trim_start())),
            c if c.is_whitespace() && !quoted => return Ok((key.trim(), value, rest[at..].trim_start())),
            c => value.push(c),
        }
    }
    if quoted { Err(broken("a quote is not closed")) } else { Ok((key.trim(), value, "")) }
}

pub(super) fn percent_decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Why tokio-postgres refuses a connection string. It repeats a key that it does not know, and a URL with a slash too few
/// is all key up to its first `=`, password and all, so that a key is shown only where it looks like one.
fn cause(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let is_key = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    match cause.strip_prefix("unknown option `").and_then(|rest| rest.strip_suffix('`')) {
        Some(key) if !is_key(key) => "what stands before a = is not an option's name".to_owned(),
        _ => cause,
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    fn parse(dsn: &str) -> Target {
        Target::parse(dsn).unwrap()
    }

    #[test]
    fn urls_and_pairs_are_read() {
        let url = parse("postgresql://me:se%20cret@db.example:6432/logs?sslmode=disable&application_name=x");
        assert_eq!(url.config.get_password(), Some("se cret".as_bytes()));
        assert_eq!((url.config.get_dbname(), url.config.get_application_name()), (Some("logs"), Some("x")));
        assert_eq!(url.config.get_ssl_mode(), SslMode::Disable);
        let pairs = parse(r"host = '/var/run/postgresql' dbname=logs password='it\'s me' sslmode=require");
        assert_eq!(pairs.config.get_password(), Some("it's me".as_bytes()));
        assert_eq!(
            (pairs.config.get_dbname(), pairs.config.get_ssl_mode()),
            (Some("logs"), SslMode::Require)
        );
        assert_eq!(pairs.describe(), "/var/run/postgresql/.s.PGSQL.5432");
    }

    #[test]
    fn several_hosts_look_for_the_one_that_can_be_written() {
        let target = parse("postgresql://me@one:5432,two:5433/logs");
        assert_eq!(target.describe(), "one:5432, two:5433");
        assert_eq!(target.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(target.config.get_application_name(), Some("forebay"));
    }

    #[test]
    fn each_host_is_a_target_of_its_own() {
        let dsn = "host=one,/run port=5432,5433 user=me password=secret dbname=logs options=-cx.y=1 sslmode=require";
        let hosts = parse(dsn).hosts();
        let described: Vec<_> = hosts.iter().map(Target::describe).collect();
        assert_eq!(described, ["one:5432", "/run/.s.PGSQL.5433"]);
        assert_eq!((hosts[0].is_local(), hosts[1].is_local()), (false, true));
        for host in hosts {
            let rest = "port=1 user=me password=secret dbname=logs options=-cx.y=1 sslmode=require";
            let expected = parse(&format!("host=x {rest}")).config;
            let carried = |config: &PgConfig| {
                let text = |text: Option<&str>| text.map(str::to_owned);
                let password = config.get_password().map(<[u8]>::to_vec);
                let (user, name, options) = (config.get_user(), config.get_dbname(), config.get_options());
                (text(user), password, text(name), text(options), config.get_ssl_mode())
            };
            assert_eq!(carried(&host.config), carried(&expected));
            assert_eq!(only_host(&host.config, 0).get_target_session_attrs(), TargetSessionAttrs::Any);
            assert_eq!(host.config.get_target_session_attrs(), TargetSessionAttrs::Any);
        }
        let one_port = parse("host=one,127.0.0.1 port=6432").hosts();
        assert_eq!((one_port[1].describe(), one_port[1].is_local()), ("127.0.0.1:6432".to_owned(), true));
    }

    #[test]
    fn tls_is_asked_for_in_urls_and_pairs() {
        let expected = TlsConfig { verify: Verify::Host, root: Some("/etc/ca.pem".into()) };
        for dsn in [
            "postgres://db/x?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
            "postgres://db/x?ssl%6Dode=verify-full&sslroot%63ert=/etc/ca.pem",
            "host=db sslmode = verify-full sslrootcert='/etc/ca.pem'",
            "host=db sslmode=disable sslmode=verify-full sslrootcert=/etc/ca.pem",
        ] {
            assert_eq!(parse(dsn).tls, expected, "{dsn}");
            assert_eq!(parse(dsn).config.get_ssl_mode(), SslMode::Require, "{dsn}");
        }
        let weak =
            Target::parse("postgres://db/x?sslrootcert=system&sslmode=require").unwrap_err().to_string();
        assert!(weak.starts_with("exporters.postgres.dsn: sslmode=require "), "{weak}");
    }

    #[test]
    fn a_server_elsewhere_that_is_not_verified_is_warned_of() {
        for dsn in [
            "host=db",
            "host=db sslmode=require",
            "host=/run,db",
            "postgres://10.0.0.7/x?sslmode=disable",
            "hostaddr=10.0.0.7 host=localhost",
        ] {
            let warning = parse(dsn).warning().unwrap_or_else(|| panic!("{dsn}"));
            assert!(
                warning.contains(&parse(dsn).describe()) && warning.contains("sslmode=verify-full"),
                "{warning}"
            );
        }
        for dsn in [
            "host=/run",
            "host=localhost",
            "host=127.0.0.1,::1 sslmode=require",
            "host=db hostaddr=127.0.0.1",
            "host=db sslmode=verify-full",
            "host=db sslmode=verify-ca sslrootcert=/ca.pem",
        ] {
            assert_eq!(parse(dsn).warning(), None, "{dsn}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_without_the_secret() {
        for dsn in [
            "postgresql://me:hunter2@db:port/logs",
            "postgresql://me:hunter2@db/logs?colour=blue",
            "host=db password=hunter2 colour=blue",
            "host=db password='hunter2",
            "password=hunter2",
            "hunter2",
            "",
            "postgresql:/me:hunter2@db/logs?sslmode=disable",
            "postgress://me:hunter2@db/logs?application_name=x",
            "postgresql://me:pass@hunter2@db/logs",
            "host=db password=hunter2 sslmode=maybe",
        ] {
            let error = Target::parse(dsn).err().unwrap_or_else(|| panic!("{dsn:?} was read")).to_string();
            assert!(error.starts_with("exporters.postgres.dsn") && !error.contains("hunter2"), "{error}");
        }
    }
}
