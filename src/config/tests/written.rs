//! One value in the many ways in which people write it.

use super::*;
use crate::telemetry::config::Level;

fn with(set: &str) -> Config {
    minimal(&[set], &none).unwrap_or_else(|refusal| panic!("{set}: {refusal}"))
}

/// Scenario: levels of messages in the words of other programs, in any case. Promise: each is understood as the level of
/// forebay that is nearest, and what is no level is refused with those that are.
#[test]
fn levels_have_the_names_that_other_programs_give_them() {
    use Level::{Debug, Error, Info, Off, Warn};
    for (expected, names) in [
        (Debug, &["debug", "DEBUG", "Debug", "trace", "TRACE"][..]),
        (Info, &["info", "INFO", "' info '"]),
        (Warn, &["warn", "warning", "WARNING", "Warn"]),
        (Error, &["error", "ERROR", "fatal", "PANIC", "dpanic"]),
        (Off, &["off", "OFF", "none"]),
    ] {
        for name in names {
            let found = with(&format!("service.telemetry.logs.level={name}"));
            assert_eq!(found.telemetry.logs.level, expected, "{name}");
        }
    }
    let refusal = minimal(&["service.telemetry.logs.level=loud"], &none).unwrap_err();
    assert!(
        refusal.starts_with("service.telemetry.logs.level: found \"loud\", expected one of "),
        "{refusal}"
    );
}

/// Scenario: a key that wants one of some words gets it in capitals. Promise: it is the same word, for every such key.
#[test]
fn words_may_be_in_capitals() {
    use crate::buffer::config::Overflow;
    use crate::table::partition::Width;
    let queue = |word: &str| with(&format!("exporters.postgres.sending_queue.overflow={word}"));
    assert_eq!(queue("DROP_OLDEST").exporter.sending_queue.overflow, Overflow::DropOldest);
    assert_eq!(with("exporters.postgres.partition=Hour").exporter.partition, Width::Hour);
}

/// Scenario: yes, on, and truths and numbers in quotes or from an environment variable with a line end. Promise: they are
/// what they say, and what is neither is refused.
#[test]
fn truths_and_numbers_may_be_in_quotes() {
    for (words, expected) in [
        (&["false", "FALSE", "no", "off", "Off", "'false'", "' no '", "n"][..], false),
        (&["true", "yes", "on", "YES", "'true'", "y"], true),
    ] {
        for word in words {
            let found = with(&format!("exporters.postgres.create_schema={word}"));
            assert_eq!(found.exporter.create_schema, expected, "{word}");
        }
    }
    for number in ["7", "'7'", "' 7 '"] {
        assert_eq!(with(&format!("exporters.postgres.pool_size={number}")).exporter.pool_size, 7);
    }
    assert_eq!(
        with("exporters.postgres.retry_on_failure.multiplier='2.5'").exporter.retry_on_failure.multiplier,
        2.5
    );
    let env = |name: &str| (name == "LANES").then(|| " 7\r\n".to_owned());
    assert_eq!(minimal(&["exporters.postgres.pool_size=${env:LANES}"], &env).unwrap().exporter.pool_size, 7);
    for (set, problem) in [
        ("exporters.postgres.create_schema=maybe", "found \"maybe\", expected true or false"),
        ("exporters.postgres.create_schema=2", "found 2, expected true or false"),
        ("exporters.postgres.pool_size='07'", "found \"07\", expected a whole number, 0 or more"),
        ("exporters.postgres.pool_size='seven'", "found \"seven\", expected a whole number, 0 or more"),
    ] {
        let refusal = minimal(&[set], &none).unwrap_err();
        assert!(refusal.ends_with(problem), "{set}: {refusal}");
    }
}

/// Scenario: durations in days and weeks, sizes in units where bytes are asked for, percent with its sign. Promise: each is
/// understood.
#[test]
fn durations_sizes_and_percent_may_have_their_units() {
    let days =
        |text: &str| with(&format!("exporters.postgres.retention.max_age={text}")).exporter.retention.max_age;
    assert_eq!(days("30d"), GoDuration(Duration::from_secs(30 * 86_400)));
    assert_eq!(days("2w"), days("336h"));
    for (text, bytes) in
        [("64MiB", 64 << 20), ("'67108864'", 64 << 20), ("67108864", 64 << 20), ("1GB", 1_000_000_000)]
    {
        let found = with(&format!("exporters.postgres.sending_queue.max_bytes={text}"));
        assert_eq!(found.exporter.sending_queue.max_bytes, bytes, "{text}");
    }
    let found = with("receivers.otlp.admission.max_record_bytes=2MiB");
    assert_eq!(found.receiver.admission.max_record_bytes, 2 << 20);
    let found = with("receivers.otlp.protocols.http.max_request_body_size=5MB");
    assert_eq!(found.receiver.protocols.http.unwrap().max_request_body_size, 5_000_000);
    let limiter = "processors.memory_limiter={limit_percentage: 80%, spike_limit_percentage: '20'}";
    let used = "service.pipelines.logs.processors=[memory_limiter, batch]";
    let memory = minimal(&[limiter, used], &none).unwrap().memory.unwrap();
    assert_eq!((memory.limit_percentage, memory.spike_limit_percentage), (80, 20));
}

/// Scenario: `losses_window` of nothing, which the documentation allows. Promise: it is taken, with a unit and without.
#[test]
fn losses_may_have_no_window() {
    for zero in ["0s", "0", "'0'", "0d"] {
        let found = with(&format!("exporters.postgres.losses_window={zero}"));
        assert_eq!(found.exporter.losses_window, GoDuration(Duration::ZERO), "{zero}");
    }
}
