//! The format of rows: the table that they were made for, and their columns. Rows outlive the program that made them in a durable
//! queue, so that the table's columns may be others when they are written.

use serde::{Deserialize, Serialize};

/// The format of rows.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct RowFormat {
    /// The existing table that they were made for, as dead letters name it; `None` for `log_records`.
    pub destination: Option<String>,
    /// The name of each field's column and its type, as PostgreSQL or the configuration spells it.
    pub columns: Vec<(String, String)>,
}

impl RowFormat {
    /// The names of the columns.
    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The index of the field `name`.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(column, _)| column == name)
    }
}
