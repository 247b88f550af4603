//! PostgreSQL for the tests: real, of the run's own, and gone with it.
//!
//! [`database`] gives a test a database of its own in a cluster that all tests of the process share.
//! [`Postgres::start`] gives it a cluster of its own, to stop, kill and start again.
//!
//! A static is never dropped and a test may panic, so no cluster relies on the tests for its end: a watchdog outside
//! of the process sees it end, however it ends, and clears away all of its clusters. Should the watchdog
//! have been killed as well, the next run does.

use std::env;
use std::fs::{self, File, OpenOptions, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use forebay::embedded::{Access, Cluster, Options, Server, Stop};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// Where runs have their directories: short enough for sockets, and open to the user that the server runs as.
const PLACE: &str = "/tmp";
/// What their names begin with.
const PREFIX: &str = "forebay-test-";

/// Ends the servers of the run in `$1` and removes it, once standard input has come to its end.
const CLEAR: &str = r#"
read -r _
for file in "$1"/*/cluster/postmaster.pid; do
    pid=$(head -n 1 "$file" 2>/dev/null) && [ -n "$pid" ] || continue
    # The number may have been used again.
    arguments=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || ps -o args= -p "$pid")
    case $arguments in *"$1/"*) kill -QUIT "$pid" ;; esac
done
# So is a network of a test that was killed.
ip netns del "${1##*/}" 2>/dev/null
# Where a test that fills a disk was killed, the disk is still mounted.
umount -l "$1"/*/cluster/small 2>/dev/null
# A server that has yet to end may still be writing. The lock goes last: with it, the next run can try once more.
tries=100
while [ "$tries" -gt 0 ]; do
    rm -rf "$1"/*/ && rm -rf "$1" && break
    tries=$((tries - 1))
    sleep 0.2
done
"#;

const TEST_SETTINGS: [(&str, &str); 4] =
    [("max_connections", "200"), ("shared_buffers", "32MB"), ("timezone", "UTC"), ("log_checkpoints", "off")];

/// Where `./dev` puts the newest PostgreSQL.
const NEWEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/postgresql");
/// Set to a directory that `./dev` has put a PostgreSQL into, this has all tests run on that one.
const CHOSEN: &str = "FOREBAY_TEST_POSTGRESQL";

static RUN: LazyLock<Run> = LazyLock::new(Run::begin);
static SHARED: OnceCell<Postgres> = OnceCell::const_new();
/// The programs of the newest PostgreSQL, where it is there.
static NEWEST_PROGRAMS: LazyLock<Option<PathBuf>> = LazyLock::new(|| programs_in(NEWEST));
/// The programs of the one that was chosen, if one was.
static CHOSEN_PROGRAMS: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let made = env::var(CHOSEN).ok()?;
    let programs = programs_in(&made);
    Some(programs.unwrap_or_else(|| {
        panic!("there is no PostgreSQL in {made}; ./dev newest and ./dev oldest fetch one")
    }))
});
/// A cluster that was made and never started, to be copied: `initdb` is what takes the time.
static TEMPLATE: OnceCell<PathBuf> = OnceCell::const_new();

/// A database of the test's own in the shared cluster.
pub async fn database() -> Database {
    SHARED.get_or_init(Postgres::start).await.database().await
}

/// A database.
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
    dsn: String,
    address: SocketAddr,
}

impl Database {
    /// The connection string, through the Unix socket. It holds after the server was started again.
    pub fn dsn(&self) -> &str {
        &self.dsn
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's address for connections over TCP, to put something in between.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connection string over TCP by way of `address`.
    pub fn dsn_by_way_of(&self, address: SocketAddr) -> String {
        let (host, port) = (address.ip(), address.port());
        format!("host={host} port={port} user={} dbname={}", forebay::embedded::NAME, self.name)
    }

    /// A new connection. It ends with the client.
    pub async fn connect(&self) -> Client {
        connect(&self.dsn).await
    }
}

/// A cluster. Everybody on this machine may connect; nothing in it survives the machine.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    cluster: Cluster,
    server: Option<Server>,
    dsn: String,
    address: SocketAddr,
}

impl Postgres {
    /// Starts a cluster that is a copy of the template, which takes about a third of a second.
    pub async fn start() -> Self {
        let dir = RUN.directory();
        let template = TEMPLATE.get_or_init(make_template).await;
        let copied = Command::new("cp").arg("-a").arg(template).arg(&dir).status().expect("cp");
        assert!(copied.success(), "a copy of the template");
        Self::start_in(&dir, &options(&TEST_SETTINGS, false), &[]).await
    }

    /// A new cluster of the newest PostgreSQL; `None` where that is not there, which it must be in CI.
    pub async fn newest() -> Option<Self> {
        let programs = NEWEST_PROGRAMS.as_deref();
        assert!(
            programs.is_some() || env::var_os("CI").is_none(),
            "{NEWEST} is missing; ./dev test makes it"
        );
        let options = Options { programs: Some(programs?), ..options(&TEST_SETTINGS, false) };
        Some(Self::start_in(&RUN.directory(), &options, &[]).await)
    }

    /// The same, with a certificate and its key in PEM, so that the server speaks TLS.
    pub async fn start_with_tls(certificate: &str, key: &str) -> Self {
        let settings = [&TEST_SETTINGS, &[("ssl", "on")][..]].concat();
        Self::start_with(&settings, &[("server.crt", certificate), ("server.key", key)], false).await
    }

    /// The same, and who comes by TLS needs a certificate of their own by `authority`, with the user's name, and the password `secret`.
    pub async fn start_with_certificates(certificate: &str, key: &str, authority: &str) -> Self {
        let own = [("ssl", "on"), ("ssl_ca_file", "root.crt"), ("password_encryption", "scram-sha-256")];
        let access = "local all all trust\nhostnossl all all 127.0.0.1/32 trust\nhostssl all all samehost scram-sha-256 clientcert=verify-full\n";
        let files = [
            ("server.crt", certificate),
            ("server.key", key),
            ("root.crt", authority),
            ("pg_hba.conf", access),
        ];
        let made = Self::start_with(&[&TEST_SETTINGS, &own[..]].concat(), &files, false).await;
        let set = format!("ALTER ROLE {} PASSWORD 'secret'", forebay::embedded::NAME);
        connect(&made.dsn).await.batch_execute(&set).await.expect("a password");
        made
    }

    /// One that keeps what it has committed.
    pub async fn start_durable(settings: &[(&str, &str)]) -> Self {
        Self::start_with(settings, &[], true).await
    }

    /// A cluster with settings, and with further files in its data directory.
    async fn start_with(settings: &[(&str, &str)], files: &[(&str, &str)], durable: bool) -> Self {
        Self::start_in(&RUN.directory(), &options(settings, durable), files).await
    }

    async fn start_in(dir: &Path, options: &Options<'_>, files: &[(&str, &str)]) -> Self {
        let cluster = Cluster::open(dir, options).await.expect("a cluster");
        for (name, text) in files {
            write_as_owner(&dir.join("cluster"), name, text);
        }
        let server = cluster.start().await.expect("a server");
        let dsn = server.dsn("postgres", None);
        let address = (Ipv4Addr::LOCALHOST, server.port()).into();
        Self { dir: dir.to_owned(), cluster, server: Some(server), dsn, address }
    }

    /// A standby that follows this server by way of `address`.
    pub async fn standby(&self, address: SocketAddr) -> Self {
        let (dir, primary) = (RUN.directory(), connect(&self.dsn).await);
        primary.query_one("SELECT pg_backup_start('standby', true)::text", &[]).await.expect("a backup");
        let copied = Command::new("cp").arg("-a").arg(&self.dir).arg(&dir).status().expect("cp");
        assert!(copied.success(), "a copy of the primary");
        let stop = "SELECT labelfile FROM pg_backup_stop(false)";
        let label: String = primary.query_one(stop, &[]).await.expect("the backup's end").get(0);
        let (host, port, user) = (address.ip(), address.port(), forebay::embedded::NAME);
        let follow = format!(
            "primary_conninfo = 'host={host} port={port} user={user} sslmode=disable gssencmode=disable'\n"
        );
        let files = [("backup_label", &*label), ("standby.signal", ""), ("postgresql.auto.conf", &follow)];
        Self::start_in(&dir, &options(&TEST_SETTINGS, false), &files).await
    }

    /// The server's first process.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("a running server").pid()
    }

    /// A new, empty database.
    pub async fn database(&self) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        self.database_named(&format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed))).await
    }

    /// A new, empty database of this name.
    pub async fn database_named(&self, name: &str) -> Database {
        let admin = connect(&self.dsn).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        self.existing(name)
    }

    /// The database of this name, which is there.
    pub fn existing(&self, name: &str) -> Database {
        let dsn = self.server.as_ref().expect("a running server").dsn(name, None);
        Database { name: name.to_owned(), dsn, address: self.address }
    }

    /// Stops the server, or kills it, where there is one.
    pub async fn stop(&mut self, stop: Stop) {
        if let Some(server) = self.server.take() {
            server.stop(stop).await.expect("its end");
        }
    }

    /// Starts the server after a stop, at the same address.
    pub async fn start_again(&mut self) {
        assert!(self.server.is_none(), "the server is running");
        let server = self.cluster.start().await.expect("a server");
        assert_eq!(server.port(), self.address.port(), "somebody took the port meanwhile");
        self.server = Some(server);
    }

    /// Whether the server has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.server.as_ref().is_none_or(|server| {
            let status = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap_or_default();
            status.is_empty() || status.contains(") Z ")
        })
    }

    /// Starts the server, which may be unable to.
    pub async fn tries_to_start(&mut self) {
        self.server = self.cluster.start().await.ok();
    }

    /// The same at another port; 0 is any that is free.
    pub async fn start_again_at(&mut self, port: u16) {
        fs::write(self.dir.join("port"), port.to_string()).expect("the port's file");
        let server = self.cluster.start().await.expect("a server");
        assert!(port == 0 || server.port() == port, "somebody took the port meanwhile");
        (self.dsn, self.address) =
            (server.dsn("postgres", None), (Ipv4Addr::LOCALHOST, server.port()).into());
        self.server = Some(server);
    }
}

/// The run's name, for what a test makes outside of its directory.
pub fn run_name() -> String {
    RUN.dir.file_name().expect("a directory with a name").to_string_lossy().into_owned()
}

/// How the tests' clusters are made.
fn options<'a>(settings: &'a [(&'a str, &'a str)], durable: bool) -> Options<'a> {
    let programs = CHOSEN_PROGRAMS.as_deref();
    Options { access: Access::Trust, durable, settings, programs }
}

/// The programs of the PostgreSQL that `./dev` has put into `made`, in a place where the user can get to that the server runs as.
fn programs_in(made: &str) -> Option<PathBuf> {
    if !Path::new(made).join("bin").exists() {
        return None;
    }
    let reachable = RUN.directory();
    let copied = Command::new("cp").args(["-a", &format!("{made}/.")]).arg(&reachable).status().expect("cp");
    assert!(copied.success(), "a copy of {made}");
    Some(reachable.join("bin"))
}

async fn make_template() -> PathBuf {
    let dir = RUN.directory();
    Cluster::open(&dir, &options(&TEST_SETTINGS, false)).await.expect("a cluster");
    dir
}

/// What belongs to this run of the tests.
struct Run {
    dir: PathBuf,
    // Held open for as long as the process lives: the lock tells the next run that this one lives, and the end of
    // the watchdog's input tells the watchdog that it does not.
    _lock: File,
    _watchdog: Child,
}

impl Run {
    fn begin() -> Self {
        clear_dead_runs();
        let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(PLACE);
        let dir = made.expect("a directory for the run").keep();
        fs::set_permissions(&dir, Permissions::from_mode(0o711)).expect("a directory for every user");
        let watchdog = clear(&dir);
        // It gets its name only when it is locked: without the name, nobody takes the run for a dead one.
        let lock = File::create(dir.join("lock.new")).expect("a file to lock");
        lock.lock().expect("a lock");
        fs::rename(dir.join("lock.new"), dir.join("lock")).expect("a lock's name");
        Self { dir, _lock: lock, _watchdog: watchdog }
    }

    /// A directory for one more cluster.
    fn directory(&self) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        self.dir.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// Clears away what runs have left whose watchdog did not get to it.
fn clear_dead_runs() {
    for entry in fs::read_dir(PLACE).expect("a place for tests").flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let dir = entry.path();
        let dead =
            OpenOptions::new().write(true).open(dir.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if dead {
            // Its input ends with the last handle on it, which `wait` closes.
            let _ = clear(&dir).wait();
        }
    }
}

/// Starts what clears the run in `dir` away once its standard input is closed.
fn clear(dir: &Path) -> Child {
    Command::new("sh")
        .args(["-c", CLEAR, "sh"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C is for the tests; this has its work after them.
        .process_group(0)
        .spawn()
        .expect("sh")
}

/// Writes a file that PostgreSQL's user alone may read, as PostgreSQL asks of a key.
fn write_as_owner(data: &Path, name: &str, text: &str) {
    let (path, owner) = (data.join(name), fs::metadata(data).expect("a data directory"));
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
    chown(&path, Some(owner.uid()), Some(owner.gid())).expect("its owner");
}

async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}
