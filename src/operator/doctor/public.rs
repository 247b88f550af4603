//! Privileges of PUBLIC that only the owner should have.

use super::{Checked, Patient, ok, warning};

/// The functions with a search_path of their own since version 7 of the store.
const WITH_PATH: [&str; 5] = ["keep_counts", "search", "histogram", "counted", "severity_number"];

pub(super) async fn check(p: &Patient<'_>) -> Checked {
    let (role, _) = p.role().await?;
    let (schema, name) = (&p.schema, p.schema.name());
    let mut found = Vec::new();
    let select = "SELECT format('%I', nspname), nspname = $1 FROM pg_namespace, \
                  aclexplode(coalesce(nspacl, acldefault('n', nspowner))) granted \
                  WHERE nspname IN ('public', $1) AND grantee = 0 AND privilege_type = 'CREATE' ORDER BY 1";
    for row in p.connection.query(select, &[&name]).await? {
        let (open, is_ours): (String, bool) = (row.get(0), row.get(1));
        let what = if is_ours {
            "put tables where partitions are to be made"
        } else {
            "put functions there that others' sessions call instead of PostgreSQL's"
        };
        found.push(warning(format!("everybody may {what}: REVOKE CREATE ON SCHEMA {open} FROM PUBLIC")));
    }
    let select = "SELECT format('%I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(f.oid)) \
                  FROM pg_proc f JOIN pg_namespace n ON n.oid = pronamespace, \
                  aclexplode(coalesce(proacl, acldefault('f', proowner))) granted \
                  WHERE nspname = $1 AND prosecdef AND grantee = 0 AND privilege_type = 'EXECUTE' ORDER BY 1";
    for row in p.connection.query(select, &[&name]).await? {
        let function: String = row.get(0);
        found.push(warning(format!(
            "everybody may write as the owner of {function}: REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC"
        )));
    }
    let select = "SELECT count(*) FILTER (WHERE proname = ANY ($2) AND NOT coalesce(proconfig::text ~ 'search_path=', false)), \
                  coalesce(bool_or(proname = 'keep_counts' AND NOT has_function_privilege(f.oid, 'EXECUTE') AND pg_has_role(relowner, 'USAGE')), false) \
                  FROM pg_proc f JOIN pg_namespace n ON n.oid = pronamespace \
                  LEFT JOIN pg_class c ON c.relnamespace = n.oid AND relname = 'log_records' WHERE nspname = $1";
    let row = p.connection.query_one(select, &[&name, &WITH_PATH.as_slice()]).await?;
    if row.get::<_, i64>(0) > 0 {
        found.push(warning(format!(
            "functions in {schema} call what the caller's search_path leads to, as those before version 7 do: have forebay migrate \
             the store, or run the DDL that `forebay schema --since 6` prints"
        )));
    }
    if p.config.create_schema && p.config.counts && row.get::<_, bool>(1) {
        found.push(warning(format!(
            "role {role} cannot have closed partitions counted: GRANT EXECUTE ON FUNCTION {schema}.keep_counts() TO {role}"
        )));
    }
    if found.is_empty() {
        found.push(ok("nobody else can put code where others call it, or write as the store's owner"));
    }
    Ok(found)
}
