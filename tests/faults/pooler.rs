//! PgBouncer between forebay and PostgreSQL. What must hold: in session mode it is as good as none, also when it is
//! restarted; where it is in transaction mode, `forebay doctor` says so.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::eventually;
use support::forebay::run;
use support::postgres::{Database, database};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::chance::either;
use crate::scene::Scene;

/// A running PgBouncer. It ends when this is dropped.
struct Pooler {
    child: Child,
    address: SocketAddr,
    /// What it is started with, and started with again.
    dir: TempDir,
}

impl Pooler {
    async fn start(database: &Database, mode: &str) -> Self {
        // Whoever it runs as has to read it.
        let dir =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let (server, user) = (database.address(), forebay::embedded::NAME);
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {mode}\n",
            server.ip(),
            server.port(),
            free.port(),
            dir.path().join("users").display()
        );
        fs::write(dir.path().join("pgbouncer.ini"), settings).unwrap();
        fs::write(dir.path().join("users"), format!("\"{user}\" \"\"\n")).unwrap();
        let mut pooler = Self { child: Self::spawn(&dir), address: free, dir };
        pooler.listens().await;
        pooler
    }

    fn spawn(dir: &TempDir) -> Child {
        let mut pgbouncer = Command::new("pgbouncer");
        if rustix::process::geteuid().is_root() {
            pgbouncer.args(["-u", "postgres"]);
        }
        pgbouncer.arg(dir.path().join("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        pgbouncer.spawn().expect("pgbouncer is missing; ./dev test installs it")
    }

    async fn listens(&mut self) {
        let child = &mut self.child;
        let address = self.address;
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        eventually("PgBouncer listens", || async { TcpStream::connect(address).await.ok() }).await;
    }

    /// Ends it at once, and starts it again.
    async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.dir);
        self.listens().await;
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fault 26, in session mode. Scenario: PgBouncer is killed and started again under load. Promise: forebay goes on by itself,
/// nothing is lost or stored twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_is_restarted() {
    let database = database().await;
    let mut pooler = Pooler::start(&database, "session").await;
    let scene = Scene::begin(&database, &database.dsn_by_way_of(pooler.address), &[]).await;
    let (times, mut longest) = (either(3, 20), Duration::ZERO);
    for _ in 0..times {
        pooler.restart().await;
        longest = longest.max(scene.recovers().await);
        sleep(either(Duration::ZERO, Duration::from_secs(1))).await;
    }
    let account = scene.ends(&format!("fault 26, PgBouncer killed {times} times"), longest).await;
    assert_eq!(account.lost + account.dead + account.copies, 0);
}

/// Fault 26, in transaction mode. Promise: the doctor tells it from session mode.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_a_poolers_mode() {
    let database = database().await;
    for mode in ["session", "transaction"] {
        let pooler = Pooler::start(&database, mode).await;
        let ran = run(&database.dsn_by_way_of(pooler.address), "doctor --json", &[]).await;
        let found = ran.json().into_iter().find(|finding| finding["check"] == "pooler");
        let text = found.unwrap_or_else(|| panic!("{ran:?}"))["text"].to_string();
        assert!(text.contains(&format!("in {mode} mode is in between")), "{text}");
    }
}
