//! `exporters.postgres.table`: the exact words of refusals, and the round trip.

use super::*;

fn table(columns: &str) -> Result<Config, String> {
    minimal(&[&format!("exporters.postgres.table={{name: app.logs, columns: {columns}}}")], &none)
}

#[test]
fn each_bad_mapping_is_refused_by_name() {
    let one_of =
        "expected one of field, attribute, resource, scope, attributes, constant, generate, first_of";
    for (columns, refusal) in [
        ("{}", "columns: found 0 columns, expected 1 to 1600 columns, each with what it is filled with".to_owned()),
        ("{a: {}}", format!("columns.a: found no source, {one_of}")),
        ("{a: {field: body, attribute: b}}", format!("columns.a: found several sources, {one_of}")),
        ("{a: {field: bdy}}", "columns.a.field: found \"bdy\", expected one of time, time_unix_nano, observed_time, \
            observed_time_unix_nano, severity_number, severity_text, severity, service_name, body, event_name, trace_id, \
            span_id, trace_flags, attributes, resource, scope_attributes, scope_name, scope_version, resource_schema_url, \
            scope_schema_url, dropped_attributes_count".to_owned()),
        ("{a: {attribut: b}}", "columns.a.attribut: unknown key; did you mean attribute?".to_owned()),
        ("{a: {attribute: b, default: [1]}}",
            "columns.a.default: found a list, expected text, a number, true or false".to_owned()),
        ("{a: {attribute: b, type: integer, default: few}}",
            "columns.a.default: found \"few\", expected a value that integer holds".to_owned()),
        ("{a: {attribute: b, type: varchar(2), default: abc}}",
            "columns.a.default: found \"abc\", expected a value that varchar(2) holds".to_owned()),
        ("{a: {attribute: b, type: smallint, map: {x: 70000}}}",
            "columns.a.map.x: found \"70000\", expected a value that smallint holds".to_owned()),
        ("{a: {constant: x, type: jsonb}}", "columns.a.constant: found \"x\", expected a value that jsonb holds".to_owned()),
        ("{a: {constant: x, default: y}}",
            "columns.a.default: found default beside constant, expected one of the two".to_owned()),
        ("{a: {attribute: b, type: numeric}}", "columns.a.type: found \"numeric\", expected varchar(n) or one of text, \
            smallint, integer, bigint, real, double precision, boolean, timestamptz, timestamp, date, json, jsonb, uuid, \
            bytea, inet".to_owned()),
        ("{a: {attributes: [b], type: integer}}",
            "columns.a.type: found integer, expected json, jsonb or text for several attributes".to_owned()),
        ("{a: {attributes: all}}", "columns.a.attributes: found \"all\", expected a list of keys, or rest".to_owned()),
        ("{a: {attributes: []}}", "columns.a.attributes: found no keys, expected a list of keys, or rest".to_owned()),
        ("{a: {attributes: [x, '*a*']}}", "columns.a.attributes[1]: found \"*a*\", expected at most one *".to_owned()),
        ("{a: {first_of: [{attribute: b}, {}]}}",
            "columns.a.first_of[1]: found 0 sources, expected one of field, attribute, resource, scope".to_owned()),
        ("{a: {first_of: [{attribute: b, type: text}]}}",
            "columns.a.first_of[0]: found further keys, expected one of field, attribute, resource, scope".to_owned()),
        ("{a: {generate: id}}", "columns.a.generate: found \"id\", expected one of uuid".to_owned()),
        ("{'': {field: body}}", "columns.\"\": found \"\", expected a column's name of 1 to 63 bytes".to_owned()),
        ("{a.b: {}}", format!("columns.a.b: found no source, {one_of}")),
    ] {
        let expected = format!("exporters.postgres.table.{refusal}");
        assert_eq!(table(columns).map(|config| config.exporter.table), Err(expected), "{columns}");
    }
    for name in ["", "logs", "app.", ".logs"] {
        let set = format!("exporters.postgres.table={{name: '{name}', columns: {{a: {{field: body}}}}}}");
        let expected = format!(
            "exporters.postgres.table.name: found {name:?}, expected schema and table, such as public.logs, with the \
             letters that PostgreSQL shows"
        );
        assert_eq!(minimal(&[&set], &none).unwrap_err(), expected);
    }
}

#[test]
fn a_mapping_is_printed_and_read_again() {
    let env = of(&[("ENVIRONMENT", "staging"), ("PID", "007")]);
    let columns = "{id: {generate: uuid, type: varchar(36)}, level: {field: severity, map: {WARN: WARNING, '9': 9}}, \
                   a: {attributes: [x, '*_ms'], type: json}, rest: {attributes: rest, default: '{}'}, \
                   b: {constant: '${env:ENVIRONMENT}'}, c: {attribute: n, type: double precision, default: 1.5}, \
                   d: {first_of: [{attribute: x}, {scope: y}, {resource: z}], default: '${env:PID}'}, \
                   e: {constant: true, type: bool}, f: {constant: '$$x'}}";
    let set = format!("exporters.postgres.table={{name: app.Log Entries, columns: {columns}}}");
    let config = minimal(&[&set], &env).unwrap();
    let yaml = config.to_yaml();
    let again = load_text(&[&yaml], &[], &none).unwrap_or_else(|error| panic!("{error} in:\n{yaml}"));
    assert_eq!(again, config, "{yaml}");
    let text = |name: &str| {
        let column = &config.exporter.table.as_ref().unwrap().columns[name];
        column.constant.as_ref().or(column.default.as_ref()).unwrap().0.clone()
    };
    assert_eq!(["b", "c", "d", "e", "f"].map(text), ["staging", "1.5", "007", "true", "$x"]);
    let mut other = config.clone();
    other.exporter.table.as_mut().unwrap().columns.remove("e");
    assert_eq!(config.changes(&other), ["exporters.postgres.table.columns.e"]);
}
