//! The way to the server: each host of the connection string, its TLS, and whether it takes writes.

use super::{Finding, Verdict};
use crate::postgres::Row;
use crate::postgres::dsn::Target;
use crate::postgres::error::{Class, Failure};
use crate::postgres::pool::Pool;
use crate::postgres::session::{Connection, Session, attempt};
use crate::postgres::tls::Verify;
use crate::store::{Config, HOUSEKEEPING};

/// The server at one host.
struct Host {
    target: Target,
    session: Session,
    writable: bool,
}

/// Connects to each host. Returns the connection that forebay would use, or else one that can at least answer.
pub(super) async fn reach(target: &Target, config: &Config) -> (Vec<Finding>, Option<(Session, Target)>) {
    let mut findings = Vec::new();
    let (mut hosts, mut unreached) = (Vec::new(), Vec::new());
    for host in target.hosts() {
        match Host::connect(host.clone(), config).await {
            Ok(host) => hosts.push(host),
            Err(failure) => unreached.push(format!("{}: {}", host.describe(), with_cure(&failure, &host))),
        }
    }
    // One writable host is enough.
    let missing = if hosts.iter().any(|host| host.writable) { Verdict::Warning } else { Verdict::Problem };
    findings.extend(unreached.into_iter().map(|text| Finding {
        check: "connection",
        verdict: missing,
        text,
    }));
    for host in &mut hosts {
        let (verdict, text) = match host.writable {
            true => (Verdict::Ok, "connected and authenticated; it takes writes".to_owned()),
            false if missing == Verdict::Warning => {
                (Verdict::Ok, "a standby, for when it is needed".to_owned())
            }
            false => (Verdict::Problem, host.why_read_only().await),
        };
        let text = format!("{}: {text}", host.target.describe());
        findings.push(Finding { check: "connection", verdict, text });
        findings.push(host.encryption().await);
    }
    let first = hosts.iter().position(|host| host.writable).unwrap_or(0);
    let chosen = (first < hosts.len()).then(|| hosts.swap_remove(first));
    (findings, chosen.map(|host| (host.session, host.target)))
}

impl Host {
    async fn connect(target: Target, config: &Config) -> Result<Self, Failure> {
        let pool = Pool::new(target.clone(), 1, config.timeout);
        let pool = pool.map_err(|error| Failure::new(Class::Refused, error.to_string()))?;
        let mut session = pool.get().await?;
        let select = "SELECT NOT current_setting('transaction_read_only')::bool";
        let ask = async |c: &Connection| Ok::<_, Failure>(c.query_one(select, &[]).await?.get(0));
        let writable = session.within(HOUSEKEEPING, ask).await?;
        Ok(Self { target, session, writable })
    }

    /// The row that `select` gives; `None` also where the role may not ask.
    async fn ask(&mut self, select: &str) -> Option<Row> {
        let asked = async |c: &Connection| {
            attempt(c, async { Ok::<_, Failure>(c.query_opt(select, &[]).await?) }).await
        };
        self.session.within(HOUSEKEEPING, asked).await.ok()?.ok()?
    }

    async fn why_read_only(&mut self) -> String {
        let recovery = self.ask("SELECT pg_is_in_recovery()").await;
        if recovery.is_some_and(|row| row.get(0)) {
            return "a standby takes no records: name the primary in exporters.postgres.dsn as well \
                    (postgresql://user@one,two/database), or promote this one"
                .to_owned();
        }
        "its sessions are read-only: ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only"
            .to_owned()
    }

    async fn encryption(&mut self) -> Finding {
        let select = "SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let session = self.ask(select).await;
        let session = session.filter(|row| row.get(0)).map(|row| (row.get(1), row.get(2)));
        let session: Option<(Option<String>, Option<String>)> = session;
        let (verdict, text) = match (session, self.target.tls.verify) {
            (Some((version, cipher)), verify) => {
                let how = format!("{}, {}", version.unwrap_or_default(), cipher.unwrap_or_default());
                match verify {
                    Verify::Host => (Verdict::Ok, format!("{how}; certificate and host name are checked")),
                    Verify::Authority => (Verdict::Ok, format!("{how}; the certificate is checked")),
                    Verify::Nothing if self.target.is_local() => (Verdict::Ok, how),
                    Verify::Nothing => {
                        let cure = "set sslmode=verify-full (and sslrootcert) in exporters.postgres.dsn";
                        (Verdict::Warning, format!("{how}, but with whom is not checked: {cure}"))
                    }
                }
            }
            (None, _) if self.target.is_local() => {
                (Verdict::Ok, "none, and nothing leaves this machine".to_owned())
            }
            (None, _) => {
                let cure = "set ssl = on in the server, and sslmode=verify-full in exporters.postgres.dsn";
                (Verdict::Warning, format!("none: records can be read on the way; {cure}"))
            }
        };
        Finding { check: "tls", verdict, text: format!("{}: {text}", self.target.describe()) }
    }
}

/// Why connecting failed, with the cure.
fn with_cure(failure: &Failure, host: &Target) -> String {
    let (user, database) = host.names();
    let user = user.unwrap_or("(the system user's name)");
    let database = database.unwrap_or(user);
    let cure = match failure.sqlstate.as_deref() {
        Some("28P01") => format!("put the password of role {user} into exporters.postgres.dsn"),
        Some("28000") => format!("create role {user} with LOGIN, or let it in by a line of pg_hba.conf"),
        Some("3D000") => format!("CREATE DATABASE {database}, or name another in exporters.postgres.dsn"),
        Some("42501") => format!("GRANT CONNECT ON DATABASE {database} TO {user}"),
        Some("53300") => format!(
            "raise max_connections, or the CONNECTION LIMIT of role {user} or database {database}, or end \
             sessions that are not needed (SELECT * FROM pg_stat_activity)"
        ),
        Some("57P03") => "wait until the server has started".to_owned(),
        Some(_) => "see the server's log".to_owned(),
        None if failure.message.contains("TLS") || failure.message.contains("certificate") => {
            "make sslmode and sslrootcert in exporters.postgres.dsn fit the server".to_owned()
        }
        None => "see whether PostgreSQL runs there, listen_addresses, and the firewall".to_owned(),
    };
    format!("{failure}; {cure}")
}
