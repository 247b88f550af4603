//! The indexes of partitions, each stated once: how it is called, what it is made of, and what it is for.
//!
//! The partition that is written has the BRIN index on `time`, which costs next to nothing, and that of the errors, which are few.
//! It has none of the others, because each costs every row. What they are made of is what the view compares, so that its
//! predicates reach them.

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

/// What the view compares.
const TRACE_ID: &str = "encode(trace_id, 'hex')";
/// The longest name that PostgreSQL has, in bytes.
const LONGEST: usize = 63;

impl Index {
    /// The name of the one of this `partition`, such as `log_records_20261125_service_idx`.
    pub fn name(self, partition: &str) -> String {
        let suffix = format!("_{}_idx", <&str>::from(self));
        let end = (0..=partition.len().min(LONGEST - suffix.len()))
            .rfind(|&end| partition.is_char_boundary(end))
            .unwrap_or_default();
        format!("{}{suffix}", &partition[..end])
    }

    /// Whether a partition has it from the beginning, and not only once it is closed.
    pub fn is_kept_while_written(self) -> bool {
        self == Self::Errors
    }

    /// Whether it needs the extension pg_trgm.
    pub fn needs_trigrams(self) -> bool {
        self == Self::Body
    }

    /// The statement that estimates what a build of the one of `partition`, which is quoted, collects in memory, in bytes, from
    /// this share of its pages, and how much memory PostgreSQL has for building; `None` where it makes no difference.
    ///
    /// A build of a GIN index collects keys until its memory is full, and then adds them in their order. So each page is
    /// split when it is full, and its left half stays as it is: after the first time all pages are half full. A second time
    /// of the same size fills them up (PostgreSQL's `gininsert.c` and `ginentrypage.c`). A pair of an attribute and its value
    /// takes 112 bytes there, and 10 more for each further place of it. How many there are is estimated for each attribute as
    /// ANALYZE does it (Haas and Stokes).
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

    /// The statement that builds the one of `partition`, which is in `schema` (both bare), while writing goes on. The
    /// extension pg_trgm is in the schema `trigrams`.
    pub fn statement(self, schema: &str, partition: &str, trigrams: &str) -> String {
        self.build(schema, partition, &self.definition(trigrams))
    }

    /// The statement that builds it where a value is too long for [`Self::statement`]'s, where there is one: twice as large, it
    /// takes values of any length.
    pub fn statement_for_long(self, schema: &str, partition: &str) -> Option<String> {
        let definition = format!("USING hash ({TRACE_ID}) WHERE trace_id IS NOT NULL");
        (self == Self::TraceId).then(|| self.build(schema, partition, &definition))
    }

    fn build(self, schema: &str, partition: &str, definition: &str) -> String {
        let (name, table) = (quoted(&self.name(partition)), quoted(partition));
        format!("CREATE INDEX CONCURRENTLY {name} ON {}.{table} {definition}", quoted(schema))
    }

    /// The statement that builds the one of `partition`, which is in `schema` and new, where [`Self::is_kept_while_written`].
    pub(super) fn statement_for_new(self, schema: &Schema, partition: &str) -> String {
        let (name, table) = (quoted(&self.name(partition)), quoted(partition));
        format!("CREATE INDEX {name} ON {schema}.{table} {}", self.definition(""))
    }

    fn definition(self, trigrams: &str) -> String {
        match self {
            // By the resource as well, so that the others' errors are passed over without a look at their rows.
            Self::Errors => "(time, resource_id) WHERE severity_number >= 17".to_owned(),
            // The service is an attribute of the resource, of which there are few of each service.
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
