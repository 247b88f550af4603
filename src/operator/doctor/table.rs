//! The table that records go to: what is there beforehand, and triggers.

use super::{Checked, Patient, ok, problem, warning};
use crate::store::existing::differences;
use crate::store::triggers;
use crate::table::Mapping;

pub(super) async fn check(p: &Patient<'_>, mapping: &Mapping) -> Checked {
    let problems = differences(p.connection, mapping).await?;
    if !problems.is_empty() {
        return Ok(problems.into_iter().map(problem).collect());
    }
    let ((schema, table), columns) = (mapping.names(), mapping.columns().len());
    Ok(vec![ok(format!("{schema}.{table} takes what its {columns} columns are filled with"))])
}

/// Triggers may keep records out of the table, on purpose or by mistake.
pub(super) async fn triggers(p: &Patient<'_>) -> Checked {
    let found = triggers::of(p.connection, &p.destination).await?;
    let (schema, table) = p.destination.names();
    Ok(vec![match triggers::told(&found, &p.destination) {
        Some(told) => warning(told),
        None => ok(format!("no trigger keeps records out of {schema}.{table}")),
    }])
}
