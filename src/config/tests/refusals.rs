//! The exact words of each refusal.

use super::*;

#[test]
fn each_bad_key_is_refused_by_name() {
    let cases = include_str!("refusals.txt").lines().filter(|line| !line.starts_with('#'));
    for case in cases {
        let (set, expected) = case.split_once(" => ").unwrap();
        assert_eq!(minimal(&[set], &none), Err(expected.to_owned()), "{set}");
    }
}

#[test]
fn what_the_collector_has_beside_is_refused_with_what_to_do_instead() {
    for (key, value, instead) in [
        ("receivers.filelog", "{}", "forebay receives OTLP only"),
        ("receivers.otlp.protocols.grpc.transport", "unix", "always TCP"),
        ("receivers.otlp.protocols.http.traces_url_path", "/v1/traces", "logs only"),
        ("processors.transform", "{}", "in the SDK, in a Collector that sends to forebay, or with SQL"),
        ("processors.batch.metadata_keys", "[a]", "whatever their metadata"),
        ("exporters.debug", "{}", "let a Collector in front of it export to both"),
        ("extensions.pprof", "{}", "no Go runtime"),
        ("extensions.oauth2client", "{}", "no such extension"),
        ("extensions.health_check.check_collector_pipeline", "{}", "always reports"),
        ("service.pipelines.traces", "{}", "forebay receives logs only"),
        ("service.telemetry.traces", "{}", "not trace itself"),
        ("service.telemetry.logs.output_paths", "[stdout]", "stderr only"),
        ("service.telemetry.metrics.address", "0.0.0.0:8888", "use readers: "),
        ("connectors", "{}", "keep connectors in a Collector"),
        ("extensions.redis_storage", "{}", "keeps its queue in files"),
    ] {
        let said = minimal(&[&format!("{key}={value}")], &none).unwrap_err();
        assert!(said.starts_with(&format!("{key}: not in forebay: ")) && said.contains(instead), "{said}");
    }
}

#[test]
fn two_spellings_have_to_say_the_same() {
    let queue = "exporters.postgres.sending_queue";
    for (first, second, expected) in [
        (
            "exporters.postgres.pool_size=2",
            "num_consumers=4",
            "num_consumers: found 4, but exporters.postgres.pool_size, which means the same, is 2; set only one of them",
        ),
        (
            "processors.batch.timeout=2s",
            "batch.flush_timeout=200ms",
            "batch.flush_timeout: found 200ms, but processors.batch.timeout, which means the same, is 2s; \
             set only one of them",
        ),
    ] {
        let said = minimal(&[first, &format!("{queue}.{second}")], &none);
        assert_eq!(said, Err(format!("{queue}.{expected}")));
    }
}

#[test]
fn a_bad_value_from_the_environment_names_its_variable() {
    let refusal = |variables: &[(&'static str, &'static str)]| {
        load_with(&[], &[], &of(variables)).unwrap_err().to_string()
    };
    for (variable, value, expected) in [
        ("LOG_BUFFER_DEDICATED_POOL_SIZE", "0", "exporters.postgres.pool_size: found 0, expected 1 to 64"),
        (
            "LOG_BUFFER_MAX_ENTRIES",
            "[1, 2]",
            "exporters.postgres.sending_queue.queue_size: found \"[1, 2]\", expected a whole number, 0 or more",
        ),
        (
            "LOG_BUFFER_FLUSH_INTERVAL",
            "5 sec",
            "processors.batch.timeout: found \"5 sec\", \
             expected a duration with its unit (ns, us, ms, s, m, h, d, w), such as 200ms, 1m30s or 30d",
        ),
        (
            "LOG_BUFFER_ASYNC_ENABLED",
            "1",
            "exporters.postgres.sending_queue.enabled: found 1, expected true or false",
        ),
    ] {
        let expected = format!("{expected} (the value is from the environment: {variable})");
        assert_eq!(refusal(&[(variable, value)]), expected);
    }
}

#[test]
fn an_empty_variable_without_a_default_is_not_a_default() {
    let env = of(&[("EMPTY", "")]);
    assert_eq!(
        minimal(&["exporters.postgres.dsn=${env:EMPTY}"], &env).unwrap_err(),
        "exporters.postgres.dsn: found nothing, expected embedded, \
         a URL such as postgres://user@host/database, or key=value pairs \
         (the value is from the environment: EMPTY)"
    );
    assert_eq!(
        minimal(&["exporters.postgres.pool_size=${env:EMPTY}"], &env).unwrap_err(),
        "exporters.postgres.pool_size: found nothing, expected a whole number, 0 or more \
         (the value is from the environment: EMPTY)"
    );
}

#[test]
fn a_refusal_is_one_line_whatever_it_quotes() {
    let refusal = |text: &str| load_text(&[&format!("{MINIMAL}{text}")], &[], &none).unwrap_err();
    assert!(refusal("\"\": 1").starts_with("\"\": unknown key; "));
    assert!(refusal("\"a\\nb\": 1").starts_with("a\\nb: unknown key; "));
    assert!(
        refusal("\"a\\n\": 1\n\"a\\n\": 2").ends_with("duplicate mapping key `a\\n` is not allowed here")
    );
    let refusal = |set| minimal(&[set], &none).unwrap_err();
    assert!(refusal("a\n").starts_with("--set a\\n: expected path=value"));
    assert!(refusal("a\n=[").starts_with("--set a\\n: column 1: "));
    assert!(refusal("exporters.postgres.schema=\"${a\\n}\"").contains("`${a\\n}` is not a reference"));
}

#[test]
fn a_password_in_a_wrong_place_is_not_shown() {
    let url = "postgres://me:hunter2@db/logs?application_name=x";
    for (set, shown) in [
        (format!("exporters.postgres={url}"), "exporters.postgres: found text, expected a map"),
        (format!("exporters.postgres.dsn:{url}"), "exporters.postgres.dsn:postgres://me:…@db/logs"),
        (format!("exporters.postgres={{'{url}': 1}}"), "exporters.postgres.postgres://me:…@db/logs"),
        (format!("exporters.postgres.pool_size={url}"), "found \"postgres://me:…@db/logs"),
        (
            "exporters.postgres.pool_size=host=db password=hunter2 user=me".to_owned(),
            "host=db password=… user=me",
        ),
        (
            "exporters.postgres.pool_size=password='hunter2 x' user=me".to_owned(),
            "found \"password=… user=me\"",
        ),
        (
            "exporters.postgres.dsn:postgres://me:hunter2@db".to_owned(),
            "postgres://me:…@db: expected path=value",
        ),
        (format!("exporters.postgres=['{url}"), "--set exporters.postgres: column 2: unclosed quote"),
    ] {
        let refusal = minimal(&[&set], &none).unwrap_err();
        assert!(refusal.contains(shown) && !refusal.contains("hunter2"), "{set}: {refusal}");
    }
}
