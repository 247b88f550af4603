//! The resources and scopes of letters. A letter has their ids and `dead_letter_origins` their content, from which a retry stores
//! them; letters from before schema version 9 have neither, and may lack them.

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::store::origins::store;
use crate::table::decode::{Record, Value};
use crate::table::identifier::Schema;
use crate::table::{Resource, Scope};

/// The ids in a row of `log_records`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    resource: Option<Uuid>,
    scope: Option<Uuid>,
}

impl Named {
    /// The ids in `row`, whose fields have these `names`.
    pub(super) fn by(row: &[u8], names: &[String]) -> Self {
        let record = Record::read(row, names);
        let id = |name| match record.as_ref()?.get(name) {
            Value::Uuid(id) => Some(id),
            _ => None,
        };
        Self { resource: id("resource_id"), scope: id("scope_id") }
    }
}

/// Stores the resources and the scopes with these ids, if their content is kept and they are not stored.
pub(super) async fn restore(
    connection: &Connection,
    schema: &Schema,
    resources: &[Uuid],
    scopes: &[Uuid],
) -> Result<(), Failure> {
    store::<Resource>(connection, schema, &kept(connection, schema, resources).await?).await?;
    store::<Scope>(connection, schema, &kept(connection, schema, scopes).await?).await
}

async fn kept<T: DeserializeOwned>(
    connection: &Connection,
    schema: &Schema,
    ids: &[Uuid],
) -> Result<Vec<T>, Failure> {
    let select = format!("SELECT content FROM {schema}.dead_letter_origins WHERE id = ANY ($1)");
    let rows = connection.query(&select, &[&ids]).await?;
    let read = |row: &crate::postgres::Row| serde_json::from_slice(row.get(0));
    let unreadable =
        |error| Failure::of_a_row("22000", format!("the kept resource or scope cannot be read: {error}"));
    rows.iter().map(read).collect::<Result<_, _>>().map_err(unreadable)
}

/// For each row, which of its resource and scope is not stored.
pub(super) async fn lacking(
    connection: &Connection,
    schema: &Schema,
    named: &[Named],
) -> Result<Vec<Vec<&'static str>>, Failure> {
    let resources = stored(connection, schema, "resources", named.iter().filter_map(|n| n.resource)).await?;
    let scopes = stored(connection, schema, "scopes", named.iter().filter_map(|n| n.scope)).await?;
    let lacks = |named: &Named| {
        let resource = named.resource.filter(|id| !resources.contains(id)).map(|_| "resource");
        resource.into_iter().chain(named.scope.filter(|id| !scopes.contains(id)).map(|_| "scope")).collect()
    };
    Ok(named.iter().map(lacks).collect())
}

/// Those of the `ids` that are in `table`.
async fn stored(
    connection: &Connection,
    schema: &Schema,
    table: &str,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashSet<Uuid>, Failure> {
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let select = format!("SELECT id FROM {schema}.{table} WHERE id = ANY ($1)");
    Ok(connection.query(&select, &[&ids]).await?.iter().map(|row| row.get(0)).collect())
}
