//! The migrations, each from one version of the schema to the next. In a new store they change nothing.

use std::fmt::Write as _;

use super::parts::{complete, index_counts, publish};
use super::*;
use crate::table::counts;

/// One step from one version of the schema to the next.
#[derive(Debug)]
pub struct Migration {
    /// The version after it.
    pub version: i32,
    /// Its statements for a schema, which writing needs.
    pub sql: fn(&Schema) -> String,
    /// Whether it changes the view or the functions as well. Writing does not need these, and users change them, so they are created
    /// separately, after the tables.
    pub reading: bool,
}

/// All migrations, in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, sql: create_store, reading: true },
    Migration { version: 2, sql: keep_service_and_attempts, reading: false },
    Migration { version: 3, sql: keep_losses, reading: false },
    Migration { version: 4, sql: help_reading, reading: true },
    Migration { version: 5, sql: keep_destination, reading: false },
    Migration { version: 6, sql: keep_counts, reading: true },
    Migration { version: 7, sql: shut_doors, reading: true },
    Migration { version: 8, sql: bound_the_store, reading: false },
    Migration { version: 9, sql: keep_origins, reading: false },
    Migration { version: 10, sql: let_all_be_published, reading: true },
    Migration { version: 11, sql: keep_queues, reading: false },
    Migration { version: 12, sql: count_folded, reading: true },
];

/// Version 1: the tables, the default partition, the index and the view. The tables are those of the newest version; the other
/// migrations change older ones.
fn create_store(schema: &Schema) -> String {
    let mut sql: String = TABLES.iter().map(|table| table.definition(schema, "CREATE TABLE")).collect();
    TABLES.iter().for_each(|table| sql += &complete(schema, table.name));
    sql
}

/// Version 2: dead letters have their service and the number of attempts.
fn keep_service_and_attempts(schema: &Schema) -> String {
    add_to(schema, "dead_letters", SERVICE) + &add_to(schema, "dead_letters", ATTEMPTS)
}

/// Version 3: losses are stored, by the roles that write dead letters.
fn keep_losses(schema: &Schema) -> String {
    let lane = literal(LANE.comment);
    losses().definition(schema, "CREATE TABLE IF NOT EXISTS")
        + &format!("COMMENT ON COLUMN {schema}.lanes.lane IS {lane};\n")
        + &grant_to_those(schema, "INSERT", "dead_letters", "INSERT", "losses")
}

/// Version 4: the view has the transaction that stored a record, and there are functions for frequent questions.
fn help_reading(_: &Schema) -> String {
    String::new()
}

/// Version 5: dead letters have the existing table that refused them.
fn keep_destination(schema: &Schema) -> String {
    let comment = literal(DEAD_LETTERS);
    add_to(schema, "dead_letters", DESTINATION)
        + &format!("COMMENT ON TABLE {schema}.dead_letters IS {comment};\n")
}

/// Version 6: closed partitions are counted, and the view has the resource's id, to find a service's records by.
fn keep_counts(schema: &Schema) -> String {
    log_counts().definition(schema, "CREATE TABLE IF NOT EXISTS")
        + &index_counts(schema)
        + &counts::function(schema)
}

/// Version 7: functions do not use the caller's search_path, and no other role can create a trigger with the one that writes as its
/// owner.
fn shut_doors(schema: &Schema) -> String {
    counts::function(schema)
}

/// Version 8: resources and scopes have the time of their last use, which needs further privileges. Rows of the default partition
/// and of tables without a primary key can be deleted even if the table is in a publication.
fn bound_the_store(schema: &Schema) -> String {
    let mut sql = String::new();
    for table in ["resources", "scopes"] {
        let (definition, comment) = (LAST_USED.definition(), literal(LAST_USED.comment));
        let grant = grant_to_those(schema, "INSERT", table, "SELECT, UPDATE", table);
        let _ = writeln!(
            sql,
            "ALTER TABLE {schema}.{table} ADD COLUMN IF NOT EXISTS {definition};\n\
             COMMENT ON COLUMN {schema}.{table}.last_used IS {comment};\n{grant}"
        );
    }
    for table in ["log_records_default", "losses", LOG_COUNTS] {
        sql += &publish(schema, table);
    }
    sql
}

/// The statement that grants `privileges` on `table` to all roles with the privilege `what` on the table `of`.
fn grant_to_those(schema: &Schema, what: &str, of: &str, privileges: &str, table: &str) -> String {
    let [of, table] = [of, table].map(|name| literal(&format!("{schema}.{name}")));
    let grant = literal(&format!(
        "DECLARE writer regrole; BEGIN FOR writer IN \
         SELECT DISTINCT a.grantee::regrole FROM pg_class c, LATERAL aclexplode(c.relacl) a \
         WHERE c.oid = {of}::regclass AND a.privilege_type = '{what}' AND a.grantee NOT IN (0, c.relowner) \
         LOOP EXECUTE format('GRANT {privileges} ON %s TO %s', {table}::regclass, writer); END LOOP; END"
    ));
    format!("DO {grant};\n")
}

/// Version 9: dead letters keep the resource and the scope of their rows. The roles that write or retry letters get privileges.
fn keep_origins(schema: &Schema) -> String {
    let [letters, origins] = ["dead_letters", "dead_letter_origins"];
    let columns: String = ORIGINS.into_iter().map(|column| add_to(schema, letters, column)).collect();
    dead_letter_origins().definition(schema, "CREATE TABLE IF NOT EXISTS")
        + &columns
        + &grant_to_those(schema, "INSERT", letters, "INSERT", origins)
        + &grant_to_those(schema, "DELETE", letters, "SELECT, DELETE", origins)
}

/// Version 10: partitions in a publication can be changed by hand, like all other tables. A locked partition is left out, since
/// forebay itself does not need this. Reading the bounds of counted partitions no longer depends on the caller's settings.
fn let_all_be_published(schema: &Schema) -> String {
    let records = literal(&format!("{schema}.{LOG_RECORDS}"));
    let publish = literal(&format!(
        "DECLARE partition regclass; patience text := current_setting('lock_timeout'); BEGIN \
         PERFORM set_config('lock_timeout', '100ms', true); \
         FOR partition IN SELECT c.oid FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid \
         WHERE inhparent = {records}::regclass AND c.relkind = 'r' AND c.relreplident = 'd' \
         LOOP BEGIN EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY FULL', partition); \
         EXCEPTION WHEN lock_not_available THEN NULL; END; END LOOP; \
         PERFORM set_config('lock_timeout', patience, true); END"
    ));
    format!("DO {publish};\n")
}

/// Version 11: the lanes of a durable queue keep which of its records are stored.
fn keep_queues(schema: &Schema) -> String {
    let lane = literal(LANE.comment);
    let columns = QUEUE.into_iter().map(|column| add_to(schema, "lanes", column));
    columns.collect::<String>() + &format!("COMMENT ON COLUMN {schema}.lanes.lane IS {lane};\n")
}

/// Version 12: the histogram counts folded records as those that they stand for, if asked to.
fn count_folded(_: &Schema) -> String {
    String::new()
}

fn add_to(schema: &Schema, table: &str, column: TableColumn) -> String {
    let (name, definition, comment) = (column.name, column.definition(), literal(column.comment));
    format!(
        "ALTER TABLE {schema}.{table} ADD COLUMN IF NOT EXISTS {definition};\n\
         COMMENT ON COLUMN {schema}.{table}.{name} IS {comment};\n"
    )
}
