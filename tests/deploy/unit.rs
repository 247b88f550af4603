//! deploy/systemd/forebay.service, by systemd's own tools, and its command line within its limits.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use forebay::config;
use support::forebay::{Forebay, arguments, command_of};
use support::postgres::database;
use support::records::numbered_request;
use support::stored;
use tempfile::TempDir;

use crate::tools::{file, run, text, tool};

const UNIT: &str = "deploy/systemd/forebay.service";
const BINARY: &str = env!("CARGO_BIN_EXE_forebay");

/// The value of a key that stands once in the unit.
fn value(key: &str) -> String {
    let unit = text(UNIT);
    let values: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0].to_owned()
}

fn seconds(key: &str) -> Duration {
    Duration::from_secs(value(key).strip_suffix('s').unwrap().parse().unwrap())
}

/// Scenario: systemd reads the unit. Guarantee: it has nothing to say about it, and its exposure is under 2.0.
#[test]
fn systemd_finds_nothing_amiss() {
    let Some(analyze) = tool("systemd-analyze") else { return };
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("forebay.service");
    // The binary is not installed here; deploy/systemd is what is looked at.
    fs::write(&copy, text(UNIT).replace("/usr/bin/forebay", BINARY)).unwrap();
    let said = run(&analyze, ["verify", "--man=no", copy.to_str().unwrap()]);
    assert_eq!(said, "", "systemd-analyze verify");
    // The threshold is in tenths; above it the exit status is 1.
    let said = run(&analyze, ["security", "--offline=true", "--threshold=19", file(UNIT).to_str().unwrap()]);
    let level = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    println!("{level}");
}

/// Scenario: the drain takes as long as it may. Guarantee: systemd waits longer before it kills, and its watchdog does not
/// bark at a runtime that is merely busy.
#[test]
fn systemd_waits_for_the_drain() {
    let drain = config::load(&[], &[]).unwrap().exporter.shutdown_timeout.0;
    // Requests under way are finished within the drain. The last answers (1 s), the losses (6 s) and the pages (6 s)
    // come after it, each with a bound of its own.
    assert!(seconds("TimeoutStopSec") > drain + Duration::from_secs(13));
    assert!(seconds("WatchdogSec") >= Duration::from_secs(10));
}

/// The system calls that the unit's filter lets through, as this machine's systemd has them.
fn allowed() -> BTreeSet<String> {
    let unit = text(UNIT);
    let filters: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    let mut allowed = BTreeSet::new();
    for filter in filters {
        let (denied, groups) = filter.strip_prefix('~').map_or((false, filter), |groups| (true, groups));
        for group in groups.split(' ') {
            let calls = calls_of(group);
            assert!(calls.len() > 5, "{group}: {calls:?}");
            if denied {
                allowed.retain(|call| !calls.contains(call));
            } else {
                allowed.extend(calls);
            }
        }
    }
    allowed
}

fn calls_of(group: &str) -> BTreeSet<String> {
    let said = run("systemd-analyze", ["syscall-filter", group]);
    let members = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let members = members.take_while(|line| !line.contains("Not showing unlisted"));
    members
        .filter(|member| *member != group)
        .flat_map(|member| {
            if member.starts_with('@') { calls_of(member) } else { BTreeSet::from([member.to_owned()]) }
        })
        .collect()
}

/// Scenario: the unit's command line and environment, with the files that the package installs; records are taken,
/// written, the configuration is read again, and it ends. Guarantee: it runs on these files, and makes no system call that
/// the unit's filter would refuse.
#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_to_the_system_calls_that_it_is_left() {
    let (Some(strace), Some(_)) = (tool("strace"), tool("systemd-analyze")) else { return };
    let database = database().await;
    let dir = TempDir::new().unwrap();
    fs::copy(file("deploy/systemd/secrets.yaml"), dir.path().join("secrets.yaml")).unwrap();
    let trace = dir.path().join("trace");
    let mut command = command_of(strace.to_str().unwrap());
    command.args(["--follow-forks", "--quiet=all", "--output"]).arg(&trace).arg(BINARY);
    for argument in value("ExecStart").split(' ').skip(1) {
        let argument = argument.replace("${CREDENTIALS_DIRECTORY}", dir.path().to_str().unwrap());
        command.arg(argument.replace("/etc/forebay/config.yaml", file("otel-config.yaml").to_str().unwrap()));
    }
    // A queue on disk makes more calls than one in memory.
    command.env("LOG_BUFFER_STORAGE_DIRECTORY", dir.path().join("queue"));
    let dsn = format!("exporters.postgres.dsn={}", database.dsn());
    command.args(arguments(&[&dsn]));
    let forebay = Forebay::spawn(command).await;
    forebay.becomes_ready().await;
    forebay.sender().await.send(numbered_request(0..100)).await.unwrap();
    forebay.settles().await;
    // strace itself is the child; what it runs is forebay.
    let children = format!("/proc/{0}/task/{0}/children", forebay.pid());
    let pid = fs::read_to_string(children).unwrap().trim().to_owned();
    run("kill", ["-HUP", &pid]);
    run("kill", ["-TERM", &pid]);
    let (status, said) = wait(forebay).await;
    assert_eq!(status, Some(0), "{said:#?}");
    stored(&database).await.assert_holds_each_once(std::slice::from_ref(&(0..100)));

    let trace = fs::read_to_string(trace).unwrap();
    let made: BTreeSet<_> =
        trace.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('(')).collect();
    let made: BTreeSet<_> =
        made.into_iter().map(|(call, _)| call.to_owned()).filter(|call| is_name(call)).collect();
    assert!(made.len() > 20 && made.contains("accept4"), "it was traced: {made:?}");
    let allowed = allowed();
    let refused: Vec<_> = made.difference(&allowed).collect();
    assert_eq!(refused, [""; 0], "calls that the unit refuses");
}

fn is_name(call: &str) -> bool {
    call.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

async fn wait(mut forebay: Forebay) -> (Option<i32>, Vec<String>) {
    let status = forebay.ends().await;
    (status.code(), forebay.said())
}
