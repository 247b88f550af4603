//! Where rows go: into `log_records`, or into a table that was there before.

use std::sync::Arc;

use super::columns::COLUMNS;
use super::ddl::{LOG_RECORDS, copy_statement, copy_statement_into};
use super::identifier::Schema;
use super::mapping::Mapping;

/// The table that rows are written to.
#[derive(Clone, Debug)]
pub struct Destination {
    schema: Schema,
    mapping: Option<Arc<Mapping>>,
}

impl Destination {
    /// The table of `mapping`, or `log_records` in `schema`.
    pub fn new(schema: Schema, mapping: Option<Arc<Mapping>>) -> Self {
        Self { schema, mapping }
    }

    /// The existing table, if it is one.
    pub fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.as_ref()
    }

    /// Its bare name.
    pub fn table(&self) -> &str {
        self.mapping.as_ref().map_or(LOG_RECORDS, |mapping| mapping.names().1)
    }

    /// How dead letters name it: `None` is `log_records`.
    pub fn mark(&self) -> Option<String> {
        self.mapping.as_ref().map(|mapping| mapping.identifier())
    }

    /// The names of a row's fields.
    pub fn columns(&self) -> Vec<&str> {
        match &self.mapping {
            None => COLUMNS.iter().map(|column| column.name).collect(),
            Some(mapping) => mapping.columns().iter().map(|column| column.name.as_str()).collect(),
        }
    }

    /// The statement that streams rows into it.
    pub fn copy_statement(&self) -> String {
        match &self.mapping {
            None => copy_statement(&self.schema),
            Some(mapping) => copy_statement_into(&mapping.identifier(), &self.columns()),
        }
    }
}
