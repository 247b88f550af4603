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
fn an_endpoint_that_is_not_http_is_refused_without_its_password() {
    let otlp = |keys: &str| refusal(&format!("{{periodic: {{exporter: {{otlp: {{{keys}}}}}}}}}"));
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
