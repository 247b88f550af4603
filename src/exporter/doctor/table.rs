//! The existing table that records go to, where there is one.

use super::{Checked, Patient, ok, problem};
use crate::exporter::existing::differences;
use crate::table::Mapping;

pub(super) async fn check(p: &Patient<'_>, mapping: &Mapping) -> Checked {
    let problems = differences(&p.connection, mapping).await?;
    if !problems.is_empty() {
        return Ok(problems.into_iter().map(problem).collect());
    }
    let ((schema, table), columns) = (mapping.names(), mapping.columns().len());
    Ok(vec![ok(format!("{schema}.{table} takes what its {columns} columns are filled with"))])
}
