//! A printed configuration means the same when it is read again.

use super::*;

/// Loads what `config` prints.
fn again(config: &Config) -> Config {
    let yaml = config.to_yaml();
    load_text(&[&yaml], &[], &none).unwrap_or_else(|error| panic!("{error} in:\n{yaml}"))
}

#[test]
fn the_default_prints_as_it_is_written() {
    let yaml = defaults().to_yaml();
    for line in [
        "receivers:\n  otlp:\n    protocols:\n      grpc:\n        endpoint: 127.0.0.1:4317\n",
        "    dsn: embedded\n",
        "    timeout: 10s\n",
        "      processors: [batch]\n",
        "      readers:\n        - pull:\n            exporter:\n",
    ] {
        assert!(yaml.contains(line), "{line} is not in:\n{yaml}");
    }
    assert_eq!(again(&defaults()), defaults());
}

#[test]
fn whatever_is_set_is_printed_and_read_again() {
    for sets in [
        &["service.extensions=[]", "service.pipelines.logs.processors=[]"][..],
        &["service.telemetry.metrics.readers=[]", "service.telemetry.logs={level: debug, encoding: json}"],
        &["exporters.postgres.schema='true'", "exporters.postgres.data_dir='/tmp/a b: c'"],
        &[
            "exporters.postgres.schema='- x # $$$$y \"'",
            "exporters.postgres.dsn='host=db user=$$${env:NAME}'",
        ],
        &["processors.batch={timeout: 1m0.25s, send_batch_max_size: 0}", "exporters.postgres.schema='2024'"],
        &[
            "exporters.postgres.retry_on_failure={multiplier: 1, randomization_factor: 1e-7, max_interval: 0s}",
        ],
        &["receivers.otlp.protocols={http: {max_request_body_size: 1000}}"],
        &[
            "service.telemetry.metrics={level: normal, readers: [{pull: }, {periodic: }, {periodic: {interval: 5000, timeout: 1.5ms, \
             exporter: {otlp: {protocol: http/protobuf, endpoint: 'http://[::1]:4318/x', compression: gzip, \
             temporality_preference: low_memory}}}}]}",
            "service.telemetry.resource={service.version: , 'a b': '- x', n: 1}",
        ],
        &["service.telemetry.metrics.level=none"],
        &[
            r##"service.telemetry.resource={a: "x\ny\n", b: ' x ', c: '1e3', d: '0x10', e: '~', f: '2024-01-01', g: '12:30:45', h: 'null', i: 'x # y', j: "\a\u0085\u2028\ufeff\t\r", k: '', l: '<<', m: '...', n: '---', o: "it's", p: 'on', q: '.inf', r: '08', s: '1_000', t: '+1', u: 'x:', v: '? x', w: '\', x: '"', '<<<': y, '? z': '=', 'no': '%a', '12': '!a', 'null': '&a', 'a: b': '@'}"##,
        ],
        &[
            "service.pipelines.logs.processors=[memory_limiter, batch]",
            "processors.memory_limiter={limit_mib: 9, spike_limit_mib: 1500001B}",
        ],
        &[
            "receivers.otlp.protocols={grpc: {max_recv_msg_size_mib: 1536KiB}, http: {max_request_body_size: 1MB, cors: {max_age: 1d}}}",
        ],
        &["receivers.otlp.protocols.grpc.keepalive.enforcement_policy.min_time=0s"],
        &["exporters.postgres.partition=hour", "exporters.postgres.retention={max_age: 90m, max_size: 5GiB}"],
        &[
            "exporters.postgres.retention.max_size=1000",
            "exporters.postgres.retention.drop_when_disk_is_full=true",
        ],
        &["exporters.postgres.indexes=[]"],
        &["receivers.otlp.sender_attribute=forebay.sender"],
        &["exporters.postgres.indexes=[body, service]"],
        &["exporters.postgres.sending_queue={storage: none, drain: }"],
        &["exporters.postgres.sending_queue={min_free: 0, max_size: 1500MB, keep_for: 1h, drain: fifo}"],
        &[
            "exporters.postgres.sending_queue.storage=file_storage/a",
            "extensions.file_storage/a={directory: 'a: ${env:NAME}', fsync: no, create_directory: no}",
            "service.extensions=[file_storage/a]",
        ],
        &["exporters.postgres.sending_queue={sizer: bytes, queue_size: 2000000, num_consumers: 3}"],
    ] {
        let config = minimal(sets, &of(&[("NAME", "me$")])).unwrap();
        assert_eq!(again(&config), config, "{sets:?}");
    }
}

#[test]
fn a_password_is_redacted_and_the_rest_is_not() {
    let headers =
        "service.telemetry.metrics.readers=[{periodic: {exporter: {otlp: {headers: {a: hunter2}}}}}]";
    let config = minimal(&["exporters.postgres.dsn=postgres://u:hunter2@h/db", headers], &none).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let yaml = config.to_yaml();
    assert!(yaml.contains("dsn: postgres://u:[REDACTED]@h/db") && !yaml.contains("hunter2"), "{yaml}");
}
