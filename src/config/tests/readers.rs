//! Readers of forebay's own metrics: what they may be, and the exact words where they may not.

use super::*;

fn refusal(readers: &str) -> String {
    minimal(&[&format!("service.telemetry.metrics.readers=[{readers}]")], &none).unwrap_err()
}

#[test]
fn a_reader_is_one_of_two() {
    let key = "service.telemetry.metrics.readers[0]";
    assert_eq!(refusal("{}"), format!("{key}: found nothing, expected pull or periodic"));
    assert_eq!(
        refusal("{pull: , periodic: }"),
        format!("{key}: found pull and periodic, expected one of them; write two readers")
    );
    assert!(refusal("{push: }").starts_with(&format!("{key}.push: unknown key; ")));
}

#[test]
fn what_cannot_be_pushed_to_is_refused() {
    let otlp = |keys: &str| refusal(&format!("{{periodic: {{exporter: {{otlp: {{{keys}}}}}}}}}"));
    let key = "service.telemetry.metrics.readers[0].periodic.exporter.otlp";
    for (keys, expected) in [
        (
            "endpoint: 'https://backend:4317'",
            "endpoint: found \"https://backend:4317\", expected http://host:port: metrics are pushed without TLS; \
             let a Collector on this machine pass them on",
        ),
        (
            "endpoint: 'http://backend:4317/v1/metrics'",
            "endpoint: found \"http://backend:4317/v1/metrics\", expected http://host:port, and a path only where the \
             protocol is http/protobuf",
        ),
        ("protocol: http/json", "protocol: found \"http/json\", expected one of grpc, http/protobuf"),
        ("timeout: 0", "timeout: found 0, expected a duration above 0, such as 10s"),
        (
            "timeout: 5 sec",
            "timeout: found \"5 sec\", expected a duration with its unit (ns, us, ms, s, m, h, d, w), such as 200ms, \
             1m30s or 30d, or a number of milliseconds",
        ),
        ("headers: {a b: x}", "headers: found \"a b\", expected a name that HTTP has, and a value of ASCII"),
        ("headers: 5", "headers: found 5, expected a map of names and values"),
        ("headers: [{name: a}]", "headers[0]: missing field `value`"),
        (
            "insecure: true",
            "insecure: not in forebay: metrics are pushed without TLS; remove this key, and let a Collector on this machine \
             forward them",
        ),
    ] {
        assert_eq!(otlp(keys), format!("{key}.{expected}"));
    }
    for endpoint in ["backend:4317", "http://backend", "http://me:hunter2@backend:4317", "http://:4317"] {
        let said = otlp(&format!("endpoint: '{endpoint}'"));
        assert!(said.contains("expected http://host:port") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn headers_are_a_map_or_a_list_and_take_the_environment() {
    let env = of(&[("KEY", "secret")]);
    let headers = |headers: &str| {
        let readers = format!("[{{periodic: {{exporter: {{otlp: {{headers: {headers}}}}}}}}}]");
        let config = minimal(&[&format!("service.telemetry.metrics.readers={readers}")], &env).unwrap();
        config.telemetry.metrics.readers[0].periodic.clone().unwrap().exporter.otlp.headers
    };
    let map = headers("{a: '${env:KEY}', b: '5'}");
    assert_eq!(map, headers("[{name: a, value: secret}, {name: b, value: '5'}]"));
    assert_eq!(map.unfit(), None);
    assert_ne!(map, headers("{a: other, b: '5'}"));
}

#[test]
fn the_level_none_is_no_readers() {
    let readers = |level: &str| {
        minimal(&[&format!("service.telemetry.metrics.level={level}")], &none)
            .unwrap()
            .telemetry
            .metrics
            .readers
    };
    assert_eq!(readers("none"), []);
    for level in ["basic", "normal", "detailed"] {
        assert_eq!(readers(level), defaults().telemetry.metrics.readers);
    }
}
