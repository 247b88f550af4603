//! The private PostgreSQL as a whole, with a real one.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Pid;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::account::Account;
use super::process::serves;
use super::*;

/// A directory that every user can enter, whatever the umask.
fn place() -> TempDir {
    temporary(0o711)
}

fn temporary(mode: u32) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
    place
}

async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Writes one more row into a table that is made with the first, and counts the rows.
async fn add_row(embedded: &Embedded) -> i64 {
    let client = connect(&embedded.dsn()).await;
    client
        .batch_execute("CREATE TABLE IF NOT EXISTS kept (); INSERT INTO kept DEFAULT VALUES")
        .await
        .unwrap();
    client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0)
}

async fn setting(client: &Client, name: &str) -> String {
    client.query_one("SELECT current_setting($1)", &[&name]).await.unwrap().get(0)
}

fn is_running(pid: u32, dir: &Path) -> bool {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    serves(pid, &fs::canonicalize(dir).unwrap().join("cluster"))
}

#[tokio::test]
async fn keeps_data_and_port_from_run_to_run() {
    let place = place();
    let dir = place.path().join("deep/.forebay");
    let first = Embedded::start(&dir).await.unwrap();
    assert_eq!(add_row(&first).await, 1);
    let (pid, port, dsn) = (first.server.pid(), first.server.port(), first.dsn());
    assert!(is_running(pid, &dir));
    first.stop().await.unwrap();
    assert!(!is_running(pid, &dir));

    // Kept though the password's file was lost.
    fs::remove_file(dir.join("pgpass")).unwrap();
    let second = Embedded::start(&dir).await.unwrap();
    assert_eq!(add_row(&second).await, 2);
    assert_eq!(second.server.port(), port);
    assert_ne!(second.dsn(), dsn, "a new password");
    second.stop().await.unwrap();

    // And though the port was given away.
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let third = Embedded::start(&dir).await.unwrap();
    assert_eq!(add_row(&third).await, 3);
    assert_ne!(third.server.port(), port);
    third.stop().await.unwrap();
}

#[tokio::test]
async fn is_private_durable_and_open_to_psql() {
    let place = place();
    let embedded = Embedded::start(place.path()).await.unwrap();
    let client = connect(&embedded.dsn()).await;
    for (name, value) in [
        ("listen_addresses", "127.0.0.1"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("max_connections", "30"),
    ] {
        assert_eq!(setting(&client, name).await, value, "{name}");
    }

    let port = embedded.server.port();
    for host in ["127.0.0.1".to_owned(), embedded.server.socket_dir().display().to_string()] {
        let dsn = format!("host={host} port={port} user=forebay dbname=forebay password=guessed");
        let error = tokio_postgres::connect(&dsn, NoTls).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "28P01");
    }

    let line = format!("{} -Atc 'SELECT current_user'", embedded.psql_command());
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "forebay\n", "{line}: {output:?}");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_forebay_is_refused() {
    let place = place();
    let first = Embedded::start(place.path()).await.unwrap();
    let refused = Embedded::start(place.path()).await.unwrap_err();
    let Error::Locked { dir, pid } = refused else { panic!("{refused}") };
    assert_eq!((dir, pid), (fs::canonicalize(place.path()).unwrap(), std::process::id().to_string()));
    assert_eq!(add_row(&first).await, 1, "the first is untouched");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn recovers_from_kills_of_the_server_and_of_forebay() {
    let place = place();
    let first = Embedded::start(place.path()).await.unwrap();
    let port = first.server.port();
    assert_eq!(add_row(&first).await, 1);
    let Embedded { server, cluster, .. } = first;
    server.stop(Stop::Kill).await.unwrap();
    drop(cluster);

    let second = Embedded::start(place.path()).await.unwrap();
    assert_eq!(add_row(&second).await, 2);
    let Embedded { server, cluster, .. } = second;
    let left = server.pid();
    // What SIGKILL does to forebay: nothing of it runs any more, and the kernel takes the lock back.
    std::mem::forget(server);
    drop(cluster);
    assert!(is_running(left, place.path()));

    let third = Embedded::start(place.path()).await.unwrap();
    assert!(!is_running(left, place.path()));
    assert_eq!(add_row(&third).await, 3);
    assert_eq!(third.server.port(), port);

    // Dropped without a stop, for instance in a panic.
    let left = third.server.pid();
    drop(third);
    let fourth = Embedded::start(place.path()).await.unwrap();
    assert!(!is_running(left, place.path()));
    assert_eq!(add_row(&fourth).await, 4);
    fourth.stop().await.unwrap();
}

#[tokio::test]
async fn an_interrupted_first_start_is_cleared_away() {
    let place = place();
    let left = place.path().join("cluster.new.0badf00d");
    fs::create_dir_all(left.join("cluster/base")).unwrap();
    fs::write(left.join("cluster/PG_VERSION"), "15\n").unwrap();
    let embedded = Embedded::start(place.path()).await.unwrap();
    assert_eq!(add_row(&embedded).await, 1);
    embedded.stop().await.unwrap();
    let names =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "run").collect();
    names.sort();
    assert_eq!(names, ["cluster", "lock", "pgpass", "port", "postgresql.log"]);
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_is_in_nobodys_way() {
    let place = place();
    Embedded::start(place.path()).await.unwrap().stop().await.unwrap();
    let data = place.path().join("cluster");
    let account = Account::for_cluster(&data).unwrap();
    let mut stranger = account.command("sleep");
    stranger.arg("600").stdout(Stdio::null()).stderr(Stdio::null());
    let mut stranger = tokio::process::Command::from(stranger).kill_on_drop(true).spawn().unwrap();
    let pid = stranger.id().unwrap();
    fs::write(data.join("postmaster.pid"), format!("{pid}\n{}\n1\n", data.display())).unwrap();
    account.own(&data.join("postmaster.pid")).unwrap();
    let embedded = Embedded::start(place.path()).await.unwrap();
    assert_eq!(add_row(&embedded).await, 1);
    embedded.stop().await.unwrap();
    assert_eq!(stranger.try_wait().unwrap(), None, "it still runs");
}

#[tokio::test]
async fn says_why_it_cannot_start() {
    let place = place();
    Embedded::start(place.path()).await.unwrap().stop().await.unwrap();
    let conf = place.path().join("cluster/postgresql.conf");
    let good = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{good}\nno_such_setting = 1\n")).unwrap();
    let error = Embedded::start(place.path()).await.unwrap_err();
    assert!(matches!(error, Error::Died { .. }) && error.to_string().contains("no_such_setting"), "{error}");
    fs::write(&conf, good).unwrap();

    fs::write(place.path().join("cluster/PG_VERSION"), "12\n").unwrap();
    let error = Embedded::start(place.path()).await.unwrap_err().to_string();
    assert!(error.contains("made by PostgreSQL 12") && error.contains("postgresql-12"), "{error}");
}

#[tokio::test]
async fn a_path_that_does_not_suit_sockets_will_do() {
    let place = place();
    let dir = place.path().join("it's a long, long name ".repeat(5));
    let embedded = Embedded::start(&dir).await.unwrap();
    assert_eq!(add_row(&embedded).await, 1);
    let sockets = embedded.server.socket_dir().to_owned();
    let line = format!("{} -Atc 'SELECT 1'", embedded.psql_command());
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{line}: {output:?}");
    embedded.stop().await.unwrap();
    assert!(!sockets.exists(), "nothing is left in {}", sockets.display());
}

#[tokio::test]
async fn a_directory_out_of_the_servers_reach_keeps_its_mode() {
    let outer = temporary(0o700);
    let dir = outer.path().join(".forebay");
    let first = Embedded::start(&dir).await.unwrap();
    assert_eq!(add_row(&first).await, 1);
    assert!(Embedded::start(&dir).await.is_err(), "it is locked");
    first.stop().await.unwrap();
    let second = Embedded::start(&dir).await.unwrap();
    assert_eq!(add_row(&second).await, 2);
    second.stop().await.unwrap();
    assert_eq!(fs::metadata(outer.path()).unwrap().permissions().mode() & 0o777, 0o700);

    // Only another user than forebay's cannot get there.
    let link = fs::read_link(dir.join("cluster"));
    assert_eq!(link.is_ok(), rustix::process::geteuid().is_root());
    if let Ok(elsewhere) = link {
        fs::remove_dir_all(elsewhere.parent().unwrap()).unwrap();
    }
}

#[test]
fn words_are_quoted_for_the_shell() {
    assert_eq!(shell_word("/a/b-c.d_1"), "/a/b-c.d_1");
    assert_eq!(shell_word("/it's here"), r"'/it'\''s here'");
    assert_eq!(shell_word("$(x)"), "'$(x)'");
}

/// Whether the tests run as root, which is where a directory of others matters; else it says that they do not.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("left out: this takes root");
    }
    is_root
}

#[tokio::test]
async fn root_is_not_misled_in_a_directory_of_others() {
    if !is_root() {
        return;
    }
    let (place, victim) = (place(), temporary(0o700));
    let victim = victim.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    let links = ["lock", "pgpass", "port", "postgresql.log.1", "postgresql.log"];
    links.iter().for_each(|name| std::os::unix::fs::symlink(&victim, place.path().join(name)).unwrap());
    for (owner, mode) in [(65_534, 0o711), (0, 0o777), (0, 0o1777)] {
        std::os::unix::fs::chown(place.path(), Some(owner), None).unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
        let refused = Embedded::start(place.path()).await.unwrap_err();
        assert!(matches!(refused, Error::NotOurs { .. }), "{owner} {mode:o}: {refused}");
    }
    std::os::unix::fs::chown(place.path(), Some(0), None).unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o711)).unwrap();
    for name in links {
        // The port's file and the old log are replaced, not followed; the others are refused.
        let started = Embedded::start(place.path()).await;
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept", "{name}");
        match started {
            Ok(embedded) => embedded.stop().await.unwrap(),
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{name}: {error}"),
        }
        fs::remove_file(place.path().join(name)).ok();
    }
    let embedded = Embedded::start(place.path()).await.unwrap();
    assert_eq!(
        fs::metadata(place.path().join("postgresql.log")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    embedded.stop().await.unwrap();
    // A link that leads the cluster elsewhere is root's own.
    let elsewhere = temporary(0o711);
    fs::rename(place.path().join("cluster"), elsewhere.path().join("cluster")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("cluster"), place.path().join("cluster")).unwrap();
    std::os::unix::fs::lchown(place.path().join("cluster"), Some(65_534), None).unwrap();
    let refused = Embedded::start(place.path()).await.unwrap_err();
    assert!(matches!(refused, Error::NotOurs { .. }), "{refused}");
}

#[tokio::test]
async fn a_server_is_started_again_by_the_name_that_it_had_though_its_port_is_taken() {
    let place = place();
    let embedded = Embedded::start(&place.path().join(".forebay")).await.unwrap();
    assert_eq!(add_row(&embedded).await, 1);
    let Embedded { server, cluster, restarts } = embedded;
    let (dsn, port) = (server.dsn(NAME, cluster.password()), server.port());
    server.stop(Stop::Kill).await.unwrap();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let server = cluster.start_again(port).await.unwrap();
    let again = Embedded { server, cluster, restarts };
    assert_eq!(again.dsn(), dsn);
    assert_eq!(add_row(&again).await, 2);
    again.stop().await.unwrap();
}
