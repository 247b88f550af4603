//! The configuration as a whole: what the shipped file and the least of files mean.

mod memory;
mod readers;
mod refusals;
mod retention;
mod round_trip;
mod storage;
mod table;
mod written;

use std::time::Duration;

use super::*;
use crate::buffer::config::{FileStorageConfig, Overflow, QueueConfig};
use crate::exporter::config::Dsn;
use crate::receiver::auth::config::{AuthenticatorConfig, BearerConfig};
use crate::receiver::config::{GrpcConfig, HttpConfig};
use crate::receiver::tls::config::MinVersion;
use crate::values::duration::GoDuration;
use crate::values::secret::Secret;

/// The least that a user has to write.
const MINIMAL: &str = "
receivers: {otlp: }
processors: {batch: }
exporters: {postgres: }
extensions: {health_check: }
service: {extensions: [health_check], pipelines: {logs: {receivers: [otlp], processors: [batch], exporters: [postgres]}}}
";

fn none(_: &str) -> Option<String> {
    None
}

fn of(variables: &[(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
    move |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn defaults() -> Config {
    Config {
        receiver: receiver::config::Config::default(),
        memory: None,
        batch: BatchConfig::default(),
        exporter: exporter::config::Config::default(),
        storage: Some(storage_in(".forebay/queue")),
        health: Some(HealthCheckConfig::default()),
        telemetry: telemetry::config::Config::default(),
    }
}

/// The durable queue in `directory`, with its defaults.
fn storage_in(directory: &str) -> StorageConfig {
    let files = FileStorageConfig { directory: directory.into(), ..FileStorageConfig::default() };
    StorageConfig { files, ..StorageConfig::default() }
}

/// Loads the minimal configuration with `sets` on top.
fn minimal(sets: &[&str], env: Env<'_>) -> Result<Config, String> {
    load_text(&[MINIMAL], sets, env)
}

fn load_text(texts: &[&str], sets: &[&str], env: Env<'_>) -> Result<Config, String> {
    let name = |(index, text): (usize, &&str)| (format!("{index}.yaml"), (*text).to_owned());
    let texts: Vec<_> = texts.iter().enumerate().map(name).collect();
    let sets: Vec<_> = sets.iter().map(|&set| set.to_owned()).collect();
    load_texts(&texts, &sets, env).map_err(|error| error.to_string())
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(load_with(&[], &[], &none).unwrap(), defaults());
}

#[test]
fn the_commented_keys_of_the_shipped_file_are_the_defaults() {
    let uncommented: Vec<String> = source::SHIPPED
        .lines()
        .map(|line| match line.trim_start().strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => line.replacen('#', "", 1),
            _ => line.to_owned(),
        })
        .collect();
    let uncommented = uncommented.join("\n");
    for key in ["max_concurrent_streams", "overflow", "max_elapsed_time", "encoding", "path"] {
        assert!(uncommented.lines().any(|line| line.trim_start().starts_with(&format!("{key}:"))), "{key}");
    }
    assert_eq!(load_text(&[&uncommented], &[], &none).unwrap(), defaults());
}

#[test]
fn the_shipped_file_takes_the_environment() {
    let env = of(&[
        ("DATABASE_URL", "postgres://u:p$$w@h/db?sslmode=disable"),
        ("LOG_BUFFER_ASYNC_ENABLED", "False"),
        ("LOG_BUFFER_MAX_ENTRIES", "50000"),
        ("LOG_BUFFER_BATCH_SIZE", "250"),
        ("LOG_BUFFER_FLUSH_INTERVAL", "0.25"),
        ("LOG_BUFFER_DEDICATED_POOL_SIZE", "4"),
    ]);
    let mut expected = defaults();
    expected.exporter.dsn = Dsn::from("postgres://u:p$$w@h/db?sslmode=disable");
    expected.exporter.pool_size = 4;
    expected.exporter.sending_queue.enabled = false;
    expected.storage = None;
    expected.exporter.sending_queue.queue_size = 50_000;
    expected.batch.send_batch_size = 250;
    expected.batch.timeout = GoDuration(Duration::from_millis(250));
    assert_eq!(load_with(&[], &[], &env).unwrap(), expected);
}

#[test]
fn a_private_store_is_named_or_not() {
    let unset = |config: Config| config.exporter.dsn.unnamed_by().map(str::to_owned);
    let shipped = |variables| unset(load_with(&[], &[], &of(variables)).unwrap());
    assert_eq!(shipped(&[]).as_deref(), Some("DATABASE_URL"));
    assert_eq!(shipped(&[("DATABASE_URL", "\n")]).as_deref(), Some("DATABASE_URL"));
    assert_eq!(shipped(&[("DATABASE_URL", "embedded")]), None);
    assert_eq!(shipped(&[("DATABASE_URL", "postgres://h/db")]), None);
    let key = "exporters.postgres.dsn";
    let own = |sets: &[&str]| unset(minimal(sets, &of(&[("B", "embedded")])).unwrap());
    assert_eq!(own(&[]).as_deref(), Some(key));
    assert_eq!(own(&[&format!("{key}=")]).as_deref(), Some(key));
    assert_eq!(own(&[&format!("{key}=embedded")]), None);
    assert_eq!(own(&[&format!("{key}=${{A:-embedded}}")]).as_deref(), Some("A"));
    assert_eq!(own(&[&format!("{key}=${{A:-${{B}}}}")]), None);
    assert_eq!(own(&[&format!("{key}=${{A:-postgres://h/db}}")]), None, "it has a database");
}

#[test]
fn empty_variables_are_unset_for_the_shipped_file() {
    assert_eq!(load_with(&[], &[], &|_| Some(String::new())).unwrap(), defaults());
}

#[test]
fn components_without_a_value_have_their_defaults() {
    assert_eq!(minimal(&[], &none).unwrap(), defaults());
    let nulls = [
        "receivers.otlp.protocols.grpc=",
        "receivers.otlp.protocols.http=",
        "exporters.postgres.pool_size=",
        "exporters.postgres.sending_queue=",
        "service.telemetry=",
    ];
    assert_eq!(minimal(&nulls, &none).unwrap(), defaults());
}

#[test]
fn a_protocol_that_is_not_named_is_off() {
    let protocols = |text: &str| {
        let set = format!("receivers.otlp.protocols={text}");
        minimal(&[&set], &none).map(|config| config.receiver.protocols)
    };
    let (grpc, http) = (Some(GrpcConfig::default()), Some(HttpConfig::default()));
    assert_eq!(protocols("{grpc: }"), Ok(Protocols { grpc: grpc.clone(), http: None }));
    assert_eq!(protocols("{http: {}}"), Ok(Protocols { grpc: None, http: http.clone() }));
    assert_eq!(protocols(""), Ok(Protocols { grpc, http }), "what is not written has its default");
    let expected = "receivers.otlp.protocols: found none of them, expected grpc, http or both";
    assert_eq!(protocols("{}"), Err(expected.to_owned()));
    let config = minimal(&["receivers.otlp.protocols={http: {endpoint: 'h:1'}}"], &none).unwrap();
    assert!(config.to_string().starts_with("OTLP/HTTP on h:1 -> "), "{config}");
}

#[test]
fn what_service_does_not_name_is_off() {
    let config = minimal(&["service.extensions=[]", "service.pipelines.logs.processors=[]"], &none).unwrap();
    assert_eq!(config.health, None);
    assert_eq!(config.batch.send_batch_size, 1);
    assert_eq!(config.batch.timeout, GoDuration(Duration::ZERO));
}

#[test]
fn later_files_and_sets_win() {
    let overlay = "exporters: {postgres: {schema: app, sending_queue: {overflow: reject}}}";
    let sets = ["exporters::postgres::schema=2024", "service.telemetry.metrics.readers=[]"];
    let config = load_text(&[MINIMAL, overlay], &sets, &none).unwrap();
    let mut expected = defaults();
    expected.exporter.schema = "2024".to_owned();
    expected.exporter.sending_queue = QueueConfig { overflow: Overflow::Reject, ..QueueConfig::default() };
    expected.telemetry.metrics.readers = Vec::new();
    assert_eq!(config, expected);
}

#[test]
fn text_keeps_what_the_environment_says() {
    let env = of(&[("NAME", "007"), ("DSN", "1e3"), ("LEVEL", "warn")]);
    let sets = [
        "exporters.postgres.schema=${env:NAME}",
        "exporters.postgres.dsn=${DSN}",
        "service.telemetry.logs.level=${env:LEVEL}",
    ];
    let config = minimal(&sets, &env).unwrap();
    assert_eq!(config.exporter.schema, "007");
    assert_eq!(config.exporter.dsn.text, "1e3");
    assert_eq!(config.telemetry.logs.level, telemetry::config::Level::Warn);
}

#[test]
fn batch_sizes_agree_with_each_other_and_with_the_queue() {
    let sizes = |sets: &[&str]| {
        let batch = minimal(sets, &none).unwrap().batch;
        (batch.send_batch_size, batch.send_batch_max_size)
    };
    let queue = "exporters.postgres.sending_queue.queue_size=50000";
    let batch = "processors.batch.send_batch_size=20000";
    assert_eq!(sizes(&[queue]), (100, 10_000));
    assert_eq!(sizes(&[queue, batch]), (20_000, 20_000));
    assert_eq!(sizes(&[queue, "processors.batch.send_batch_max_size=0"]), (100, 50_000));
    assert_eq!(sizes(&[batch]), (10_000, 10_000));
    assert_eq!(sizes(&["exporters.postgres.sending_queue.queue_size=50"]), (50, 50));
}

#[test]
fn tls_has_the_collectors_keys() {
    let grpc = "receivers.otlp.protocols.grpc";
    let tls = |sets: &[&str]| {
        let sets: Vec<_> = sets.iter().map(|set| format!("{grpc}.tls.{set}")).collect();
        let config = minimal(&sets.iter().map(String::as_str).collect::<Vec<_>>(), &none)?;
        Ok::<_, String>(config.receiver.protocols.grpc.unwrap().tls.unwrap())
    };
    let config = tls(&["cert_file=a.pem", "key_pem=hunter2", "client_ca_file=ca.pem", "reload_interval=1h"]);
    let config = config.unwrap();
    assert_eq!(config.cert_file, Some("a.pem".into()));
    assert_eq!(config.key_pem.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(config.reload_interval, GoDuration(Duration::from_secs(3600)));
    assert_eq!(config.min_version, MinVersion::Tls12);
    assert!(!format!("{config:?}").contains("hunter2"));
    for version in ["1.3", "'1.3'"] {
        assert_eq!(tls(&[&format!("min_version={version}")]).unwrap().min_version, MinVersion::Tls13);
    }
    let refusal = tls(&["min_version='1.0'"]).unwrap_err();
    assert_eq!(
        refusal,
        format!("{grpc}.tls.min_version: found \"1.0\", expected 1.2 or 1.3; what is older is not safe")
    );
    assert_eq!(
        minimal(&[&format!("{grpc}={{tls: , auth: }}"), "receivers.otlp.protocols.http="], &none).unwrap(),
        defaults()
    );
}

#[test]
fn extensions_have_names_of_their_own() {
    let sets = [
        "extensions.bearertokenauth={token: 12345}",
        "extensions.basicauth/senders={htpasswd: {inline: 'a:hunter2'}}",
        "extensions.basicauth/unused={htpasswd: {file: passwords}}",
        "service.extensions=[basicauth/senders, health_check, bearertokenauth]",
        "receivers.otlp.protocols.grpc.auth.authenticator=basicauth/senders",
    ];
    let config = minimal(&sets, &none).unwrap();
    assert_eq!(config.health, Some(HealthCheckConfig::default()));
    let known: Vec<_> = config.receiver.authenticators.keys().collect();
    assert_eq!(known, ["basicauth/senders", "bearertokenauth"]);
    let AuthenticatorConfig::Bearer(bearer) = &config.receiver.authenticators["bearertokenauth"] else {
        panic!("{config:?}")
    };
    assert_eq!(bearer.token.as_ref().unwrap().expose(), "12345");
    let shown = format!("{config:?}\n{}", config.to_yaml());
    assert!(!shown.contains("hunter2") && !shown.contains("12345"), "{shown}");
    assert!(config.to_yaml().contains("    token: \"[REDACTED]\"\n"), "{shown}");
    let mut other = config.clone();
    let changed = BearerConfig { token: Some(Secret::new("54321")), ..bearer.clone() };
    other.receiver.authenticators.insert("bearertokenauth".to_owned(), AuthenticatorConfig::Bearer(changed));
    assert_eq!(config.changes(&other), ["extensions.bearertokenauth"]);
}

#[test]
fn the_collectors_other_spellings_mean_the_same() {
    let own = minimal(
        &[
            "exporters.postgres.pool_size=4",
            "exporters.postgres.sending_queue={enabled: false, max_bytes: 33554432, queue_size: 16777215}",
            "processors.batch={timeout: 200ms, send_batch_size: 2000, send_batch_max_size: 8000}",
        ],
        &none,
    );
    let queue = "exporters.postgres.sending_queue={num_consumers: 4, wait_for_result: true, sizer: bytes, \
                 queue_size: 33554432, block_on_overflow: false, \
                 batch: {flush_timeout: 200ms, min_size: 2000, max_size: 8000, sizer: items}}";
    let without = ["service.pipelines.logs.processors=[]", "processors="];
    let repeated = ["processors.batch.send_batch_size=2000", "exporters.postgres.pool_size=4"];
    assert_eq!(minimal(&[queue], &none), own);
    assert_eq!(minimal(&[&without[..], &[queue]].concat(), &none), own);
    assert_eq!(minimal(&[&repeated[..], &[queue]].concat(), &none), own);
}

#[test]
fn the_newer_place_of_batching_turns_it_on() {
    let sets = ["service.pipelines.logs.processors=[]", "exporters.postgres.sending_queue.batch={}"];
    assert_eq!(minimal(&sets, &none).unwrap(), defaults());
    let sets = [sets[0], "exporters.postgres.sending_queue.batch={min_size: 20000}"];
    let queue = "exporters.postgres.sending_queue.queue_size=50000";
    let batch = minimal(&[&sets[..], &[queue]].concat(), &none).unwrap().batch;
    assert_eq!((batch.send_batch_size, batch.send_batch_max_size), (20_000, 20_000));
}

#[test]
fn a_connection_string_is_never_shown() {
    let config = minimal(&["exporters.postgres.dsn=postgres://u:secret@h/db"], &none).unwrap();
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn the_senders_attribute_is_one_of_its_own() {
    for key in ["service.name", "''"] {
        let refusal = minimal(&[&format!("receivers.otlp.sender_attribute={key}")], &none).unwrap_err();
        assert!(
            refusal.starts_with("receivers.otlp.sender_attribute: found ")
                && refusal.contains("forebay.sender")
        );
    }
}
