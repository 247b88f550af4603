//! A small machine. What must hold: forebay runs within what it has.

use std::process::Command;

use support::forebay::{Forebay, arguments, command};
use support::postgres::database;
use tokio::net::TcpStream;

use crate::chance::either;
use crate::scene::Scene;

/// One processor, 64 open files, 2 GiB of addresses; and, where that is permitted, nothing that can be written to.
const SMALL: &str = r#"ulimit -n 64; ulimit -v 2097152; exec taskset -c 0 "$0" "$@""#;
const READ_ONLY: &str = "mount --make-rprivate / && mount -o remount,bind,ro /; ";

/// Fault 44. Scenario: a machine that has little of everything, more connections than it can have, and the load. Promise:
/// it starts, says what it lacks, and serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_machine() {
    let database = database().await;
    let read_only =
        Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|done| done.success());
    let (program, script) = match read_only {
        true => ("unshare", [READ_ONLY, SMALL].concat()),
        false => ("env", SMALL.to_owned()),
    };
    let mut small = tokio::process::Command::new(program);
    small.args(if read_only { &["--mount", "sh", "-c"][..] } else { &["sh", "-c"][..] }).arg(script);
    small.arg(command().as_std().get_program()).args(arguments(&[]));
    small.env("DATABASE_URL", database.dsn()).kill_on_drop(true);
    let forebay = Forebay::spawn(small).await;
    forebay.becomes_ready().await;
    let scene = Scene::on(forebay, &database).await;
    let address = scene.forebay.endpoint();
    let address = address.strip_prefix("http://").unwrap();
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(address).await.expect("it listens"));
    }
    scene.flushes(either(4_000, 100_000)).await;
    assert!(scene.forebay.open_files() <= 64);
    drop(idle);
    let recovery = scene.recovers().await;
    let fault = format!("fault 44, small machine, {}", if read_only { "read-only" } else { "not read-only" });
    let account = scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.copies + account.rejected + account.unanswered, 0);
}
