//! The view over the tables, and the functions over the view.

use super::identifier::{Schema, literal};

/// The view's name.
pub const NAME: &str = "logs";
/// The functions.
pub(super) const FUNCTIONS: [&str; 6] =
    ["severity_number", "search", "trace", "counted", "histogram", "errors_by_service"];

/// The view's columns, each with its expression. PostgreSQL adds columns to an existing view only at its end.
const VIEW: &[(&str, &str)] = &[
    ("time", "l.time"),
    ("time_unix_nano", "l.time_unix_nano"),
    (
        "observed_time",
        // In two steps: an interval is multiplied by a double, which has too few digits.
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

/// The expression of a column of the view, where `l` is `log_records`.
#[cfg(test)]
pub(super) fn view_expression(column: &str) -> Option<&'static str> {
    VIEW.iter().find(|(name, _)| *name == column).map(|(_, expression)| *expression)
}

/// The names of the view's columns, in their order.
pub fn columns() -> impl Iterator<Item = &'static str> {
    VIEW.iter().map(|(name, _)| *name)
}

/// The statement that creates the view, or replaces an older one, under `name` (quoted): its first `count` columns, as in an older
/// version, and `options` after the name.
pub fn view_as(schema: &Schema, name: &str, options: &str, count: usize) -> String {
    let columns: Vec<_> =
        VIEW.iter().take(count).map(|(name, expression)| format!("    {expression} AS {name}")).collect();
    format!(
        "CREATE OR REPLACE VIEW {schema}.{name}{options} AS\nSELECT\n{}\nFROM {schema}.log_records l\n\
         LEFT JOIN {schema}.resources r ON r.id = l.resource_id\n\
         LEFT JOIN {schema}.scopes s ON s.id = l.scope_id;\n",
        columns.join(",\n")
    )
}

/// The same with all columns, under the view's own name. Replacing a view removes its options, so `options` restores them.
pub fn view(schema: &Schema, options: &str) -> String {
    view_as(schema, NAME, options, VIEW.len())
}

/// The statements that comment on the view.
pub fn comments(schema: &Schema) -> String {
    format!(
        "COMMENT ON VIEW {schema}.{NAME} IS 'Log records, for reading';\n\
         COMMENT ON COLUMN {schema}.{NAME}.stored_by IS \
         'The transaction that stored it, by which forebay tail tells what is new';\n"
    )
}

/// Before version 12, histogram had no `folded`. A call with fewer arguments could mean either of both functions, so the older one
/// goes. If views depend on it, it gets another name. A function of somebody's own stays.
const BEFORE_HISTOGRAM: &str = "\
DO $forebay$
DECLARE
    older text := format('%I.histogram(interval, timestamptz, timestamptz, text, text, text)', {name});
BEGIN
    IF obj_description(to_regprocedure(older), 'pg_proc') LIKE 'How many log records there are in each width of time%' THEN
        EXECUTE 'DROP FUNCTION ' || older;
    END IF;
EXCEPTION WHEN dependent_objects_still_exist THEN
    EXECUTE 'ALTER FUNCTION ' || older || ' RENAME TO histogram_of_rows';
END
$forebay$;
";

/// A function over the view.
#[derive(Debug)]
pub struct Function {
    /// Schema, name and the types of the parameters.
    pub signature: String,
    /// Its source, as PostgreSQL keeps it.
    pub body: String,
    /// The statements that create it or replace an older one.
    pub sql: String,
}

/// The functions over the view.
pub fn functions(schema: &Schema) -> Vec<Function> {
    const CREATE: &str = "CREATE OR REPLACE FUNCTION ";
    let (all, quote) = (in_schema(include_str!("reading.sql"), schema), quote(schema));
    let function = |sql: &str| {
        let mut parts = sql.split(&quote);
        let body = parts.nth(1)?.to_owned();
        let (_, comment) = parts.next()?.split_once("COMMENT ON FUNCTION ")?;
        let (signature, _) = comment.split_once(" IS\n")?;
        let is_histogram = sql.starts_with(&format!("{schema}.histogram("));
        let before = if is_histogram { in_schema(BEFORE_HISTOGRAM, schema) } else { String::new() };
        Some(Function { signature: signature.to_owned(), body, sql: format!("{before}{CREATE}{sql}") })
    };
    all.split(CREATE).filter_map(function).collect()
}

/// The functions of a file, in `schema`, without the comment at its beginning.
pub(super) fn in_schema(sql: &str, schema: &Schema) -> String {
    sql.lines()
        .skip_while(|line| line.starts_with("--"))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .replace("$forebay$", &quote(schema))
        .replace("{name}", &literal(schema.name()))
        .replace("{schema}", &schema.to_string())
}

/// The quote around a function's source.
fn quote(schema: &Schema) -> String {
    let mut quotes = (0..).map(|number| format!("$forebay{number}$"));
    quotes.find(|quote| !schema.name().contains(quote)).expect("a name ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_is_found_in_the_file_with_its_signature() {
        let found = functions(&Schema::new("otel"));
        assert_eq!(found.len(), include_str!("reading.sql").matches("CREATE OR REPLACE FUNCTION").count());
        assert_eq!(found[0].signature, r#""otel".severity_number(text)"#);
        for function in found {
            let name = function.signature.split('(').next().unwrap();
            assert!(function.sql.contains(&format!("CREATE OR REPLACE FUNCTION {name}(")), "{function:?}");
            assert!(function.sql.contains(&function.body) && function.body.ends_with('\n'), "{function:?}");
        }
    }

    #[test]
    fn no_name_of_a_schema_ends_a_function() {
        let functions = functions(&Schema::new("a$forebay0$'\"b"));
        let sql: String = functions.into_iter().map(|function| function.sql).collect();
        assert!(sql.contains("AS $forebay1$") && !sql.contains("AS $forebay0$"), "{sql}");
        assert!(sql.contains(r#"FUNCTION "a$forebay0$'""b".search("#), "{sql}");
        assert!(
            sql.contains(r#"format('SELECT l.* FROM %I.logs l WHERE true', E'a$forebay0$''"b')"#),
            "{sql}"
        );
    }
}
