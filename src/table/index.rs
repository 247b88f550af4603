//! The indexes of partitions: name, definition and purpose of each.
//!
//! While a partition is written, it has the BRIN index on `time`, which costs almost nothing, and the one on errors, which are
//! few. It has none of the others, because each would cost time for every row. The expressions are those of the view, so that
//! its predicates use the indexes.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::identifier::{Schema, quoted};

/// An index that a partition can have; in snake case it is its name in the configuration and the label `index` in metrics.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Deserialize,
    IntoStaticStr,
    Serialize,
    VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Index {
    /// The records at ERROR or above of a span of time.
    Errors,
    /// A service's records of a span of time.
    Service,
    /// A trace's records.
    TraceId,
    /// The records with an attribute.
    Attributes,
    /// The records with a text in their body.
    Body,
}

/// The view's expression.
const TRACE_ID: &str = "encode(trace_id, 'hex')";
/// The longest name in PostgreSQL, in bytes.
const LONGEST: usize = 63;

impl Index {
    /// Its name on this `partition`, such as `log_records_20261125_service_idx`.
    pub fn name(self, partition: &str) -> String {
        let suffix = format!("_{}_idx", <&str>::from(self));
        let end = (0..=partition.len().min(LONGEST - suffix.len()))
            .rfind(|&end| partition.is_char_boundary(end))
            .unwrap_or_default();
        format!("{}{suffix}", &partition[..end])
    }

    /// Whether a partition has it from the beginning, not only after it is closed.
    pub fn is_kept_while_written(self) -> bool {
        self == Self::Errors
    }

    /// Whether it needs the extension pg_trgm.
    pub fn needs_trigrams(self) -> bool {
        self == Self::Body
    }

    /// The statement that estimates, from this share of the pages of `partition` (quoted), how many bytes a build collects in
    /// memory, and returns PostgreSQL's memory for building; `None` if the memory makes no difference.
    ///
    /// PostgreSQL builds a GIN index in passes: it collects keys until its memory is full, then adds them in order. A full page is
    /// split, and its left half gets no more keys, so one pass leaves pages half full. A second pass of the same size fills them
    /// (PostgreSQL's `gininsert.c` and `ginentrypage.c`). A pair of an attribute and its value takes 112 bytes of memory, and 10
    /// more for each further occurrence. The number of pairs is estimated for each attribute as ANALYZE does (Haas and Stokes).
    pub fn collected_statement(self, partition: &str, share: f64) -> Option<String> {
        (self == Self::Attributes).then(|| {
            format!(
                "WITH pairs AS (SELECT key, count(*)::float8 AS places FROM {partition} \
                 TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1), \
                 jsonb_each(CASE WHEN jsonb_typeof(attributes) = 'object' THEN attributes ELSE '{{}}' END) GROUP BY key, value), \
                 sample AS (SELECT sum(places) AS places, count(*) AS pairs, count(*) FILTER (WHERE places = 1) AS once \
                 FROM pairs GROUP BY key), \
                 estimate AS (SELECT places / {share} AS places, \
                 places * pairs / (places - once + once * {share}) AS pairs FROM sample) \
                 SELECT sum(112 * pairs + 10 * (places - pairs)), \
                 pg_size_bytes(current_setting('maintenance_work_mem'))::float8 FROM estimate HAVING count(*) > 0",
                percent = share * 100.0
            )
        })
    }

    /// The statement that builds it on `partition` in `schema` (both bare) without blocking writers. The extension pg_trgm is in
    /// the schema `trigrams`.
    pub fn statement(self, schema: &str, partition: &str, trigrams: &str) -> String {
        self.build(schema, partition, &self.definition(trigrams))
    }

    /// The statement to use if a value is too long for [`Self::statement`], if there is one. This index is twice as large, but
    /// holds values of any length.
    pub fn statement_for_long(self, schema: &str, partition: &str) -> Option<String> {
        let definition = format!("USING hash ({TRACE_ID}) WHERE trace_id IS NOT NULL");
        (self == Self::TraceId).then(|| self.build(schema, partition, &definition))
    }

    fn build(self, schema: &str, partition: &str, definition: &str) -> String {
        let (name, table) = (quoted(&self.name(partition)), quoted(partition));
        format!("CREATE INDEX CONCURRENTLY {name} ON {}.{table} {definition}", quoted(schema))
    }

    /// The statement that builds it on the new `partition` in `schema`, if [`Self::is_kept_while_written`].
    pub(super) fn statement_for_new(self, schema: &Schema, partition: &str) -> String {
        let (name, table) = (quoted(&self.name(partition)), quoted(partition));
        format!("CREATE INDEX {name} ON {schema}.{table} {}", self.definition(""))
    }

    fn definition(self, trigrams: &str) -> String {
        match self {
            // With the resource, so that a search for one service skips other errors without reading their rows.
            Self::Errors => "(time, resource_id) WHERE severity_number >= 17".to_owned(),
            // The service is an attribute of the resource, and a service has few resources.
            Self::Service => "(resource_id, time)".to_owned(),
            Self::TraceId => format!("({TRACE_ID}) WHERE trace_id IS NOT NULL"),
            Self::Attributes => "USING gin (attributes jsonb_path_ops)".to_owned(),
            Self::Body => {
                format!("USING gin (coalesce(body, body_json::text) {}.gin_trgm_ops)", quoted(trigrams))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::reading::view_expression;

    #[test]
    fn what_the_view_compares_is_what_is_indexed() {
        for (index, column) in
            [(Index::TraceId, "trace_id"), (Index::Attributes, "attributes"), (Index::Body, "body")]
        {
            let expression = view_expression(column).unwrap().replace("l.", "");
            let statement = index.statement("otel", "log_records_20261125", "public");
            let long = index.statement_for_long("otel", "log_records_20261125");
            for statement in long.iter().chain([&statement]) {
                assert!(statement.contains(&format!("({expression}")), "{expression} is not in {statement}");
            }
        }
    }

    #[test]
    fn names_fit_and_tell_indexes_apart() {
        assert_eq!(Index::Service.name("log_records_20261125"), "log_records_20261125_service_idx");
        let long = "ä".repeat(31);
        for &index in Index::VARIANTS {
            let (name, label) = (index.name(&long), <&str>::from(index));
            assert!(name.len() <= LONGEST && name.ends_with(&format!("_{label}_idx")), "{name}");
            assert_eq!(serde_json::to_value(index).unwrap(), label);
        }
    }
}
