//! The counts of closed partitions, by minute, service and severity. `otel.histogram` answers from them without reading records.
//!
//! They are always exact. First, forebay creates a trigger on the partition, which writes a row of 1 or -1 for each record that is
//! inserted or deleted from then on, in the same transaction. Then, in one snapshot, it deletes the existing counts, counts the
//! records and writes the result. A record that the snapshot does not see has a row that the snapshot does not see either, so that
//! row stays. The trigger's comment states that counting is done. So all state is in the catalogue and is dropped with the
//! partition; the next counting deletes the rows of dropped partitions from `log_counts`.

use super::ddl::LOG_COUNTS;
use super::identifier::{Schema, literal};
use super::reading::in_schema;

/// The state of a partition's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Counts {
    /// There is no trigger; or its key is another table's, of which this one is a restored copy.
    #[default]
    None,
    /// A trigger counts under this key, but earlier records are not counted yet.
    Begun(String),
    /// They are complete, under this key.
    Done(String),
    /// The trigger is disabled, or is not forebay's.
    Off,
}

/// The name of the trigger's function.
pub(super) const FUNCTION: &str = "keep_counts";
/// The name of the trigger.
const TRIGGER: &str = "forebay_keep_counts";
const BEGUN: &str = "counting as ";
const DONE: &str = "counted as ";

/// The SQL expression for the comment of the trigger on the partition `c.oid`, for [`Counts::of`].
pub const STATE: &str = "(SELECT CASE WHEN t.tgenabled IN ('O', 'A') THEN coalesce(obj_description(t.oid, 'pg_trigger'), '') \
                         ELSE '' END FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'forebay_keep_counts')";

/// The statement for the keys of partitions with so many late rows that reading these takes long.
pub fn with_late(schema: &Schema) -> String {
    format!(
        "SELECT partition_key FROM {schema}.{LOG_COUNTS} WHERE is_late GROUP BY 1 HAVING count(*) > 10000"
    )
}

impl Counts {
    /// The state in the result of [`STATE`] for the partition `oid`.
    pub fn of(state: Option<&str>, oid: u32) -> Self {
        let Some(comment) = state else { return Self::None };
        let (begun, done) = (comment.strip_prefix(BEGUN), comment.strip_prefix(DONE));
        match begun.or(done) {
            None => Self::Off,
            Some(key) if !key.ends_with(&format!("/{oid}")) => Self::None,
            Some(key) if done.is_some() => Self::Done(key.to_owned()),
            Some(key) => Self::Begun(key.to_owned()),
        }
    }

    /// Whether counting has to begin or go on.
    pub fn are_wanting(&self) -> bool {
        matches!(self, Self::None | Self::Begun(_))
    }
}

/// The statements that create the trigger which counts the records of `partition` (quoted) under `key`. They need a lock that
/// blocks writers. An existing trigger came with a copy of another table. It is dropped, because only PostgreSQL 14 and newer can
/// replace it; dropping a trigger that does not exist takes no lock that blocks anybody.
pub fn keep(schema: &Schema, partition: &str, key: &str) -> String {
    let (argument, comment) = (literal(key), literal(&format!("{BEGUN}{key}")));
    let trigger = |name: &str, fires: &str| {
        format!(
            "DROP TRIGGER IF EXISTS {name} ON {partition};\n\
             CREATE TRIGGER {name} AFTER {fires} EXECUTE FUNCTION {schema}.{FUNCTION}({argument});\n"
        )
    };
    let changes = format!(
        "INSERT OR DELETE OR UPDATE OF time_unix_nano, resource_id, severity_number ON {partition} FOR EACH ROW"
    );
    trigger(TRIGGER, &changes)
        + &trigger("forebay_empty_counts", &format!("TRUNCATE ON {partition} FOR EACH STATEMENT"))
        + &format!("COMMENT ON TRIGGER {TRIGGER} ON {partition} IS {comment}")
}

/// The statements that count the records of `partition`, in a transaction with one snapshot.
pub fn count(schema: &Schema, partition: &str, key: &str) -> String {
    let (key, comment) = (literal(key), literal(&format!("{DONE}{key}")));
    let records = format!(
        "counted AS (\
         SELECT time_unix_nano / 60000000000 AS minute, resource_id, severity_number, count(*) AS records \
         FROM ONLY {partition} GROUP BY 1, 2, 3\
         ), minutes AS (\
         SELECT minute, service_name, severity_number, sum(records) AS records \
         FROM counted LEFT JOIN {schema}.resources ON id = resource_id GROUP BY 1, 2, 3)"
    );
    format!(
        "DELETE FROM {schema}.{LOG_COUNTS} WHERE partition_key = {key} OR partition_key NOT IN (\
         SELECT substring(obj_description(oid, 'pg_trigger') FROM '^count(?:ing|ed) as (.*)$') FROM pg_trigger \
         WHERE tgname = '{TRIGGER}' AND obj_description(oid, 'pg_trigger') ~ '^count(ing|ed) as ');\n\
         {};\nCOMMENT ON TRIGGER {TRIGGER} ON {partition} IS {comment}",
        keep_minutes(schema, &key, &records)
    )
}

/// The statement that folds late rows into the counts of `key`, in a transaction with one snapshot.
pub fn fold(schema: &Schema, key: &str) -> String {
    let key = literal(key);
    let counts = format!(
        "old AS (DELETE FROM {schema}.{LOG_COUNTS} WHERE partition_key = {key} RETURNING *), minutes AS (\
         SELECT extract(epoch FROM start)::bigint / 60 + number - 1 AS minute, service_name, severity_number, sum(records) AS records \
         FROM old, unnest(counts) WITH ORDINALITY m (records, number) GROUP BY 1, 2, 3 HAVING sum(records) <> 0)"
    );
    keep_minutes(schema, &key, &counts)
}

/// The statement that stores `minutes`, which `source` defines: a row for each hour, with 0 for minutes without records.
fn keep_minutes(schema: &Schema, key: &str, source: &str) -> String {
    format!(
        "WITH {source}, hours AS (\
         SELECT minute / 60 AS hour, service_name, severity_number, min(minute) AS first, max(minute) AS last \
         FROM minutes GROUP BY 1, 2, 3\
         ), filled AS (\
         SELECT minute, service_name, severity_number, records FROM minutes UNION ALL \
         SELECT minute, service_name, severity_number, 0 FROM hours, generate_series(first, last) minute\
         ), summed AS (\
         SELECT minute, service_name, severity_number, sum(records)::int AS records FROM filled GROUP BY 1, 2, 3\
         ) INSERT INTO {schema}.{LOG_COUNTS} \
         SELECT {key}, to_timestamp(min(minute) * 60), service_name, severity_number, \
         array_agg(records ORDER BY minute), false FROM summed GROUP BY minute / 60, service_name, severity_number"
    )
}

/// The key of a partition. No other table of the database has it, nor a copy of this one.
pub fn key(partition: &str, oid: u32) -> String {
    format!("{partition}/{oid}")
}

/// The statement that creates the trigger's function or replaces an older one.
pub(super) fn function(schema: &Schema) -> String {
    in_schema(include_str!("counts.sql"), schema)
}
