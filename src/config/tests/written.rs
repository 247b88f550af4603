//! The many ways in which people write one value.

use super::*;
use crate::telemetry::config::Level;
use crate::values::size::ByteSize;

fn with(set: &str) -> Config {
    minimal(&[set], &none).unwrap_or_else(|refusal| panic!("{set}: {refusal}"))
}

/// Scenario: levels of messages in the words of other programs, in any case. Promise: each means forebay's nearest level; anything
/// else is refused with the list of levels.
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

/// Scenario: yes, on, and truths and numbers in quotes or from an environment variable with a line end. Promise: each is accepted.
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
}

/// Scenario: every key that is a size, with a unit, in any case, with a fraction, and as a number alone. Promise: each is
/// understood alike; a number alone is one of bytes, or of the unit in the key's name.
#[test]
fn sizes_are_written_alike_everywhere() {
    let used = "service.pipelines.logs.processors=[memory_limiter, batch]";
    let limited = "processors.memory_limiter.limit_mib=8000";
    let room = "receivers.otlp.admission.request_limit_mib=8000";
    for (key, number) in [
        ("exporters.postgres.sending_queue.max_bytes", "3145728"),
        ("exporters.postgres.retention.max_size", "3145728"),
        ("receivers.otlp.admission.max_resource_bytes", "3145728"),
        ("receivers.otlp.admission.max_record_bytes", "3145728"),
        ("receivers.otlp.protocols.http.max_request_body_size", "3145728"),
        ("receivers.otlp.protocols.grpc.max_recv_msg_size_mib", "3"),
        ("processors.memory_limiter.limit_mib", "3"),
        ("processors.memory_limiter.spike_limit_mib", "3"),
    ] {
        let config = |size: &str| minimal(&[used, limited, room, &format!("{key}={size}")], &none);
        let expected = config("3MiB");
        assert!(expected.is_ok(), "{key}: {expected:?}");
        assert_ne!(expected, minimal(&[used, limited, room], &none), "{key}");
        for size in [number, &format!("'{number}'"), &format!("{number}.0"), "3Mi", "3mib", "' 3 MiB '"] {
            assert_eq!(config(size), expected, "{key}={size}");
        }
        let refused = config("3 PB").unwrap_err();
        let unit = if number == "3" { "MiB" } else { "bytes" };
        assert!(
            refused.starts_with(&format!("{key}: found \"3 PB\", expected a size such as 50GiB")),
            "{refused}"
        );
        assert!(refused.ends_with(&format!(", or a number of {unit}")), "{refused}");
        for (size, expected) in [("-1", "a size of 0 or more"), ("9999999TiB", "a size below 8388608TiB")] {
            let refused = config(size).unwrap_err();
            assert!(
                refused.starts_with(&format!("{key}: found ")) && refused.contains(expected),
                "{refused}"
            );
        }
    }
    let found =
        with("receivers.otlp.admission={request_limit_mib: 1.5GiB, max_key_bytes: 1KiB}").receiver.admission;
    assert_eq!((found.request_limit, found.max_key_bytes), (ByteSize::mib(1536), ByteSize(1024)));
}

/// Scenario: every kind of key that is a duration, in days and weeks, with spaces, and as a number alone where the key has a
/// unit. Promise: each is understood alike.
#[test]
fn durations_are_written_alike_everywhere() {
    let days =
        |text: &str| with(&format!("exporters.postgres.retention.max_age={text}")).exporter.retention.max_age;
    assert_eq!(days("30d"), GoDuration::seconds(30 * 86_400));
    assert_eq!(days("2w"), days("336h"));
    assert_eq!(days("30 d"), days("30d"));
    let push = |span: &str| {
        let reader = format!("{{periodic: {{interval: {span}, exporter: {{otlp: {{timeout: {span}}}}}}}}}");
        let readers =
            with(&format!("service.telemetry.metrics.readers=[{reader}]")).telemetry.metrics.readers;
        let periodic = readers[0].periodic.clone().unwrap();
        (periodic.interval, periodic.exporter.otlp.timeout)
    };
    for span in ["90000", "90s", "1m30s", "9e4"] {
        assert_eq!(push(span), (GoDuration::seconds(90), GoDuration::seconds(90)), "{span}");
    }
    let cors = "receivers.otlp.protocols.http.cors.max_age";
    let age = |span: &str| with(&format!("{cors}={span}")).receiver.protocols.http.unwrap().cors.max_age;
    assert_eq!((age("600"), age("'600'"), age("1d")), (age("10m"), age("600s"), age("86400")));
    let refused = minimal(&[&format!("{cors}=1.5s")], &none);
    assert_eq!(refused, Err(format!("{cors}: found 1.5s, expected whole seconds")));
}

/// Scenario: percent with its sign and without. Promise: it is understood.
#[test]
fn percent_may_have_its_sign() {
    let limiter = "processors.memory_limiter={limit_percentage: 80%, spike_limit_percentage: '20'}";
    let used = "service.pipelines.logs.processors=[memory_limiter, batch]";
    let memory = minimal(&[limiter, used], &none).unwrap().memory.unwrap();
    assert_eq!((memory.limit_percentage, memory.spike_limit_percentage), (80, 20));
}

/// Scenario: the variable of the shipped file that is in seconds, as a number and with a unit of its own; a size with a unit
/// behind the reference. Promise: the unit behind a reference is for a value that has none.
#[test]
fn a_variable_may_bring_its_unit() {
    for (value, millis) in
        [("1.0", 1000), ("0.25", 250), ("2", 2000), ("1s", 1000), ("500ms", 500), ("1 m\n", 60_000)]
    {
        let config = load_with(&[], &[], &of(&[("LOG_BUFFER_FLUSH_INTERVAL", value)])).unwrap();
        assert_eq!(config.batch.timeout, GoDuration(Duration::from_millis(millis)), "{value:?}");
    }
    let set = "exporters.postgres.sending_queue.max_bytes=${env:SIZE}MiB";
    for (value, size) in [("64", ByteSize::mib(64)), ("1GiB", ByteSize::mib(1024))] {
        let config = minimal(&[set], &of(&[("SIZE", value)])).unwrap();
        assert_eq!(config.exporter.sending_queue.max_bytes, size, "{value}");
    }
    let text = minimal(&["exporters.postgres.schema=${env:NAME}s"], &of(&[("NAME", "log")])).unwrap();
    assert_eq!(text.exporter.schema, "logs", "text is taken as it is");
}

/// Scenario: whole numbers in all spellings of YAML. Promise: each is accepted.
#[test]
fn whole_numbers_are_those_of_yaml() {
    let key = "exporters.postgres.sending_queue.queue_size";
    for number in ["10000", "1e4", "1E4", "10000.0", "10_000", "+10000", "0x2710", "'1e4'"] {
        assert_eq!(with(&format!("{key}={number}")).exporter.sending_queue.queue_size, 10_000, "{number}");
    }
}

/// Scenario: `losses_window` of nothing, which the documentation allows. Promise: it is taken, with a unit and without.
#[test]
fn losses_may_have_no_window() {
    for zero in ["0s", "0", "'0'", "0d"] {
        let found = with(&format!("exporters.postgres.losses_window={zero}"));
        assert_eq!(found.exporter.losses_window, GoDuration(Duration::ZERO), "{zero}");
    }
}

#[test]
fn addresses_as_operators_write_them() {
    let grpc = "receivers.otlp.protocols.grpc.endpoint";
    for address in ["0.0.0.0:4317", "localhost:4317", "[::1]:0", "[::]:65535", "log-gw.internal.example:4317"]
    {
        assert!(minimal(&[&format!("{grpc}='{address}'")], &none).is_ok(), "{address}");
    }
    for address in "4317 :x :65536 localhost localhost: ::1:4317 [x]:1 h:65536 h:+1 http://h:1".split(' ') {
        let expected = format!(
            "{grpc}: found {address:?}, expected host:port, such as 127.0.0.1:4317, [::1]:4317, \
             or 0.0.0.0:4317 for every interface"
        );
        assert_eq!(minimal(&[&format!("{grpc}='{address}'")], &none).unwrap_err(), expected);
    }
    // The Collector listens on every interface then, but an empty variable should not have that effect.
    let expected = "found \":4317\", expected a host before the port: 127.0.0.1:4317 for this machine alone, \
                    or 0.0.0.0:4317 for every interface";
    for (set, variables) in
        [(":4317", ""), ("${env:HOST}:4317", " (the value is from the environment: HOST)")]
    {
        let refusal = minimal(&[&format!("{grpc}='{set}'")], &of(&[("HOST", "")])).unwrap_err();
        assert_eq!(refusal, format!("{grpc}: {expected}{variables}"));
    }
}
