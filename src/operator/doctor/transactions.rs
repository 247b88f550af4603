//! Transactions that have been open for long. Rows deleted or replaced since they began cannot be removed, so that every batch
//! walks past more and more old versions of its lane's row, and tables grow.

use super::{Checked, Patient, ok, warning};

/// Everything that keeps rows from being removed, with the cure. A plain role does not see when others' transactions began, but how
/// many transactions have begun since; of a database's rows the other databases' sessions keep none.
const OPEN: &str = "\
    SELECT format('session %s of role %s (%s) has been in a transaction for %s', pid, quote_ident(usename), \
        coalesce(nullif(application_name, ''), 'no application_name'), \
        coalesce(date_trunc('second', now() - xact_start)::text, age(backend_xmin) || ' transactions')), \
        format('SELECT pg_terminate_backend(%s), or idle_in_transaction_session_timeout for that role', pid), \
        age(backend_xmin) AS age \
    FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL \
        AND backend_type IS DISTINCT FROM 'autovacuum worker' AND backend_xmin IS NOT NULL \
        AND (xact_start < now() - interval '1 hour' OR age(backend_xmin) > 100000) \
    UNION ALL SELECT format('the prepared transaction %L of role %s has been open for %s', gid, quote_ident(owner), \
        date_trunc('second', now() - prepared)), format('ROLLBACK PREPARED %L', gid), age(transaction) \
    FROM pg_prepared_xacts WHERE database = current_database() \
        AND (prepared < now() - interval '1 hour' OR age(transaction) > 100000) \
    UNION ALL SELECT format('the replication slot %s keeps the rows of the last %s transactions', slot_name, age(xmin)), \
        format('have its standby catch up, or SELECT pg_drop_replication_slot(%L)', slot_name), age(xmin) \
    FROM pg_replication_slots WHERE age(xmin) > 100000 \
    ORDER BY age DESC LIMIT 5";

pub(super) async fn check(p: &Patient<'_>) -> Checked {
    let rows = p.connection.query(OPEN, &[]).await?;
    if rows.is_empty() {
        return Ok(vec![ok("none has been open for long")]);
    }
    let found = rows.iter().map(|row| {
        let (who, cure): (String, String) = (row.get(0), row.get(1));
        warning(format!(
            "{who}; no row that was deleted or replaced since then can be removed, so that tables grow and each batch takes \
             longer: {cure}"
        ))
    });
    Ok(found.collect())
}
