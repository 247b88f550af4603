//! The connection string: libpq's URL or `key=value` form with libpq's meanings, and forebay's own defaults for what it leaves open.
//!
//! `conninfo` reads the text, [`surroundings`] adds what libpq finds elsewhere (environment, service files, the passfile),
//! `meaning` makes of it what to connect with. What TLS is to be is for `tls.rs`.

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

/// Where PostgreSQL is, and how to speak to it.
#[derive(Clone)]
pub struct Target {
    /// What to connect with, for each host by itself.
    hosts: Vec<PgConfig>,
    pub(crate) tls: TlsConfig,
    /// Where passwords are, if not in the connection string.
    passfile: Option<PathBuf>,
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
    /// One of its keys cannot be used, or not with this value.
    #[error("exporters.postgres.dsn: {key}: {problem}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// It asks for TLS that there is not, or that does not check what it seems to.
    #[error("exporters.postgres.dsn: {0}")]
    Tls(#[from] TlsError),
}

impl DsnError {
    /// The same, of a value that an environment variable has.
    fn taken_from(self, variable: &str) -> Self {
        match self {
            Self::Key { key, problem } => Self::Key {
                key,
                problem: format!("{problem} (the value is from the environment: {variable})"),
            },
            other => other,
        }
    }
}

impl Target {
    /// Reads a connection string by itself.
    pub fn parse(dsn: &str) -> Result<Self, DsnError> {
        Self::open(dsn, &surroundings::none)
    }

    /// Reads a connection string, and what libpq finds beside it: in the variables of `env`, and in files.
    pub fn open(dsn: &str, env: Env<'_>) -> Result<Self, DsnError> {
        let written = conninfo::read(dsn)?;
        for (key, value) in &written {
            keys::check(key, value)?;
        }
        let keys = Keys(surroundings::filled(written, env)?);
        let (mode, tls) =
            TlsOptions::of(|key| keys.get(key), |name| surroundings::at_home(env, name)).meaning()?;
        let mut hosts = keys.hosts(mode)?;
        // While one host of several keeps us waiting, another one could take us.
        let timeout = Duration::from_secs(if hosts.len() > 1 { 3 } else { 5 });
        for host in hosts.iter_mut().filter(|host| host.get_connect_timeout().is_none()) {
            host.connect_timeout(timeout);
        }
        let passfile =
            keys.get("passfile").map(PathBuf::from).or_else(|| surroundings::at_home(env, ".pgpass"));
        let passfile = passfile.filter(|_| keys.get("password").is_none());
        Ok(Self { hosts, tls, passfile })
    }

    /// Whether the certificates that the connection string names can be read.
    pub fn check_certificates(&self) -> Result<(), DsnError> {
        Ok(super::tls::connector(&self.tls).map(|_| ())?)
    }

    /// Whether the connection string asks for a server that can be written to. Others are for reading alone.
    pub fn check_writes(&self) -> Result<(), DsnError> {
        if self.hosts[0].get_target_session_attrs() == TargetSessionAttrs::ReadWrite {
            return Ok(());
        }
        let problem = "forebay writes, which a standby does not take; write primary, or remove this key (only `forebay query` reads \
                       from a standby)";
        Err(DsnError::Key { key: "target_session_attrs".to_owned(), problem: problem.to_owned() })
    }

    /// The server's list of sessions has these by this name.
    pub(crate) fn called(mut self, name: &str) -> Self {
        for host in &mut self.hosts {
            host.application_name(name);
        }
        self
    }

    /// The longest that one host may take until it is one that can be written to.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.hosts[0].get_connect_timeout().copied().unwrap_or_default()
    }

    /// The longest that connecting may take: each host its lookup and its session.
    pub(crate) fn connecting(&self) -> Duration {
        self.connect_timeout() * u32::try_from(2 * self.hosts.len()).unwrap_or(u32::MAX)
    }

    /// What to connect with, for each host by itself, with the password that is in the passfile now.
    pub(crate) fn each_host(&self) -> Vec<PgConfig> {
        let with_password = |host: &PgConfig| {
            let mut host = host.clone();
            self.password_of(&host).map(|password| host.password(password));
            host
        };
        self.hosts.iter().map(with_password).collect()
    }

    /// Who connects, and to which database.
    pub(crate) fn names(&self) -> (Option<&str>, Option<&str>) {
        (self.hosts[0].get_user(), self.hosts[0].get_dbname())
    }

    /// What the server's list of sessions has these by.
    pub(crate) fn application_name(&self) -> &str {
        self.hosts[0].get_application_name().unwrap_or_default()
    }

    /// Whether hosts are asked in any order.
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

    /// Each host as a target of its own, which takes whatever server it meets there.
    pub(crate) fn hosts(&self) -> Vec<Self> {
        let one = |mut config: PgConfig| {
            config.target_session_attrs(TargetSessionAttrs::Any);
            Self { hosts: vec![config], tls: self.tls.clone(), passfile: self.passfile.clone() }
        };
        self.hosts.iter().cloned().map(one).collect()
    }

    /// Whether nothing but this machine hears what is said to it.
    pub(crate) fn is_local(&self) -> bool {
        self.hosts.iter().all(|host| match (host.get_hostaddrs(), host.get_hosts()) {
            ([address, ..], _) => address.is_loopback(),
            (_, [Host::Tcp(name), ..]) => {
                name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
            _ => true,
        })
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
