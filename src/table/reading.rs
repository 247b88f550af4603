//! What people read: the view over the tables, and functions over the view.

use super::identifier::{Schema, literal};

/// The functions.
pub(super) const FUNCTIONS: [&str; 6] =
    ["severity_number", "search", "trace", "counted", "histogram", "errors_by_service"];

/// The view's columns, each with what it is made of. A view that is there can only be given more at its end.
const VIEW: &[(&str, &str)] = &[
    ("time", "l.time"),
    ("time_unix_nano", "l.time_unix_nano"),
    (
        "observed_time",
        // In two steps, because an interval is multiplied by a double, which has not all of the digits.
        "timestamp with time zone 'epoch' + l.observed_time_unix_nano / 1000000000 * interval '1 second' \
         + l.observed_time_unix_nano % 1000000000 / 1000 * interval '1 microsecond'",
    ),
    ("severity_number", "l.severity_number"),
    ("severity_text", "l.severity_text"),
    (
        "severity",
        "CASE WHEN l.severity_number BETWEEN 1 AND 24 THEN \
         (ARRAY['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'])[(l.severity_number + 3) / 4] END",
    ),
    ("service_name", "r.service_name"),
    ("body", "coalesce(l.body, l.body_json::text)"),
    ("body_json", "l.body_json"),
    ("event_name", "l.event_name"),
    ("trace_id", "encode(l.trace_id, 'hex')"),
    ("span_id", "encode(l.span_id, 'hex')"),
    ("trace_flags", "coalesce(l.trace_flags, 0)"),
    ("attributes", "l.attributes"),
    ("resource", "r.attributes"),
    ("scope_attributes", "s.attributes"),
    ("scope_name", "s.name"),
    ("scope_version", "s.version"),
    ("resource_schema_url", "r.schema_url"),
    ("scope_schema_url", "s.schema_url"),
    ("dropped_attributes_count", "coalesce(l.dropped_attributes_count, 0)"),
    ("observed_time_unix_nano", "l.observed_time_unix_nano"),
    ("resource_dropped_attributes_count", "r.dropped_attributes_count"),
    ("scope_dropped_attributes_count", "s.dropped_attributes_count"),
    ("stored_by", "l.xmin"),
    ("resource_id", "l.resource_id"),
];

/// What a column of the view is made of, where `l` is `log_records`.
#[cfg(test)]
pub(super) fn view_expression(column: &str) -> Option<&'static str> {
    VIEW.iter().find(|(name, _)| *name == column).map(|(_, expression)| *expression)
}

/// The statements that make the view, or make of an older one the newest.
pub(super) fn view(schema: &Schema) -> String {
    let columns: Vec<_> =
        VIEW.iter().map(|(name, expression)| format!("    {expression} AS {name}")).collect();
    format!(
        "CREATE OR REPLACE VIEW {schema}.logs AS\nSELECT\n{}\nFROM {schema}.log_records l\n\
         LEFT JOIN {schema}.resources r ON r.id = l.resource_id\n\
         LEFT JOIN {schema}.scopes s ON s.id = l.scope_id;\n\
         COMMENT ON VIEW {schema}.logs IS 'Log records, for reading';\n\
         COMMENT ON COLUMN {schema}.logs.stored_by IS \
         'The transaction that stored it, by which forebay tail tells what is new';\n",
        columns.join(",\n")
    )
}

/// The statements that make the functions, or make of older ones the newest.
pub(super) fn functions(schema: &Schema) -> String {
    in_schema(include_str!("reading.sql"), schema)
}

/// Functions as a file has them, without what it says of itself, in `schema`.
pub(super) fn in_schema(sql: &str, schema: &Schema) -> String {
    let mut quotes = (0..).map(|number| format!("$forebay{number}$"));
    let quote = quotes.find(|quote| !schema.name().contains(quote)).expect("a name ends");
    sql.lines()
        .skip_while(|line| line.starts_with("--"))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .replace("$forebay$", &quote)
        .replace("{name}", &literal(schema.name()))
        .replace("{schema}", &schema.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_schema_ends_a_function() {
        let sql = functions(&Schema::new("a$forebay0$'\"b"));
        assert!(sql.contains("AS $forebay1$") && !sql.contains("AS $forebay0$"), "{sql}");
        assert!(sql.contains(r#"FUNCTION "a$forebay0$'""b".search("#), "{sql}");
        assert!(
            sql.contains(r#"format('SELECT l.* FROM %I.logs l WHERE true', E'a$forebay0$''"b')"#),
            "{sql}"
        );
    }
}
