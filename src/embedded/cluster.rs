//! A cluster on disk: found or made, ready to be started.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::NAME;
use super::account::Account;
use super::binaries::Binaries;
use super::error::Error;
use super::home::{Home, create_dir, is_free};
use super::lock::Lock;
use super::own;
use super::passfile::{Passfile, write_private};
use super::process::run;
use super::server::{self, Server};

/// `initdb` takes a second or two; a slow disk gets its time.
const INIT_LIMIT: Duration = Duration::from_secs(180);
/// How long a start is retried if its failure is temporary.
const PASSING_LIMIT: Duration = Duration::from_secs(10);
/// The time for the processes of a killed server to notice its end.
const ORPHANS_LIMIT: Duration = Duration::from_secs(2);
/// PostgreSQL's message if they have not.
const IN_USE: &str = "pre-existing shared memory block";
/// The pause before the next attempt.
const PASSING_PAUSE: Duration = Duration::from_millis(100);
/// The prefix of the directories in which new clusters are made.
const NEW: &str = "cluster.new.";

/// How a new cluster is made. An existing one keeps what it has.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Who may connect.
    pub access: Access,
    /// Whether commits survive a crash of the machine; `false` is for tests only.
    pub durable: bool,
    /// Names and values for the end of `postgresql.conf`.
    pub settings: &'a [(&'a str, &'a str)],
    /// The directory of the server's programs; `None` looks in the usual places. An existing cluster needs the same again.
    pub programs: Option<&'a Path>,
}

/// Who may connect to a cluster, always from this machine only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Users with the password.
    Password,
    /// Everybody.
    Trust,
}

/// A cluster, locked for this process as long as this lives.
#[derive(Debug)]
pub struct Cluster {
    home: Home,
    binaries: Binaries,
    passfile: Passfile,
    access: Access,
    _lock: Lock,
}

impl Cluster {
    /// The cluster that is kept in `dir`; makes both where they do not exist yet.
    pub async fn open(dir: &Path, options: &Options<'_>) -> Result<Self, Error> {
        let account = Account::for_cluster(&dir.join("cluster"))?;
        create_dir(dir, if account.is_switched() { 0o711 } else { 0o700 })?;
        account.check(dir)?;
        let installed = match options.programs {
            Some(dir) => Binaries::in_dir(dir, &account).await?,
            None => Binaries::installed(&account).await?,
        };
        let home = Home::at(dir, account, &installed[0].postgres()).await?;
        let lock = Lock::acquire(&home.lock(), home.dir())?;
        let exists = home.data().exists();
        let binaries = if exists { choose(installed, home.data())? } else { installed[0].clone() };
        let passfile = Passfile::open(home.dir())?;
        let cluster = Self { home, binaries, passfile, access: options.access, _lock: lock };
        if !exists {
            cluster.init(options).await?;
        } else if cluster.passfile.is_new {
            server::end_leftover(cluster.home.data()).await?;
            let change = format!("ALTER ROLE {NAME} PASSWORD '{}'", cluster.passfile.password);
            cluster.execute_alone(cluster.home.data(), &change).await?;
        }
        Ok(cluster)
    }

    /// Starts the server and waits until it accepts connections. A leftover server on this cluster is ended first. The port is
    /// the previous one if it is still free.
    pub async fn start(&self) -> Result<Server, Error> {
        self.start_on(|| Ok((self.home.port()?, false))).await
    }

    /// Starts the server again on the `port` that it had, which clients know; if another program has it now, on its socket only.
    pub(super) async fn start_again(&self, port: u16) -> Result<Server, Error> {
        if !self.home.data().exists() {
            return Err(Error::Gone { data: self.home.data().to_owned() });
        }
        self.start_on(|| {
            let sockets_only = !is_free(port);
            if sockets_only {
                let text = "until forebay's next start, PostgreSQL can only be reached by its socket";
                warn!(port, "another program uses the port: {text}");
            }
            Ok((port, sockets_only))
        })
        .await
    }

    async fn start_on(&self, port: impl Fn() -> Result<(u16, bool), Error>) -> Result<Server, Error> {
        let began = Instant::now();
        loop {
            server::end_leftover(self.home.data()).await?;
            let (port, sockets_only) = port()?;
            match Server::start(&self.home, &self.binaries, port, sockets_only).await {
                Err(Error::Died { tail, .. }) if passes(&tail) && began.elapsed() < PASSING_LIMIT => {
                    if tail.contains(IN_USE) && began.elapsed() >= ORPHANS_LIMIT {
                        server::end_orphans(self.home.data());
                    }
                    sleep(PASSING_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// PostgreSQL's own directory.
    pub(super) fn data(&self) -> &Path {
        self.home.data()
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.home.log()
    }

    /// The version of the server, for instance `15.18`.
    pub fn version(&self) -> &str {
        self.binaries.version()
    }

    /// The password of the cluster's owner, if connecting needs one.
    pub fn password(&self) -> Option<&str> {
        (self.access == Access::Password).then_some(&*self.passfile.password)
    }

    /// The file with the password, in libpq's format.
    pub fn passfile(&self) -> &Path {
        &self.passfile.path
    }

    /// Makes the cluster under another name and renames it once it is complete, so that an interruption only leaves a directory
    /// to remove. The name is a new one each time: an `initdb` that outlived its forebay may still be writing to the last one.
    async fn init(&self, options: &Options<'_>) -> Result<(), Error> {
        let data = self.home.data().display();
        info!(version = self.version(), "making a private PostgreSQL cluster in {data}");
        self.remove_interrupted();
        let new = self.home.server_dir().join(format!("{NEW}{:08x}", fastrand::u32(..)));
        DirBuilder::new().mode(0o700).create(&new).map_err(Error::io("create", &new))?;
        let password = new.join("password");
        write_private(&password, &self.passfile.password)?;
        self.home.account().own(&password)?;
        // From here on that user can replace everything in the directory.
        self.home.account().own(&new)?;
        let data = new.join("cluster");
        self.initdb(&password, &data, options).await?;
        append_settings(&new, options)?;
        self.execute_alone(&data, &format!("CREATE DATABASE {NAME}")).await?;
        fs::rename(&data, self.home.data()).map_err(Error::io("rename", &data))?;
        // Before anything is committed in it: if a power failure undid the rename, the cluster would be removed as a leftover.
        let synced = File::open(self.home.server_dir()).and_then(|dir| dir.sync_all());
        synced.map_err(Error::io("write", self.home.server_dir()))?;
        self.remove_interrupted();
        Ok(())
    }

    /// Runs `initdb` for `data`, with the password in the file `password`.
    async fn initdb(&self, password: &Path, data: &Path, options: &Options<'_>) -> Result<(), Error> {
        let initdb = |locale: &str| {
            let mut command = self.home.account().command(self.binaries.initdb());
            command.arg("-D").arg(data).arg("--pwfile").arg(password);
            command.args(["--username", NAME, "--encoding=UTF8", "--data-checksums", "--locale", locale]);
            command.args(["--auth", if options.access == Access::Trust { "trust" } else { "scram-sha-256" }]);
            if !options.durable {
                command.arg("--no-sync");
            }
            run(command, "", INIT_LIMIT)
        };
        match initdb("C.UTF-8").await {
            // Not every system has it. C sorts the same, but knows upper and lower case of ASCII only.
            Err(Error::Program { output, .. }) if output.contains("locale") => initdb("C").await.map(drop),
            other => other.map(drop),
        }
    }

    /// Executes one statement in the cluster at `data` while no server runs on it, which needs neither password nor client.
    async fn execute_alone(&self, data: &Path, statement: &str) -> Result<(), Error> {
        let mut command = self.home.account().command(self.binaries.postgres());
        command.args(["--single", "-c", "exit_on_error=on", "-D"]).arg(data).arg("postgres");
        run(command, &format!("{statement}\n"), INIT_LIMIT).await.map(drop)
    }

    /// Removes leftovers of interrupted attempts to make a cluster. Failure to remove one does no harm.
    fn remove_interrupted(&self) {
        for entry in fs::read_dir(self.home.server_dir()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(NEW) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The binaries that fit the existing cluster in `data`.
fn choose(installed: Vec<Binaries>, data: &Path) -> Result<Binaries, Error> {
    let path = data.join("PG_VERSION");
    let wanted = fs::read_to_string(&path).map_err(Error::io("read", &path))?.trim().to_owned();
    let majors: Vec<String> = installed.iter().map(|binaries| binaries.major().to_string()).collect();
    let fitting = installed.into_iter().zip(&majors).find(|(_, major)| **major == wanted);
    fitting.map(|(binaries, _)| binaries).ok_or_else(|| Error::OtherVersion {
        data: data.to_owned(),
        wanted,
        installed: majors.join(", "),
    })
}

/// Appends the settings to `postgresql.conf` of the cluster in `new`, where they override earlier ones.
fn append_settings(new: &Path, options: &Options<'_>) -> Result<(), Error> {
    let volatile: &[_] = if options.durable { &[] } else { &[("fsync", "off"), ("full_page_writes", "off")] };
    let lines =
        options.settings.iter().chain(volatile).fold("\n# By forebay\n".to_owned(), |text, (name, value)| {
            text + &format!("{name} = '{}'\n", value.replace('\'', "''"))
        });
    let append = || own::append(new, "cluster", "postgresql.conf")?.write_all(lines.as_bytes());
    append().map_err(Error::io("write", &new.join("cluster/postgresql.conf")))
}

/// Whether a server that ended with these messages may start a moment later: the port was taken between choosing and using it,
/// the processes of a killed server have not noticed yet, or another server was starting.
fn passes(tail: &str) -> bool {
    ["could not bind", IN_USE, "lock file \"postmaster.pid\" already exists"]
        .iter()
        .any(|reason| tail.contains(reason))
}
