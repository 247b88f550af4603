//! What a service manager hears, on a socket such as systemd's.

use std::os::unix::net::UnixDatagram;

use support::PATIENCE;
use support::forebay::{Forebay, arguments, command};
use support::postgres::database;
use support::records::numbered_request;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

const NOWHERE: &str = "host=127.0.0.1 port=1 user=nobody";

/// The socket, and who is told of it.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, dir }
    }

    /// A command line of forebay that tells this manager.
    fn command(&self, dsn: &str, sets: &[&str]) -> tokio::process::Command {
        let mut command = command();
        command.env("DATABASE_URL", dsn).env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command.args(arguments(sets));
        command
    }

    /// The next message, line by line.
    async fn hears(&self) -> Vec<String> {
        let socket = self.socket.try_clone().unwrap();
        let message = spawn_blocking(move || {
            let mut message = [0; 4096];
            let length = socket.recv(&mut message).expect("a message comes");
            String::from_utf8(message[..length].to_vec()).unwrap()
        });
        message.await.unwrap().lines().map(str::to_owned).collect()
    }

    /// The next message that is no sign of life.
    async fn hears_of_a_change(&self) -> Vec<String> {
        loop {
            let message = self.hears().await;
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }
}

/// Scenario: a start, two reloads and an end, as `Type=notify` and `Type=notify-reload` want to hear of them. Guarantee:
/// ready once the ports take records; each reload from its beginning, with the time, to its end; then the end.
#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_becomes_of_it() {
    let manager = Manager::new();
    let database = database().await;
    let forebay = Forebay::spawn(manager.command(database.dsn(), &[])).await;
    assert_eq!(manager.hears().await, ["READY=1"]);
    forebay.sender().await.send(numbered_request(0..7)).await.unwrap();

    let mut before = 0;
    for _ in 0..2 {
        forebay.signal("HUP").await;
        let message = manager.hears().await;
        assert_eq!(message[0], "RELOADING=1", "{message:?}");
        let at: u64 = message[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(at > before, "{at} is later than {before}");
        before = at;
        assert_eq!(manager.hears().await, ["READY=1"]);
    }
    forebay.settles().await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert_eq!(manager.hears().await, ["STOPPING=1"]);
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "nobody has asked for signs of life");
}

/// Scenario: signs of life are asked for, and forebay is asked to end with records that it cannot write. Guarantee: they
/// come from the start on, and while it drains as well, so that a long drain is not taken for a hang.
#[tokio::test(flavor = "multi_thread")]
async fn it_gives_signs_of_life_to_its_end() {
    let manager = Manager::new();
    let mut command = manager.command(NOWHERE, &["exporters.postgres.shutdown_timeout=1s"]);
    command.env("WATCHDOG_USEC", "100000");
    let forebay = Forebay::spawn(command).await;
    assert_eq!(manager.hears_of_a_change().await, ["READY=1"]);
    for _ in 0..5 {
        assert_eq!(manager.hears().await, ["WATCHDOG=1"]);
    }
    forebay.sender().await.send(numbered_request(0..7)).await.unwrap();
    forebay.signal("TERM").await;
    assert_eq!(manager.hears_of_a_change().await, ["STOPPING=1"]);
    for _ in 0..5 {
        assert_eq!(manager.hears().await, ["WATCHDOG=1"]);
    }
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(1), "what could not be written shows in the status: {said:#?}");
}

/// Scenario: a port is taken by somebody else. Guarantee: it never says that it is ready.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_ports_it_is_not_ready() {
    let manager = Manager::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("receivers.otlp.protocols.grpc.endpoint={}", taken.local_addr().unwrap());
    let ended = manager.command(NOWHERE, &[&port]).output();
    let output = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap();
    assert_eq!(output.status.code(), Some(2));
    // It has ended, so that what it has said is there.
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err());
}
