//! The view and the functions that people read, and that users change. No write depends on them.

use super::store::version;
use super::{Checked, Patient, ok, warning};
use crate::store::view::{Live, changed};
use crate::table::ddl::{LOG_RECORDS, MIGRATIONS};

pub(super) async fn check(p: &Patient<'_>) -> Checked {
    if !p.has(LOG_RECORDS).await? {
        return Ok(vec![ok("there is no store yet to have one")]);
    }
    let (schema, create) = (&p.schema, p.config.create_schema);
    let (found, known) = (version(p).await?, MIGRATIONS.last().map(|migration| migration.version));
    let is_older = create && found < known;
    let again = match found {
        _ if create => "forebay makes it at its next start".to_owned(),
        Some(found) if Some(found) < known => {
            format!("run the DDL that `forebay schema --since {found}` prints")
        }
        _ => "run what `forebay schema` prints after its first COMMIT".to_owned(),
    };
    let mut said = Vec::new();
    match Live::look(p.connection, schema).await? {
        None => said.push(warning(format!("the view {schema}.logs is missing: {again}"))),
        Some(live) if live.lacks().is_empty() => {}
        Some(live) if live.may_be_older() && is_older => {}
        Some(live) if live.may_be_older() && !create => {
            said.push(warning(format!("{schema}.logs lacks {}: {again}", live.lacks().join(", "))));
        }
        Some(live) => said.push(warning(live.is_somebodys(schema))),
    }
    let (missing, others) = changed(p.connection, schema).await?;
    if !is_older && !missing.is_empty() {
        said.push(warning(format!("missing: {}: {again}", missing.join(", "))));
    }
    if !is_older && !others.is_empty() {
        said.push(ok(format!(
            "somebody has changed {}, or they are of another version; the DDL of `forebay schema` has this one's",
            others.join(", ")
        )));
    }
    if said.is_empty() {
        let as_made =
            format!("{schema}.logs has what forebay query, tail, the functions and dashboards read");
        said.push(ok(if is_older { "migrated with the store".to_owned() } else { as_made }));
    }
    Ok(said)
}
