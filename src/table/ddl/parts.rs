//! The parts of a store by name, and the statements that create dropped ones again.

use super::*;
use crate::table::counts;
use crate::table::reading::{self, NAME};

/// The existing parts of a store, by the names of relations and functions.
#[derive(Debug, Default)]
pub struct Parts {
    /// Tables and the view.
    pub relations: Vec<String>,
    /// Functions.
    pub functions: Vec<String>,
    /// The table of the records has a default partition, or a detached one is kept.
    pub has_default: bool,
    /// The relation with the view's name is a view, which needs its tables.
    pub has_view: bool,
}

/// The tables of the view. Dropping one drops the view as well. So if the view exists and one of these is missing, somebody has
/// renamed or moved the table, and a second one would be in the way.
const VIEWED: [&str; 3] = ["resources", "scopes", LOG_RECORDS];

impl Parts {
    /// The missing tables that have to be created again.
    pub fn missing_tables(&self) -> Vec<&'static str> {
        let is_away = |table: &str| self.has_view && VIEWED.contains(&table);
        let names = TABLES.iter().map(|table| table.name);
        names.filter(|table| !self.has(table) && !is_away(table)).collect()
    }

    /// The statements that create these, and the default partition and the counting function if they are missing.
    pub fn tables_again(&self, schema: &Schema) -> String {
        let missing = self.missing_tables();
        let tables = || TABLES.iter().filter(|table| missing.contains(&table.name));
        let mut sql: String = tables().map(|table| table.definition(schema, "CREATE TABLE")).collect();
        tables().for_each(|table| sql += &complete(schema, table.name));
        if self.has(LOG_RECORDS) && !self.has_default {
            sql += &complete(schema, LOG_RECORDS);
        }
        if !self.has_function(counts::FUNCTION) {
            sql += &counts::function(schema);
        }
        sql
    }

    /// Whether no part is missing, the view and the functions over it included.
    pub fn are_complete(&self, schema: &Schema) -> bool {
        let has_functions = reading::FUNCTIONS.iter().all(|name| self.has_function(name));
        self.tables_again(schema).is_empty() && self.has(NAME) && has_functions
    }

    fn has_function(&self, function: &str) -> bool {
        self.functions.iter().any(|name| name == function)
    }

    /// Whether any table exists.
    pub fn has_tables(&self) -> bool {
        TABLES.iter().any(|table| self.has(table.name))
    }

    /// Whether this relation exists.
    pub fn has(&self, relation: &str) -> bool {
        self.relations.iter().any(|name| name == relation)
    }
}

/// The statements after the definition of `table`: indexes, and the replica identity that lets rows be deleted if it is published.
pub(super) fn complete(schema: &Schema, table: &str) -> String {
    match table {
        "resources" => format!(
            "CREATE INDEX IF NOT EXISTS resources_service_name ON {schema}.resources USING hash (service_name);\n"
        ),
        "lanes" => format!("ALTER TABLE {schema}.lanes ADD PRIMARY KEY (gateway, lane);\n"),
        LOG_RECORDS => format!(
            "CREATE TABLE IF NOT EXISTS {schema}.log_records_default PARTITION OF {schema}.log_records DEFAULT;\n\
             CREATE INDEX IF NOT EXISTS log_records_time ON {schema}.log_records USING brin (time) WITH (autosummarize = on);\n\
             {}",
            publish(schema, "log_records_default")
        ),
        "losses" => publish(schema, table),
        LOG_COUNTS => index_counts(schema) + &publish(schema, table),
        _ => String::new(),
    }
}

/// The statement that allows changing and deleting rows of a table without a primary key even if it is in a publication.
pub(super) fn publish(schema: &Schema, table: &str) -> String {
    format!("ALTER TABLE IF EXISTS ONLY {schema}.{table} REPLICA IDENTITY FULL;\n")
}

pub(super) fn index_counts(schema: &Schema) -> String {
    format!(
        "CREATE INDEX IF NOT EXISTS log_counts_partition_key ON {schema}.{LOG_COUNTS} (partition_key, start);\n\
         CREATE INDEX IF NOT EXISTS log_counts_is_late ON {schema}.{LOG_COUNTS} (partition_key) WHERE is_late;\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Parts {
        let relations = TABLES.iter().map(|table| table.name).chain([NAME]);
        let functions = reading::FUNCTIONS.into_iter().chain([counts::FUNCTION]);
        Parts {
            relations: relations.map(str::to_owned).collect(),
            functions: functions.map(str::to_owned).collect(),
            has_default: true,
            has_view: true,
        }
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let (parts, schema) = (all(), Schema::new("otel"));
        assert!(parts.are_complete(&schema));
    }

    #[test]
    fn a_table_without_which_there_is_no_view_is_away_as_long_as_there_is_one() {
        let schema = Schema::new("otel");
        for (dropped, is_made) in
            [("resources", false), (LOG_RECORDS, false), ("lanes", true), (LOG_COUNTS, true)]
        {
            let mut parts = all();
            parts.relations.retain(|name| name != dropped);
            assert_eq!(parts.missing_tables() == [dropped], is_made, "{dropped}");
            parts.relations.retain(|name| name != NAME);
            parts.has_view = false;
            assert_eq!(parts.missing_tables(), [dropped]);
            assert!(parts.tables_again(&schema).contains(&format!("CREATE TABLE \"otel\".{dropped} (")));
        }
    }

    #[test]
    fn every_function_is_named_where_it_is_looked_for() {
        let (schema, mut found) = (Schema::new("otel"), reading::functions(&Schema::new("otel")));
        assert_eq!(found.len(), reading::FUNCTIONS.len());
        found.retain(|function| {
            !reading::FUNCTIONS.iter().any(|name| function.signature.contains(&format!(".{name}(")))
        });
        assert_eq!(found.len(), 0, "{found:?}");
        let parts = Parts { functions: Vec::new(), ..all() };
        assert!(parts.tables_again(&schema).contains(&format!("FUNCTION \"otel\".{}(", counts::FUNCTION)));
    }
}
