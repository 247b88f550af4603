//! Configurations that forebay must refuse: in one line, with status 2, before anything is begun.

use std::path::Path;
use std::process::{Output, Stdio};

use support::PATIENCE;
use support::forebay::{arguments, command};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// What no message may show.
const SECRET: &str = "hunter2";

/// Runs forebay in `dir` until it ends.
async fn run(dir: &Path, environment: &[(&str, &str)], arguments: &[String]) -> Output {
    let mut command = command();
    command.current_dir(dir).envs(environment.iter().copied()).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    ended.unwrap_or_else(|_| panic!("{arguments:?}: it was not refused")).expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

/// The one line of a refusal. Nothing else was said, and nothing was made in `dir`.
fn refusal(dir: &Path, output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    assert!(output.stdout.is_empty(), "nothing but the refusal");
    assert!(!said.contains(SECRET), "a secret: {said}");
    let made: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(made.is_empty(), "it has made {made:?}");
    said.strip_prefix("forebay: ").expect("it says who speaks").trim_end().to_owned()
}

/// What forebay and `forebay validate` say, which is the same.
async fn refused(environment: &[(&str, &str)], own: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    let own: Vec<_> = own.iter().map(|argument| (*argument).to_owned()).collect();
    let running = [arguments(&[]), own.clone()].concat();
    let checking = [vec!["validate".to_owned()], running.clone()].concat();
    let ran = refusal(dir.path(), &run(dir.path(), environment, &running).await);
    let checked = refusal(dir.path(), &run(dir.path(), environment, &checking).await);
    assert_eq!(ran, checked, "validate has the same verdict");
    let printing = [vec!["print-config".to_owned()], running].concat();
    let printed = refusal(dir.path(), &run(dir.path(), environment, &printing).await);
    assert_eq!(ran, printed, "and so has print-config");
    ran
}

async fn assert_refused(environment: &[(&str, &str)], own: &[&str], parts: &[&str]) {
    let said = refused(environment, own).await;
    for part in parts {
        assert!(said.contains(part), "{own:?}: {part:?} is not in: {said}");
    }
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_the_nearest_one() {
    let set = ["--set", "exporters.postgres.poolsize=4"];
    assert_refused(&[], &set, &["exporters.postgres.poolsize", "unknown key", "pool_size"]).await;
}

#[tokio::test]
async fn a_wrong_type_is_refused_with_what_is_allowed() {
    let set = ["--set", "exporters.postgres.sending_queue.queue_size=lots"];
    assert_refused(&[], &set, &["exporters.postgres.sending_queue.queue_size", "lots", "whole number"]).await;
    let variable = [("LOG_BUFFER_MAX_ENTRIES", "ten")];
    assert_refused(&variable, &[], &["sending_queue.queue_size", "whole number", "LOG_BUFFER_MAX_ENTRIES"])
        .await;
}

#[tokio::test]
async fn a_wrong_unit_is_refused_with_examples() {
    for timeout in ["5", "5 lightyears", "1,5s"] {
        let set = ["--set", &format!("exporters.postgres.timeout={timeout}")];
        assert_refused(&[], &set, &["exporters.postgres.timeout", timeout, "1m30s"]).await;
    }
}

#[tokio::test]
async fn a_missing_file_is_refused_by_its_name() {
    assert_refused(&[], &["--config", "/nowhere/otel.yaml"], &["/nowhere/otel.yaml", "No such file"]).await;
}

#[tokio::test]
async fn a_file_that_is_not_yaml_is_refused_with_the_place() {
    let elsewhere = TempDir::new().unwrap();
    let path = elsewhere.path().join("otel.yaml");
    std::fs::write(&path, "receivers:\n  otlp: [\nexporters:\n").unwrap();
    let name = path.to_str().unwrap();
    let said = refused(&[], &["--config", name]).await;
    assert!(said.starts_with(&format!("{name}:")), "file, line and column: {said}");
}

#[tokio::test]
async fn a_variable_that_is_not_set_is_refused_by_its_name() {
    let set = ["--set", "exporters.postgres.dsn=${env:LOGS_DSN}"];
    assert_refused(&[], &set, &["exporters.postgres.dsn", "LOGS_DSN", "not set"]).await;
}

#[tokio::test]
async fn a_connection_string_that_does_not_parse_is_refused_without_its_secret() {
    let forms = ["`embedded`", "postgresql://user:password@host:5432/database"];
    for (dsn, cure) in [
        ("postgresql://me:hunter2@db:port/logs", &["port: ", "numbers from 1 to 65535"][..]),
        ("postgresql://me:hunter2@db/logs?colour=blue", &["colour: libpq has no such key; remove it"]),
        ("postgresql://me:pass@hunter2@db/logs", &["in a password is written %40", forms[0], forms[1]]),
        ("host=db password='hunter2", &forms),
        ("hunter2", &forms),
    ] {
        let parts = [&["exporters.postgres.dsn"], cure].concat();
        assert_refused(&[("DATABASE_URL", dsn)], &[], &parts).await;
    }
}

#[tokio::test]
async fn a_bad_sslmode_is_refused_with_the_good_ones() {
    let dsn = "host=db password=hunter2 sslmode=maybe";
    let allowed = "disable, prefer, require, verify-ca, verify-full";
    assert_refused(&[("DATABASE_URL", dsn)], &[], &["exporters.postgres.dsn", "sslmode=maybe", allowed])
        .await;
}

#[tokio::test]
async fn a_root_certificate_that_cannot_be_read_is_refused_by_its_name() {
    let dsn = "host=db password=hunter2 sslmode=verify-full sslrootcert=";
    let missing = format!("{dsn}/nowhere/ca.pem");
    assert_refused(&[("DATABASE_URL", &missing)], &[], &["sslrootcert /nowhere/ca.pem", "No such file"])
        .await;
    let empty = format!("{dsn}/dev/null");
    assert_refused(&[("DATABASE_URL", &empty)], &[], &["sslrootcert /dev/null", "certificate"]).await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_refused_by_its_key_and_name() {
    let tls = "receivers.otlp.protocols.grpc.tls";
    let sets =
        ["--set", &format!("{tls}.cert_file=/nowhere/cert.pem"), "--set", &format!("{tls}.key_pem={SECRET}")];
    assert_refused(&[], &sets, &[&format!("{tls}.cert_file"), "/nowhere/cert.pem", "No such file"]).await;
    let sets = ["--set", &format!("{tls}={{}}")];
    assert_refused(&[], &sets, &[&format!("{tls}.cert_file: missing"), "`cert_pem`"]).await;
}

/// Scenario: one of the three ports belongs to somebody else already, on the embedded default. Guarantee: the key
/// is named, and no private PostgreSQL has been made by then.
#[tokio::test]
async fn a_port_in_use_is_refused_by_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let port =
        format!("service.telemetry.metrics.readers.0.pull.exporter.prometheus.port={}", address.port());
    for (key, set) in [
        (
            "receivers.otlp.protocols.grpc.endpoint",
            format!("receivers.otlp.protocols.grpc.endpoint={address}"),
        ),
        ("extensions.health_check.endpoint", format!("extensions.health_check.endpoint={address}")),
        ("service.telemetry.metrics.readers", port),
    ] {
        let dir = TempDir::new().unwrap();
        let said = refusal(dir.path(), &run(dir.path(), &[], &arguments(&[&set])).await);
        for part in [key, &address.to_string(), "in use"] {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        let validate = [vec!["validate".to_owned()], arguments(&[&set])].concat();
        let checked = run(dir.path(), &[], &validate).await;
        assert_eq!(checked.status.code(), Some(0), "that a port is taken just now is not the file's fault");
    }
}

/// Scenario: everything is well, but the database is down. Guarantee: that is no error of the configuration.
#[tokio::test]
async fn a_database_that_is_down_is_not_an_error() {
    let dir = TempDir::new().unwrap();
    let dsn = [("DATABASE_URL", "host=127.0.0.1 port=1 user=me password=hunter2")];
    let checked = run(dir.path(), &dsn, &["validate".to_owned()]).await;
    let said = text(&checked.stdout) + &text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains("valid") && !said.contains(SECRET), "{said}");
}

/// Scenario: the configuration in force is printed, and what is printed is printed again. Guarantee: it is the same, and
/// shows no password.
#[tokio::test]
async fn what_is_printed_is_a_configuration_without_secrets() {
    let dir = TempDir::new().unwrap();
    let dsn = [("DATABASE_URL", "postgres://me:hunter2@db/logs?sslmode=require")];
    let header = "{periodic: {exporter: {otlp: {headers: {key: hunter2}}}}}";
    let sets = format!("service.telemetry.metrics.readers=[{header}]");
    let arguments =
        ["print-config", "--set", &sets, "--set", "processors.batch.timeout=250ms"].map(str::to_owned);
    let printed = run(dir.path(), &dsn, &arguments).await;
    let page = text(&printed.stdout);
    assert_eq!(printed.status.code(), Some(0), "{}", text(&printed.stderr));
    assert!(!page.contains(SECRET), "{page}");
    assert!(page.contains("dsn: postgres://me:[REDACTED]@db/logs?sslmode=require\n"), "{page}");
    assert!(page.contains("    timeout: 250ms\n"), "{page}");
    std::fs::write(dir.path().join("printed.yaml"), &page).unwrap();
    let again = ["print-config", "--config", "printed.yaml"].map(str::to_owned);
    let again = run(dir.path(), &[], &again).await;
    assert_eq!(text(&again.stdout), page, "{}", text(&again.stderr));
}

#[tokio::test]
async fn help_and_version_teach() {
    let dir = TempDir::new().unwrap();
    let help = run(dir.path(), &[], &["--help".to_owned()]).await;
    let page = text(&help.stdout);
    assert_eq!(help.status.code(), Some(0));
    for part in ["DATABASE_URL", "4317", "Exit status", "validate", "schema", "print-config", "--set"] {
        assert!(page.contains(part), "{part} is not in: {page}");
    }
    let version = run(dir.path(), &[], &["-V".to_owned()]).await;
    assert_eq!(text(&version.stdout), format!("forebay {}\n", env!("CARGO_PKG_VERSION")));
    let usage = run(dir.path(), &[], &["--confg".to_owned()]).await;
    assert_eq!(usage.status.code(), Some(2));
    assert!(text(&usage.stderr).contains("--config"), "it names the nearest");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
