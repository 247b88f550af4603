//! The connection string: libpq's URL or `key=value` form with libpq's meanings, and with forebay's own defaults.
//!
//! `conninfo` reads the text, [`surroundings`] adds libpq's other sources (environment, service files, the passfile),
//! and `meaning` turns them into connection settings. TLS is configured in `tls.rs`.

pub(crate) mod conninfo;
mod keys;
mod meaning;
pub mod surroundings;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config as PgConfig;
use tokio_postgres::config::{Host, LoadBalanceHosts, TargetSessionAttrs};

use super::tls::{TlsConfig, TlsError, TlsOptions, Verify};
use meaning::Keys;
use surroundings::Env;

/// The address of PostgreSQL and the settings for connecting to it.
#[derive(Clone)]
pub struct Target {
    /// The settings of each host.
    hosts: Vec<PgConfig>,
    pub(crate) tls: TlsConfig,
    /// The file with passwords, if the connection string has none.
    passfile: Option<PathBuf>,
}

/// A connection string that cannot be used. The message never repeats the string, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum DsnError {
    /// It is neither a URL nor `key=value` pairs that PostgreSQL's clients know.
    #[error(
        "exporters.postgres.dsn is not a PostgreSQL connection string: {0}; allowed are `embedded`, a URL such as \
         postgresql://user:password@host:5432/database, or key=value pairs such as \
         \"host=/var/run/postgresql dbname=logs\""
    )]
    Parse(String),
    /// One of its keys cannot be used, or not with this value.
    #[error("exporters.postgres.dsn: {key}: {problem}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Its TLS settings are not supported, or would check less than they seem to.
    #[error("exporters.postgres.dsn: {0}")]
    Tls(#[from] TlsError),
}

fn refused<T>(key: &str, problem: impl Into<String>) -> Result<T, DsnError> {
    Err(DsnError::Key { key: key.to_owned(), problem: problem.into() })
}

impl Target {
    /// Reads a connection string without looking at environment variables or files.
    pub fn parse(dsn: &str) -> Result<Self, DsnError> {
        Self::open(dsn, &|_| None)
    }

    /// Reads a connection string, and libpq's other sources: the variables of `env`, and files.
    pub fn open(dsn: &str, env: Env<'_>) -> Result<Self, DsnError> {
        let written = conninfo::read(dsn)?;
        for (key, value) in &written {
            keys::check(key, value)?;
        }
        let keys = Keys(surroundings::filled(written, env)?);
        let at_home = |name: &str| surroundings::at_home(env, name);
        let (mode, tls) = TlsOptions { get: &|key| keys.get(key), at_home: &at_home }.meaning()?;
        let mut hosts = keys.hosts(mode)?;
        // With several hosts, another one may be available while one keeps us waiting.
        let timeout = Duration::from_secs(if hosts.len() > 1 { 3 } else { 5 });
        for host in hosts.iter_mut().filter(|host| host.get_connect_timeout().is_none()) {
            host.connect_timeout(timeout);
        }
        let passfile = keys.get("passfile").map(PathBuf::from).or_else(|| at_home(".pgpass"));
        let passfile = passfile.filter(|_| keys.get("password").is_none());
        Ok(Self { hosts, tls, passfile })
    }

    /// Checks that the certificates of the connection string can be read.
    pub fn check_certificates(&self) -> Result<(), DsnError> {
        Ok(super::tls::connector(&self.tls).map(|_| ())?)
    }

    /// Checks that the connection string asks for a writable server. Others are for reading only.
    pub fn check_writes(&self) -> Result<(), DsnError> {
        if self.hosts[0].get_target_session_attrs() == TargetSessionAttrs::ReadWrite {
            return Ok(());
        }
        let problem = "forebay writes, which a standby refuses; write primary, or remove this key (only `forebay query` reads \
                       from a standby)";
        refused("target_session_attrs", problem)
    }

    /// Sets the application name of its sessions.
    pub(crate) fn called(mut self, name: &str) -> Self {
        for host in &mut self.hosts {
            host.application_name(name);
        }
        self
    }

    /// The longest that one host may take to give a writable session.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.hosts[0].get_connect_timeout().copied().unwrap_or_default()
    }

    /// The longest that connecting may take: for each host its lookup and its session.
    pub(crate) fn connecting(&self) -> Duration {
        self.connect_timeout() * u32::try_from(2 * self.hosts.len()).unwrap_or(u32::MAX)
    }

    /// The settings of each host, with the password that is in the passfile now.
    pub(crate) fn each_host(&self) -> Vec<PgConfig> {
        let with_password = |host: &PgConfig| {
            let mut host = host.clone();
            self.password_of(&host).map(|password| host.password(password));
            host
        };
        self.hosts.iter().map(with_password).collect()
    }

    /// The user and the database.
    pub(crate) fn names(&self) -> (Option<&str>, Option<&str>) {
        (self.hosts[0].get_user(), self.hosts[0].get_dbname())
    }

    /// The application name of its sessions.
    pub(crate) fn application_name(&self) -> &str {
        self.hosts[0].get_application_name().unwrap_or_default()
    }

    /// Whether the hosts are tried in random order.
    pub(crate) fn is_random(&self) -> bool {
        self.hosts[0].get_load_balance_hosts() == LoadBalanceHosts::Random
    }

    fn password_of(&self, host: &PgConfig) -> Option<String> {
        let name = match host.get_hosts().first()? {
            Host::Tcp(name) => name.as_str(),
            Host::Unix(path) if path.as_os_str() == meaning::SOCKETS => "localhost",
            Host::Unix(path) => path.to_str()?,
        };
        let user = host.get_user().map(str::to_owned).or_else(|| whoami::username().ok())?;
        let database = host.get_dbname().unwrap_or(&user);
        let port = host.get_ports().first().copied().unwrap_or(5432);
        surroundings::password(self.passfile.as_deref()?, name, port, database, &user)
    }

    /// Each host as a target of its own, which accepts any server, also a standby.
    pub(crate) fn hosts(&self) -> Vec<Self> {
        let one = |mut config: PgConfig| {
            config.target_session_attrs(TargetSessionAttrs::Any);
            Self { hosts: vec![config], tls: self.tls.clone(), passfile: self.passfile.clone() }
        };
        self.hosts.iter().cloned().map(one).collect()
    }

    /// Whether the traffic stays on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.hosts.iter().all(|host| match (host.get_hostaddrs(), host.get_hosts()) {
            ([address, ..], _) => address.is_loopback(),
            (_, [Host::Tcp(name), ..]) => {
                name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
            _ => true,
        })
    }

    /// A warning if the server's identity is not verified, so that anyone on the network path could impersonate it.
    pub fn warning(&self) -> Option<String> {
        let is_open = self.tls.verify == Verify::Nothing && !self.is_local();
        is_open.then(|| {
            format!(
                "The server at {} is not verified: anyone on the network path can read and change records, and steal the password; set \
                 sslmode=verify-full (and sslrootcert) in exporters.postgres.dsn",
                self.describe()
            )
        })
    }

    /// Hosts and ports, for messages, without user and password.
    pub fn describe(&self) -> String {
        let one = |host: &PgConfig| {
            let port = host.get_ports().first().copied().unwrap_or(5432);
            match host.get_hosts().first() {
                Some(Host::Tcp(name)) => format!("{name}:{port}"),
                Some(Host::Unix(path)) => format!("{}/.s.PGSQL.{port}", path.display()),
                None => port.to_string(),
            }
        };
        self.hosts.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.describe())
    }
}
