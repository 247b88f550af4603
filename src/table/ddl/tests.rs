//! How the tables are made.

use super::*;

#[test]
fn migrations_are_numbered_without_gaps() {
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        assert_eq!(migration.version, index as i32 + 1);
    }
}

#[test]
fn the_copy_statement_names_every_column() {
    let copy = copy_statement(&Schema::new("odd \"name"));
    assert!(copy.starts_with("COPY \"odd \"\"name\".log_records (time, time_unix_nano, "), "{copy}");
    assert!(COLUMNS.iter().all(|column| copy.contains(column.name)));
    let odd = copy_statement_into("\"otel\".log_records", &["time", "a\"b"]);
    assert!(odd.starts_with(r#"COPY "otel".log_records ("time", "a""b") FROM STDIN"#), "{odd}");
}

#[test]
fn an_older_store_needs_only_the_missing_migrations() {
    let schema = Schema::new("otel");
    let (all, rest) = (ddl_since(0, &schema), ddl_since(1, &schema));
    assert!(all.contains("CREATE TABLE \"otel\".log_records (") && all.contains("(version) VALUES (1)"));
    assert!(!rest.contains("CREATE TABLE \"otel\".log_records ("), "{rest}");
    assert!(!rest.contains("(version) VALUES (1)") && rest.contains("(version) VALUES (2)"), "{rest}");
}
