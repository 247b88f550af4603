//! Any text as a configuration: it is understood, or refused in one line that says where. What is understood can be
//! run on.
//!
//! A line `#set path=value` is a `--set` as well; to YAML it is a comment. The environment is always the same.

use forebay::config::{Config, ConfigError, load_texts};
use forebay::postgres::backoff::Backoff;
use forebay::postgres::dsn::Target;

const NAME: &str = "fuzz.yaml";
/// What no message may show of a connection string.
const SECRET: &str = "hunter2";

/// Checks `data`; tells whether it is a configuration.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let sets: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("#set ")).map(str::to_owned).collect();
    let texts = [(NAME.to_owned(), text.to_owned())];
    match load_texts(&texts, &sets, &environment) {
        Ok(config) => {
            check_config(&config);
            check_printed(&config);
            let again = load_texts(&texts, &sets, &environment);
            assert_eq!(again.expect("it was understood before"), config);
            true
        }
        Err(error) => {
            check_error(&error);
            false
        }
    }
}

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "DATABASE_URL" => "postgres://forebay:hunter2@127.0.0.1/logs?sslmode=require",
        "EMPTY" => "",
        "NUMBER" => "17",
        "DURATION" => "1.5s",
        "LIST" => "[1, 2]",
        "DOLLARS" => "a$$b${env:NUMBER}",
        _ => return None,
    };
    Some(value.to_owned())
}

/// One line that begins with the place: file, line and column, or the `--set`, or the key.
fn check_error(error: &ConfigError) {
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    let place = match error {
        ConfigError::Yaml(_) => [NAME, "--set "].iter().any(|place| message.starts_with(place)),
        ConfigError::Set(_) => message.starts_with("--set "),
        ConfigError::Key(_) => message.split_once(": ").is_some_and(|(key, _)| !key.is_empty()),
        ConfigError::Read { .. }
        | ConfigError::NotText { .. }
        | ConfigError::Unset(_)
        | ConfigError::Remote(_) => false,
    };
    assert!(place, "{message:?}");
    if message.starts_with("exporters.postgres.dsn: ") {
        assert!(!message.contains(SECRET), "{message:?}");
    }
    // Anywhere else a connection string is one by its looks.
    for url in message.split("://").skip(1).filter_map(|rest| rest.split(char::is_whitespace).next()) {
        let password = url.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
        assert!(password.is_none_or(|(_, shown)| shown.ends_with('…')), "{message:?}");
    }
}

/// What is printed is a configuration that means the same, but for what is redacted.
fn check_printed(config: &Config) {
    let yaml = config.to_yaml();
    assert!(is_named(&config.exporter.dsn.text) || !yaml.contains(SECRET), "{yaml}");
    let printed = [(NAME.to_owned(), yaml)];
    match load_texts(&printed, &[], &|_| None) {
        Ok(again) => {
            let redacted = ["exporters.postgres.dsn", "service.telemetry.metrics.readers"];
            let changes = config.changes(&again);
            assert!(
                changes.iter().all(|path| redacted.contains(&path.as_str())),
                "{changes:?} in {printed:?}"
            );
        }
        Err(error) => panic!("{error} in {printed:?}"),
    }
}

fn check_config(config: &Config) {
    let (batch, exporter) = (&config.batch, &config.exporter);
    let most = exporter.sending_queue.queue_size;
    assert!((1..=batch.send_batch_max_size).contains(&batch.send_batch_size), "{batch:?}");
    assert!((1..=most).contains(&batch.send_batch_max_size), "{batch:?} of {most}");
    assert!(config.to_string().contains(&exporter.schema));
    assert!(!format!("{config:?}").contains(SECRET));
    let mut backoff = Backoff::new(exporter.retry_on_failure.clone());
    for _ in 0..9 {
        let _ = backoff.next_wait();
    }
    match Target::parse(&exporter.dsn.text) {
        Ok(target) => {
            assert!(is_named(&exporter.dsn.text) || !format!("{target:?}").contains(SECRET));
        }
        Err(error) => assert!(!error.to_string().contains(SECRET), "{error}"),
    }
}

/// Whether a host or another name of this connection string is called like the secret. They are shown.
fn is_named(dsn: &str) -> bool {
    let as_password = [format!(":{SECRET}@"), format!("password={SECRET}")];
    let passwords: usize = as_password.iter().map(|place| dsn.matches(place).count()).sum();
    dsn.matches(SECRET).count() > passwords
}
