//! Compares the role's privileges with those that forebay needs.

use super::{Checked, Patient, ok, problem, warning};
use crate::postgres::error::Failure;
use crate::table::ddl::{LOG_RECORDS, TABLES, Table};

pub(super) async fn check(p: &Patient<'_>) -> Checked {
    let (role, superuser) = p.role().await?;
    if superuser {
        return Ok(vec![warning(format!(
            "role {role} is a superuser, which forebay does not need: use a role of its own that owns the schema"
        ))]);
    }
    let grantee = format!("TO {role}");
    let select = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), \
                  has_database_privilege(current_database(), 'CREATE')";
    let row = p.connection.query_one(select, &[&p.schema.name()]).await?;
    let (exists, may_create): (bool, bool) = (row.get(0), row.get(1));
    if !exists {
        if !p.config.create_schema || may_create {
            return Ok(vec![ok(format!("role {role}; there is no schema yet to have privileges in"))]);
        }
        let cure = format!("GRANT CREATE ON DATABASE ... {grantee}, or run `forebay schema` as another role");
        return Ok(vec![problem(format!("role {role} may not create the schema {}: {cure}", p.schema))]);
    }
    let mut found = Vec::new();
    let schema = &p.schema;
    if !asks_of_schema(p, "USAGE").await? {
        found.push(problem(format!(
            "role {role} may not use the schema: GRANT USAGE ON SCHEMA {schema} {grantee}"
        )));
    }
    for table in TABLES.iter() {
        let missing = missing(p, table).await?;
        if !missing.is_empty() {
            let (list, table) = (missing.join(", "), table.name);
            found.push(problem(format!("GRANT {list} ON {schema}.{table} {grantee}")));
        }
    }
    if p.config.create_schema {
        found.extend(to_make_partitions(p, &role).await?);
    }
    if found.is_empty() {
        found.push(ok(format!("role {role} may do what it has to")));
    }
    Ok(found)
}

/// COPY is refused on a table whose row-level security applies to the role (PostgreSQL manual, COPY).
pub(super) async fn row_security(p: &Patient<'_>) -> Checked {
    let select = "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                  WHERE nspname = $1 AND relname = ANY ($2) AND relrowsecurity AND row_security_active(c.oid) \
                  ORDER BY relname";
    let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    let active = p.connection.query(select, &[&p.schema.name(), &tables]).await?;
    let off = |table: String| {
        let cure = format!(
            "ALTER TABLE {}.{table} DISABLE ROW LEVEL SECURITY, or give the role BYPASSRLS",
            p.schema
        );
        problem(format!("policies apply to the role in {table}, into which COPY is then refused: {cure}"))
    };
    let found: Vec<_> = active.iter().map(|row| off(row.get(0))).collect();
    Ok(if found.is_empty() { vec![ok("no policies apply to the role")] } else { found })
}

/// The privileges that the role lacks on `table`, if that exists. Privileges on its columns are enough.
async fn missing(p: &Patient<'_>, table: &Table) -> Result<Vec<&'static str>, Failure> {
    let select = "SELECT has_table_privilege(c.oid, $3) OR bool_and(has_column_privilege(c.oid, attnum, $3)) \
                  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid \
                  WHERE nspname = $1 AND relname = $2 AND attname = ANY ($4) GROUP BY c.oid";
    let columns: Vec<_> = table.columns.iter().map(|column| column.name).collect();
    let mut missing = Vec::new();
    for privilege in table.privileges {
        let row =
            p.connection.query_opt(select, &[&p.schema.name(), &table.name, privilege, &columns]).await?;
        if row.is_some_and(|row| !row.get::<_, bool>(0)) {
            missing.push(*privilege);
        }
    }
    Ok(missing)
}

/// If forebay makes the schema, it has to read its version and make partitions, which only the owner of the table can.
async fn to_make_partitions(p: &Patient<'_>, role: &str) -> Checked {
    let select = "SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class c \
                  JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname = $2";
    let owns =
        p.connection.query_one(select, &[&p.schema.name(), &LOG_RECORDS]).await?.get::<_, Option<bool>>(0);
    let mut found = Vec::new();
    if owns == Some(false) || !asks_of_schema(p, "CREATE").await? {
        found.push(warning(format!(
            "role {role} cannot make the days' partitions, so that the default partition takes everything: \
             ALTER TABLE {schema}.{LOG_RECORDS} OWNER TO {role} and GRANT CREATE ON SCHEMA {schema}, or make them \
             by other means and set create_schema: false",
            schema = p.schema
        )));
    }
    let select = "SELECT has_table_privilege(c.oid, 'SELECT') FROM pg_class c \
                  JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname = 'schema_migrations'";
    let reads = p.connection.query_opt(select, &[&p.schema.name()]).await?;
    if reads.is_some_and(|row| !row.get::<_, bool>(0)) {
        let cure = format!("GRANT SELECT ON {}.schema_migrations TO {role}", p.schema);
        found.push(problem(format!("with create_schema: true the version has to be read: {cure}")));
    }
    Ok(found)
}

async fn asks_of_schema(p: &Patient<'_>, privilege: &str) -> Result<bool, Failure> {
    let select = "SELECT has_schema_privilege(oid, $2) FROM pg_namespace WHERE nspname = $1";
    Ok(p.connection.query_one(select, &[&p.schema.name(), &privilege]).await?.get(0))
}
