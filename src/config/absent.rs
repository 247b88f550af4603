//! Keys that the Collector has and forebay has not, each with what to do instead.

/// Sections and the keys in them, which are parted by `|`; `*` is any that is not like a known one.
const ABSENT: &[(&str, &str, &str)] = &[
    (
        "",
        "connectors",
        "the one pipeline goes from otlp to postgres; keep connectors in a Collector that sends to forebay",
    ),
    (
        "receivers",
        "*",
        "forebay takes OTLP only; let a Collector have this receiver, and send to forebay by its otlp exporter",
    ),
    ("receivers.otlp.protocols.grpc", "transport|dialer", "the port is always TCP; take the key away"),
    (
        "receivers.otlp.protocols.grpc",
        "read_buffer_size|write_buffer_size",
        "buffers grow with what arrives; take the key away",
    ),
    (
        "receivers.otlp.protocols.grpc",
        "include_metadata|middlewares",
        "nothing in forebay looks at a request's metadata; take the key away",
    ),
    (
        "receivers.otlp.protocols.*.auth",
        "request_params",
        "who sends is asked for in headers only; take the key away",
    ),
    (
        "receivers.otlp.protocols.*.tls",
        "max_version|cipher_suites|curve_preferences",
        "TLS 1.2 and 1.3 are spoken, with what is safe of them only; take the key away, or set min_version",
    ),
    (
        "receivers.otlp.protocols.*.tls",
        "ca_file|ca_pem|include_system_ca_certs_pool|insecure|insecure_skip_verify|server_name_override",
        "it is for those who connect; take the key away, and write client_ca_file where clients are to have certificates",
    ),
    (
        "receivers.otlp.protocols.*.tls",
        "client_ca_file_reload",
        "reload_interval is for all files; take the key away, and set that",
    ),
    (
        "receivers.otlp.protocols.*.tls",
        "tpm",
        "a key comes from key_file or key_pem; take the key away, and write one of these",
    ),
    (
        "extensions.basicauth",
        "client_auth",
        "it is for exporters that send; take the key away, and write htpasswd",
    ),
    (
        "receivers.otlp.protocols.http",
        "traces_url_path|metrics_url_path|profiles_url_path",
        "forebay takes logs only; take the key away",
    ),
    ("receivers.otlp.protocols.http", "transport|dialer", "the port is always TCP; take the key away"),
    (
        "receivers.otlp.protocols.http",
        "include_metadata|middlewares",
        "nothing in forebay looks at a request's metadata; take the key away",
    ),
    (
        "receivers.otlp.protocols.http",
        "read_timeout|write_timeout",
        "a request has 30 s from its headers to its last byte, and an answer is small; take the key away",
    ),
    (
        "receivers.otlp.protocols.http",
        "compression_algorithms|response_headers",
        "forebay has no such setting; take the key away",
    ),
    (
        "processors.batch",
        "metadata_keys|metadata_cardinality_limit",
        "requests are batched whatever their metadata; take the key away",
    ),
    (
        "processors.memory_limiter",
        "min_gc_interval_when_soft_limited|min_gc_interval_when_hard_limited",
        "there is no garbage collector; take the key away",
    ),
    (
        "processors",
        "*",
        "forebay stores records as they come; change or choose them in the SDK, in a Collector that sends to forebay, or with SQL",
    ),
    (
        "exporters",
        "*",
        "forebay writes to PostgreSQL only; let a Collector before it export to both, where records are to go elsewhere as well",
    ),
    (
        "exporters.postgres.sending_queue",
        "storage",
        "what is held is in memory only; take the key away, or write enabled: false, and an answer means stored",
    ),
    (
        "exporters.postgres.sending_queue.batch",
        "partition",
        "requests are batched whatever their metadata; take the key away",
    ),
    ("exporters.postgres", "batcher", "write sending_queue.batch, or processors.batch"),
    (
        "extensions",
        "zpages",
        "what they show is on the metrics page and in `forebay doctor`; take it away, also from service.extensions",
    ),
    (
        "extensions",
        "pprof",
        "there is no Go runtime to look into; take it away, also from service.extensions",
    ),
    (
        "extensions",
        "file_storage|db_storage|redis_storage",
        "what is held is in memory only; take it away, also from service.extensions",
    ),
    ("extensions", "*", "forebay has no such extension; take it away, also from service.extensions"),
    ("extensions.health_check", "response_body", "the page says why forebay is not ready; take the key away"),
    (
        "extensions.health_check",
        "check_collector_pipeline",
        "the page tells by itself whether PostgreSQL takes rows; take the key away",
    ),
    (
        "extensions.health_check",
        "tls|auth|cors|include_metadata|response_headers|max_request_body_size|compression_algorithms|read_timeout|read_header_timeout|write_timeout|idle_timeout",
        "the page is plain HTTP without limits to set; take the key away, and keep its endpoint on an address of this machine",
    ),
    (
        "service.pipelines",
        "traces|metrics|profiles",
        "forebay takes logs only; keep this pipeline in a Collector",
    ),
    ("service.pipelines", "*", "there is one pipeline; call it logs"),
    ("service.telemetry", "traces", "forebay makes no traces of itself; take the key away"),
    (
        "service.telemetry.logs",
        "development|disable_caller|disable_stacktrace",
        "messages have neither caller nor stack trace; take the key away",
    ),
    (
        "service.telemetry.logs",
        "sampling",
        "warnings and errors that repeat are folded into one line in ten seconds; take the key away",
    ),
    (
        "service.telemetry.logs",
        "output_paths|error_output_paths",
        "messages go to stderr only; take the key away, and let what starts forebay redirect it",
    ),
    (
        "service.telemetry.logs",
        "initial_fields",
        "messages have no fields of the operator's; take the key away",
    ),
    (
        "service.telemetry.logs",
        "processors",
        "forebay never sends its own messages as records; take the key away, and read stderr",
    ),
    (
        "service.telemetry.metrics",
        "address",
        "write readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 8888}}}}]",
    ),
    (
        "service.telemetry.metrics",
        "views",
        "every metric is shown as it is; take the key away, and drop what is not wanted in Prometheus",
    ),
    (
        "service.telemetry.metrics.readers.*.pull.exporter.prometheus",
        "without_scope_info|without_units|without_type_suffix|with_resource_constant_labels|translation_strategy",
        "the names on the page are fixed; take the key away",
    ),
    (
        "service.telemetry.metrics.readers.*.pull",
        "producers|cardinality_limits",
        "forebay has no such setting; take the key away",
    ),
    (
        "service.telemetry.metrics.readers.*.periodic.exporter",
        "console|otlp_grpc|otlp_http",
        "write otlp, with protocol: grpc or protocol: http/protobuf",
    ),
    (
        "service.telemetry.metrics.readers.*.periodic.exporter.otlp",
        "insecure|certificate|client_certificate|client_key|certificate_file|client_certificate_file|client_key_file|tls",
        "metrics are pushed without TLS; take the key away, and let a Collector on this machine pass them on",
    ),
    (
        "service.telemetry.metrics.readers.*.periodic.exporter.otlp",
        "headers_list|default_histogram_aggregation",
        "write headers as a map, and leave the bounds of histograms as they are",
    ),
    (
        "service.telemetry.metrics.readers.*.periodic",
        "producers|cardinality_limits",
        "forebay has no such setting; take the key away",
    ),
];

/// What to do instead of the key at `path`; `None` where the Collector has no such key either.
pub(super) fn instead(path: &[String]) -> Option<&'static str> {
    find(path, |keys, key| keys.split('|').any(|known| known == key))
}

/// The same for a key whose name is not looked at.
pub(super) fn instead_of_any(path: &[String]) -> Option<&'static str> {
    find(path, |keys, _| keys == "*")
}

fn find(path: &[String], is_meant: impl Fn(&str, &str) -> bool) -> Option<&'static str> {
    let (key, section) = path.split_last()?;
    let is_section = |pattern: &str| {
        let mut steps = pattern.split('.').filter(|step| !step.is_empty());
        section.iter().all(|step| steps.next().is_some_and(|known| known == "*" || known == step))
            && steps.next().is_none()
    };
    ABSENT
        .iter()
        .find(|(section, keys, _)| is_section(section) && is_meant(keys, key))
        .map(|(_, _, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sentence_is_one() {
        for (section, keys, instead) in ABSENT {
            let at = format!("{section}.{keys}");
            assert!(!instead.ends_with('.') && !instead.contains(". "), "{at}");
            let path: Vec<_> =
                section.split('.').chain([keys.split('|').next().unwrap()]).map(str::to_owned).collect();
            let path = if section.is_empty() { &path[1..] } else { &path[..] };
            let found = if *keys == "*" { instead_of_any(path) } else { super::instead(path) };
            assert_eq!(found, Some(*instead), "{at}");
        }
    }

    #[test]
    fn the_guide_to_migrating_has_each_sentence() {
        let guide = include_str!("../../docs/migrating.md");
        for (section, keys, instead) in ABSENT {
            let row = guide.lines().find(|line| {
                line.ends_with(&format!("| {instead} |"))
                    && keys.split('|').all(|key| key == "*" || line.contains(&format!("`{key}`")))
                    && line.contains(&section.replace(".*", "[]"))
            });
            assert!(row.is_some(), "docs/migrating.md has no row for {section}.{keys}: {instead}");
        }
    }

    #[test]
    fn what_the_collector_does_not_have_either_is_not_explained() {
        let path = ["exporters", "postgres", "poolsize"].map(str::to_owned);
        assert_eq!(instead(&path).or(instead_of_any(&path)), None);
    }
}
