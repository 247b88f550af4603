//! Resources and scopes, each inserted where it is not stored yet.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::store::schema::IN_A_MOMENT;
use crate::table::identifier::Schema;
use crate::table::interned::Id;
use crate::table::{Resource, Scope};

/// Resources and scopes of about so many bytes are inserted by one statement.
const PIECE: usize = 1 << 20;

/// Inserts resources that are not stored.
pub(crate) async fn store_resources(
    connection: &Connection,
    schema: &Schema,
    new: &BTreeMap<Id, &Resource>,
) -> Result<(), Failure> {
    for new in pieces(new, Resource::size) {
        let ids: Vec<_> = new.iter().map(|(id, _)| Uuid::from_bytes(**id)).collect();
        note_use(connection, schema, "resources", &ids).await?;
        let insert = format!(
            "INSERT INTO {schema}.resources (id, service_name, attributes, schema_url, dropped_attributes_count) \
         SELECT id, service, attributes::jsonb, url, dropped \
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int4[]) u(id, service, attributes, url, dropped) \
         ON CONFLICT DO NOTHING"
        );
        let services: Vec<_> = new.iter().map(|(_, r)| r.service_name.as_deref()).collect();
        let attributes: Vec<_> = new.iter().map(|(_, r)| r.attributes.as_str()).collect();
        let urls: Vec<_> = new.iter().map(|(_, r)| r.schema_url.as_deref()).collect();
        let dropped: Vec<_> = new.iter().map(|(_, r)| r.dropped_attributes_count).collect();
        let statement = connection.prepare_cached(&insert).await?;
        connection.execute(&statement, &[&ids, &services, &attributes, &urls, &dropped]).await?;
    }
    Ok(())
}

/// Inserts scopes that are not stored.
pub(crate) async fn store_scopes(
    connection: &Connection,
    schema: &Schema,
    new: &BTreeMap<Id, &Scope>,
) -> Result<(), Failure> {
    for new in pieces(new, Scope::size) {
        let ids: Vec<_> = new.iter().map(|(id, _)| Uuid::from_bytes(**id)).collect();
        note_use(connection, schema, "scopes", &ids).await?;
        let insert = format!(
            "INSERT INTO {schema}.scopes (id, name, version, attributes, schema_url, dropped_attributes_count) \
         SELECT id, name, version, attributes::jsonb, url, dropped \
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int4[]) \
         u(id, name, version, attributes, url, dropped) ON CONFLICT DO NOTHING"
        );
        let names: Vec<_> = new.iter().map(|(_, s)| s.name.as_deref()).collect();
        let versions: Vec<_> = new.iter().map(|(_, s)| s.version.as_deref()).collect();
        let attributes: Vec<_> = new.iter().map(|(_, s)| s.attributes.as_str()).collect();
        let urls: Vec<_> = new.iter().map(|(_, s)| s.schema_url.as_deref()).collect();
        let dropped: Vec<_> = new.iter().map(|(_, s)| s.dropped_attributes_count).collect();
        let statement = connection.prepare_cached(&insert).await?;
        connection.execute(&statement, &[&ids, &names, &versions, &attributes, &urls, &dropped]).await?;
    }
    Ok(())
}

/// Resources or scopes in pieces of which each is not much to hold twice: a statement's parameters are a copy.
fn pieces<'n, T>(new: &'n BTreeMap<Id, &'n T>, size: fn(&T) -> usize) -> Vec<Vec<(&'n Id, &'n T)>> {
    let (mut pieces, mut bytes) = (Vec::new(), PIECE);
    for (id, one) in new {
        if bytes >= PIECE {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += size(one);
        pieces.last_mut().expect("there is one").push((id, *one));
    }
    pieces
}

/// Notes that those of `ids` which are stored are used, once a day. It comes before they are inserted: one that is being deleted is
/// waited for and then inserted anew, and one that is noted stays. They are locked in the order of their ids, so that two lanes
/// wait for each other in the same order.
async fn note_use(
    connection: &Connection,
    schema: &Schema,
    table: &str,
    ids: &[Uuid],
) -> Result<(), Failure> {
    let update = note(schema, table, "id = ANY ($1)");
    let statement = connection.prepare_cached(&update).await?;
    connection.execute(&statement, &[&ids]).await?;
    Ok(())
}

/// The same for those whose ids the query `named` gives.
pub(crate) async fn note_use_by(
    connection: &Connection,
    schema: &Schema,
    table: &str,
    named: &str,
) -> Result<(), Failure> {
    connection.execute(&note(schema, table, &format!("id IN ({named})")), &[]).await?;
    Ok(())
}

fn note(schema: &Schema, table: &str, which: &str) -> String {
    format!(
        "UPDATE {schema}.{table} SET last_used = now() WHERE id IN (SELECT id FROM {schema}.{table} \
         WHERE {which} AND last_used < now() - interval '1 day' ORDER BY id FOR NO KEY UPDATE)"
    )
}

/// Deletes what no letter names any more, where there is any. The lock waits for letters that are being written, which name what was
/// there; others wait behind it, so that it is had in a moment or not at all.
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
