//! The exact words of each refusal.

use super::*;

#[test]
fn each_bad_key_is_refused_by_name() {
    let cases = [
        // Unknown keys.
        ("exporter.postgres=", "exporter: unknown key; did you mean exporters?"),
        ("exporters.postgres.dns=x", "exporters.postgres.dns: unknown key; did you mean dsn?"),
        ("exporters.postgres.poolsize=", "exporters.postgres.poolsize: unknown key; did you mean pool_size?"),
        (
            "exporters.postgres.retry_on_failure.x=1",
            "exporters.postgres.retry_on_failure.x: unknown key; what can stand here: enabled, initial_interval, \
             randomization_factor, multiplier, max_interval, max_elapsed_time",
        ),
        ("receivers.otlp/2={}", "receivers.otlp/2: unknown key; did you mean otlp?"),
        (
            "service.telemetry.metrics.readers=[{pull: {exporter: {prometheus: {prot: 1}}}}]",
            "service.telemetry.metrics.readers[0].pull.exporter.prometheus.prot: unknown key; did you mean port?",
        ),
        // Wrong types and units.
        ("exporters=[]", "exporters: found a list, expected a map"),
        ("exporters.postgres=yes", "exporters.postgres: found text, expected a map"),
        (
            "exporters.postgres.sending_queue.queue_size=lots",
            "exporters.postgres.sending_queue.queue_size: found \"lots\", expected a whole number, 0 or more",
        ),
        (
            "exporters.postgres.pool_size=-1",
            "exporters.postgres.pool_size: found -1, expected a whole number, 0 or more",
        ),
        (
            "exporters.postgres.pool_size=1.5",
            "exporters.postgres.pool_size: found 1.5, expected a whole number, 0 or more",
        ),
        (
            "service.telemetry.metrics.readers=[{pull: {exporter: {prometheus: {port: 70000}}}}]",
            "service.telemetry.metrics.readers[0].pull.exporter.prometheus.port: found 70000, \
             expected a whole number from 0 to 65535",
        ),
        (
            "exporters.postgres.create_schema=maybe",
            "exporters.postgres.create_schema: found \"maybe\", expected true or false",
        ),
        ("exporters.postgres.dsn={a: 1}", "exporters.postgres.dsn: found a map, expected text"),
        (
            "exporters.postgres.schema=true",
            "exporters.postgres.schema: found true, expected text; put it in quotes",
        ),
        (
            "exporters.postgres.sending_queue.overflow=block",
            "exporters.postgres.sending_queue.overflow: found \"block\", \
             expected one of drop_newest, drop_oldest, reject",
        ),
        (
            "exporters.postgres.sending_queue.overflow=[reject]",
            "exporters.postgres.sending_queue.overflow: found a list, \
             expected one of drop_newest, drop_oldest, reject",
        ),
        (
            "processors.batch.timeout=1",
            "processors.batch.timeout: found 1, expected a duration with its unit (ns, us, ms, s, m, h, d, w), such as 200ms, 1m30s or 30d",
        ),
        (
            "processors.batch.timeout=2 sec",
            "processors.batch.timeout: found \"2 sec\", \
             expected a duration with its unit (ns, us, ms, s, m, h, d, w), such as 200ms, 1m30s or 30d",
        ),
        (
            "exporters.postgres.retry_on_failure.multiplier=twice",
            "exporters.postgres.retry_on_failure.multiplier: found \"twice\", expected a number",
        ),
        // Values out of range.
        (
            "processors.batch.send_batch_size=0",
            "processors.batch.send_batch_size: found 0, expected 1 to 1000000000",
        ),
        (
            "processors.batch.send_batch_max_size=99",
            "processors.batch.send_batch_max_size: found 99, expected send_batch_size (100) or more, \
             or 0 for as much as the queue holds",
        ),
        (
            "exporters.postgres.sending_queue.queue_size=0",
            "exporters.postgres.sending_queue.queue_size: found 0, expected 1 to 16777215",
        ),
        (
            "exporters.postgres.sending_queue.max_bytes=4096",
            "exporters.postgres.sending_queue.max_bytes: found 4KiB, expected 1MiB to 1099511627775",
        ),
        ("exporters.postgres.pool_size=0", "exporters.postgres.pool_size: found 0, expected 1 to 64"),
        (
            "exporters.postgres.timeout=0s",
            "exporters.postgres.timeout: found 0, expected a duration above 0, such as 10s",
        ),
        (
            "exporters.postgres.schema=''",
            "exporters.postgres.schema: found \"\", expected a name of 1 to 63 bytes that does not begin with pg_",
        ),
        (
            "exporters.postgres.schema=pg_logs",
            "exporters.postgres.schema: found \"pg_logs\", \
             expected a name of 1 to 63 bytes that does not begin with pg_",
        ),
        (
            "exporters.postgres.dsn=''",
            "exporters.postgres.dsn: found nothing, expected embedded, \
             a URL such as postgres://user@host/database, or key=value pairs",
        ),
        (
            "exporters.postgres.retry_on_failure.randomization_factor=1.1",
            "exporters.postgres.retry_on_failure.randomization_factor: found 1.1, expected 0 to 1",
        ),
        (
            "exporters.postgres.retry_on_failure.multiplier=0.5",
            "exporters.postgres.retry_on_failure.multiplier: found 0.5, expected 1 or more",
        ),
        (
            "exporters.postgres.retry_on_failure.initial_interval=0s",
            "exporters.postgres.retry_on_failure.initial_interval: found 0, expected a duration above 0, such as 10s",
        ),
        (
            "exporters.postgres.retry_on_failure.max_interval=1s",
            "exporters.postgres.retry_on_failure.max_interval: found 1s, \
             expected initial_interval (1.5s) or more, or 0 for no limit",
        ),
        (
            "receivers.otlp.protocols.grpc.max_recv_msg_size_mib=0",
            "receivers.otlp.protocols.grpc.max_recv_msg_size_mib: found 0, expected 1MiB to 1GiB",
        ),
        (
            "receivers.otlp.protocols.grpc.max_recv_msg_size_mib=27",
            "receivers.otlp.admission.request_limit_mib: found 80MiB, \
             expected three times max_recv_msg_size_mib (27MiB) or more, and 1TiB at most",
        ),
        (
            "receivers.otlp.protocols.grpc.keepalive.server_parameters.max_connection_age_grace=0s",
            "receivers.otlp.protocols.grpc.keepalive.server_parameters.max_connection_age_grace: found 0, \
             expected a duration above 0, such as 10s",
        ),
        (
            "receivers.otlp.protocols.grpc.keepalive.enforcement_policy.min_time=5m",
            "receivers.otlp.protocols.grpc.keepalive.enforcement_policy.min_time: found 300s, \
             expected 0s or nothing: forebay answers every ping of a client and cannot refuse any",
        ),
        (
            "receivers.otlp.protocols.grpc.keepalive.enforcement_policy.permit_without_stream=false",
            "receivers.otlp.protocols.grpc.keepalive.enforcement_policy.permit_without_stream: found false, \
             expected true or nothing: forebay answers every ping of a client and cannot refuse any",
        ),
        (
            "receivers.otlp.protocols.http.logs_url_path=logs",
            "receivers.otlp.protocols.http.logs_url_path: found \"logs\", expected a path such as /v1/logs",
        ),
        (
            "receivers.otlp.protocols.http.max_request_body_size=27962028",
            "receivers.otlp.admission.request_limit_mib: found 80MiB, \
             expected three times max_request_body_size (27962028) or more, and 1TiB at most",
        ),
        (
            "extensions.health_check.path=health",
            "extensions.health_check.path: found \"health\", expected a path such as /",
        ),
        (
            "service.telemetry.metrics.readers=[{pull: {exporter: {prometheus: {host: 'a:1'}}}}]",
            "service.telemetry.metrics.readers[0].pull.exporter.prometheus.host: found \"a:1\", \
             expected a host name or an IP address",
        ),
        // A pipeline that forebay does not have.
        (
            "service.pipelines=",
            "service.pipelines.logs: missing; \
             write logs: {receivers: [otlp], processors: [batch], exporters: [postgres]}",
        ),
        (
            "service.pipelines.logs.receivers=[otlp, filelog]",
            "service.pipelines.logs.receivers: found [otlp, filelog], expected [otlp]",
        ),
        (
            "service.pipelines.logs.exporters=[]",
            "service.pipelines.logs.exporters: found [], expected [postgres]",
        ),
        (
            "service.pipelines.logs.processors=[batch, memory_limiter]",
            "service.pipelines.logs.processors: found [batch, memory_limiter], \
             expected [memory_limiter, batch] in this order, or less",
        ),
        (
            "service.pipelines.logs.processors=[memory_limiter]",
            "service.pipelines.logs.processors: memory_limiter is not defined; \
             write `memory_limiter:` under processors",
        ),
        (
            "service.extensions=[pprof]",
            "service.extensions: found pprof; what can stand here: health_check, bearertokenauth, basicauth",
        ),
        (
            "receivers=",
            "service.pipelines.logs.receivers: otlp is not defined; write `otlp:` under receivers",
        ),
        (
            "processors=",
            "service.pipelines.logs.processors: batch is not defined; write `batch:` under processors",
        ),
        (
            "extensions=",
            "service.extensions: health_check is not defined; write `health_check:` under extensions",
        ),
        // References that lead nowhere.
        (
            "exporters.postgres.dsn=${env:NONE}",
            "exporters.postgres.dsn: the environment variable NONE is not set; \
             set it, or write ${env:NONE:-default}",
        ),
        (
            "exporters.postgres.dsn=${file:/run/dsn}",
            "exporters.postgres.dsn: `${file:/run/dsn}` is not a reference; \
             expected ${env:NAME} or ${env:NAME:-default}, and $$ for a literal $",
        ),
    ];
    for (set, expected) in cases {
        assert_eq!(minimal(&[set], &none), Err(expected.to_owned()), "{set}");
    }
}

#[test]
fn what_the_collector_has_beside_is_refused_with_what_to_do_instead() {
    let queue = "exporters.postgres.sending_queue";
    for (key, value, instead) in [
        ("receivers.filelog", "{}", "forebay takes OTLP only"),
        ("receivers.otlp.protocols.grpc.transport", "unix", "always TCP"),
        ("receivers.otlp.protocols.http.traces_url_path", "/v1/traces", "logs only"),
        ("processors.transform", "{}", "in the SDK, in a Collector that sends to forebay, or with SQL"),
        ("processors.batch.metadata_keys", "[a]", "whatever their metadata"),
        ("exporters.debug", "{}", "let a Collector before it export to both"),
        ("extensions.pprof", "{}", "no Go runtime"),
        ("extensions.oauth2client", "{}", "no such extension"),
        ("extensions.health_check.check_collector_pipeline", "{}", "tells by itself"),
        ("service.pipelines.traces", "{}", "forebay takes logs only"),
        ("service.telemetry.traces", "{}", "no traces"),
        ("service.telemetry.logs.output_paths", "[stdout]", "stderr only"),
        ("service.telemetry.metrics.address", "0.0.0.0:8888", "write readers: "),
        ("connectors", "{}", "keep connectors in a Collector"),
        (&format!("{queue}.storage"), "file_storage", "in memory only"),
    ] {
        let said = minimal(&[&format!("{key}={value}")], &none).unwrap_err();
        assert!(said.starts_with(&format!("{key}: not in forebay: ")) && said.contains(instead), "{said}");
    }
    for (set, expected) in [
        (
            "sizer=requests",
            "sizer: found requests, expected items, with queue_size in records, or bytes: \
            requests are not held as such",
        ),
        ("sizer=bytes", "sizer: found bytes without queue_size, expected both, such as queue_size: 67108864"),
        (
            "block_on_overflow=true",
            "block_on_overflow: found true, expected false: no sender waits for room; \
            write overflow: reject, and it is asked to send again",
        ),
        ("num_consumers=0", "num_consumers: found 0, expected 1 to 64"),
        (
            "batch.max_size=9",
            "batch.max_size: found 9, expected min_size (100) or more, \
            or 0 for as much as the queue holds",
        ),
        (
            "batch.sizer=bytes",
            "batch.sizer: found bytes, expected items: the sizes of batches are in records",
        ),
    ] {
        assert_eq!(minimal(&[&format!("{queue}.{set}")], &none), Err(format!("{queue}.{expected}")));
    }
}

#[test]
fn two_spellings_have_to_say_the_same() {
    let queue = "exporters.postgres.sending_queue";
    for (first, second, expected) in [
        (
            "exporters.postgres.pool_size=2",
            "num_consumers=4",
            "num_consumers: found 4, but exporters.postgres.pool_size is 2, which says the same; write one of the two",
        ),
        (
            "processors.batch.timeout=2s",
            "batch.flush_timeout=200ms",
            "batch.flush_timeout: found 200ms, but processors.batch.timeout is 2s, which says the same; \
             write one of the two",
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
    assert_eq!(
        refusal(&[("LOG_BUFFER_DEDICATED_POOL_SIZE", "0")]),
        "exporters.postgres.pool_size: found 0, expected 1 to 64 \
         (the value is from the environment: LOG_BUFFER_DEDICATED_POOL_SIZE)"
    );
    assert_eq!(
        refusal(&[("LOG_BUFFER_MAX_ENTRIES", "[1, 2]")]),
        "exporters.postgres.sending_queue.queue_size: found \"[1, 2]\", expected a whole number, 0 or more \
         (the value is from the environment: LOG_BUFFER_MAX_ENTRIES)"
    );
    assert_eq!(
        refusal(&[("LOG_BUFFER_FLUSH_INTERVAL", "5 sec")]),
        "processors.batch.timeout: found \"5 sec\", \
         expected a duration with its unit (ns, us, ms, s, m, h, d, w), such as 200ms, 1m30s or 30d \
         (the value is from the environment: LOG_BUFFER_FLUSH_INTERVAL)"
    );
    assert_eq!(
        refusal(&[("LOG_BUFFER_ASYNC_ENABLED", "1")]),
        "exporters.postgres.sending_queue.enabled: found 1, expected true or false \
         (the value is from the environment: LOG_BUFFER_ASYNC_ENABLED)"
    );
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
