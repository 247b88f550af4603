//! Resources and scopes, each inserted unless it is stored already.

use std::collections::BTreeMap;
use std::iter;

use crate::postgres::ToSql;
use uuid::Uuid;

use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::store::schema::IN_A_MOMENT;
use crate::table::identifier::Schema;
use crate::table::interned::Id;
use crate::table::{Resource, Scope};

/// One statement inserts resources or scopes of about this many bytes.
const PIECE: usize = 1 << 20;

/// A parameter of a statement: an array.
type Parameter<'n> = Box<dyn ToSql + Sync + Send + 'n>;

/// A resource or a scope, which rows refer to by its id.
pub(crate) trait Origin: Sync {
    const TABLE: &'static str;
    /// What follows the table's name: an `INSERT` of the ids and of [`Origin::parameters`].
    const INSERT: &'static str;
    /// The column of `log_records` that refers to it by its id.
    const COLUMN: &'static str;

    fn id(&self) -> Id;

    fn size(&self) -> usize;

    fn parameters<'n>(new: &[&'n Self]) -> Vec<Parameter<'n>>;
}

impl Origin for Resource {
    const TABLE: &'static str = "resources";
    const INSERT: &'static str = "(id, service_name, attributes, schema_url, dropped_attributes_count) \
         SELECT id, service, attributes::jsonb, url, dropped \
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int4[]) u(id, service, attributes, url, dropped) \
         ON CONFLICT DO NOTHING";
    const COLUMN: &'static str = "resource_id";

    fn id(&self) -> Id {
        self.id
    }

    fn size(&self) -> usize {
        self.size()
    }

    fn parameters<'n>(new: &[&'n Self]) -> Vec<Parameter<'n>> {
        vec![
            each(new, |r| r.service_name.as_deref()),
            each(new, |r| r.attributes.as_str()),
            each(new, |r| r.schema_url.as_deref()),
            each(new, |r| r.dropped_attributes_count),
        ]
    }
}

impl Origin for Scope {
    const TABLE: &'static str = "scopes";
    const INSERT: &'static str = "(id, name, version, attributes, schema_url, dropped_attributes_count) \
         SELECT id, name, version, attributes::jsonb, url, dropped \
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int4[]) \
         u(id, name, version, attributes, url, dropped) ON CONFLICT DO NOTHING";
    const COLUMN: &'static str = "scope_id";

    fn id(&self) -> Id {
        self.id
    }

    fn size(&self) -> usize {
        self.size()
    }

    fn parameters<'n>(new: &[&'n Self]) -> Vec<Parameter<'n>> {
        vec![
            each(new, |s| s.name.as_deref()),
            each(new, |s| s.version.as_deref()),
            each(new, |s| s.attributes.as_str()),
            each(new, |s| s.schema_url.as_deref()),
            each(new, |s| s.dropped_attributes_count),
        ]
    }
}

fn each<'n, T, V: ToSql + Sync + Send + 'n>(new: &[&'n T], value: fn(&'n T) -> V) -> Parameter<'n> {
    Box::new(new.iter().map(|one| value(one)).collect::<Vec<V>>())
}

/// Inserts those that are not stored yet, in the order of their ids, so that two lanes with the same new ones cannot deadlock.
pub(crate) async fn store<'n, T: Origin + 'n>(
    connection: &Connection,
    schema: &Schema,
    new: impl IntoIterator<Item = &'n T>,
) -> Result<(), Failure> {
    let new: BTreeMap<Id, &T> = new.into_iter().map(|one| (one.id(), one)).collect();
    for new in pieces(new.into_values()) {
        let ids: Vec<_> = new.iter().map(|one| Uuid::from_bytes(one.id())).collect();
        // Marks the stored ones as used, once a day, before the INSERT: it waits for one that is being deleted, which is then
        // inserted anew, and one that is marked stays.
        let mark = connection.prepare_cached(&mark_used(schema, T::TABLE, "id = ANY ($1)")).await?;
        connection.execute(&mark, &[&ids]).await?;
        let statement =
            connection.prepare_cached(&format!("INSERT INTO {schema}.{} {}", T::TABLE, T::INSERT)).await?;
        let parameters = T::parameters(&new);
        let others = parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync));
        let all: Vec<_> = iter::once(&ids as &(dyn ToSql + Sync)).chain(others).collect();
        connection.execute(&statement, &all).await?;
    }
    Ok(())
}

/// Splits resources or scopes into pieces that are small enough to hold twice: a statement's parameters are a copy.
fn pieces<'n, T: Origin>(new: impl Iterator<Item = &'n T>) -> Vec<Vec<&'n T>> {
    let (mut pieces, mut bytes) = (Vec::new(), PIECE);
    for one in new {
        if bytes >= PIECE {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += one.size();
        pieces.last_mut().expect("there is one").push(one);
    }
    pieces
}

/// Marks those whose ids the query `named` returns as used, once a day.
pub(crate) async fn note_use_by(
    connection: &Connection,
    schema: &Schema,
    table: &str,
    named: &str,
) -> Result<(), Failure> {
    connection.execute(&mark_used(schema, table, &format!("id IN ({named})")), &[]).await?;
    Ok(())
}

/// Rows are locked in the order of their ids, so that two lanes cannot deadlock.
fn mark_used(schema: &Schema, table: &str, which: &str) -> String {
    format!(
        "UPDATE {schema}.{table} SET last_used = now() WHERE id IN (SELECT id FROM {schema}.{table} \
         WHERE {which} AND last_used < now() - interval '1 day' ORDER BY id FOR NO KEY UPDATE)"
    )
}

/// Deletes the resources and scopes that no letter refers to any more. The lock waits for transactions that are writing letters,
/// which may refer to them. Other writers queue behind it, so it waits a moment at most.
pub async fn forget_unnamed(connection: &Connection, schema: &Schema) -> Result<(), Failure> {
    let unnamed = format!(
        "FROM {schema}.dead_letter_origins o \
         WHERE NOT EXISTS (SELECT FROM {schema}.dead_letters l WHERE l.resource_id = o.id) \
         AND NOT EXISTS (SELECT FROM {schema}.dead_letters l WHERE l.scope_id = o.id)"
    );
    let any = format!("SELECT EXISTS (SELECT {unnamed})");
    if !connection.query_one(&any, &[]).await?.get::<_, bool>(0) {
        return Ok(());
    }
    let forget = format!(
        "{IN_A_MOMENT}; LOCK TABLE {schema}.dead_letter_origins IN SHARE ROW EXCLUSIVE MODE; DELETE {unnamed}; COMMIT"
    );
    Ok(connection.batch_execute(&forget).await?)
}
