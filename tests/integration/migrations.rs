//! Stores of older versions, as users have them: with a view of their own making, with objects that depend on it, with other owners.

use ::forebay::embedded::NAME;
use ::forebay::table::ddl::{MIGRATIONS, TABLES};
use ::forebay::table::identifier::Schema;
use ::forebay::table::reading::view_as;
use support::eventually;
use support::forebay::{Forebay, QUICK, run};
use support::postgres::{Database, database};
use support::records::numbered_request;
use tokio_postgres::Client;

use crate::reading::first_column;

/// The statement that makes the view as it was at `version`.
fn view_of(version: i32) -> String {
    let columns = match version {
        ..4 => 24,
        4..6 => 25,
        _ => 26,
    };
    view_as(&Schema::new("otel"), "logs", "", columns)
}

/// The functions over the view as they were before version 6, as far as their parameters and what they return go.
const OLD_FUNCTIONS: &str = "
    CREATE FUNCTION otel.severity_number(severity text) RETURNS smallint LANGUAGE sql AS 'SELECT 9::smallint';
    CREATE FUNCTION otel.search(
        text text DEFAULT NULL, service text DEFAULT NULL, min_severity text DEFAULT NULL,
        since timestamptz DEFAULT now() - interval '1 hour', until timestamptz DEFAULT now(), max_rows bigint DEFAULT 1000
    ) RETURNS SETOF otel.logs LANGUAGE sql AS 'SELECT * FROM otel.logs';
    CREATE FUNCTION otel.trace(trace_id text, since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
        RETURNS SETOF otel.logs LANGUAGE sql AS 'SELECT * FROM otel.logs'";

/// The histogram as it was before version 12, as far as its parameters, what it returns and its comment go.
const OLD_HISTOGRAM: &str = "
    DROP FUNCTION otel.histogram;
    CREATE FUNCTION otel.histogram(
        width interval DEFAULT '1 minute', since timestamptz DEFAULT now() - interval '1 hour', until timestamptz DEFAULT now(),
        service text DEFAULT NULL, min_severity text DEFAULT NULL, text text DEFAULT NULL
    ) RETURNS TABLE (bucket timestamptz, severity text, records bigint) LANGUAGE sql AS 'SELECT now(), NULL::text, 7::bigint';
    COMMENT ON FUNCTION otel.histogram IS
        'How many log records there are in each width of time and severity, from since to before until.'";

/// Takes a new store back to what forebay made at `version`.
pub async fn back_to(client: &Client, version: i32) {
    for (of, back) in [
        (2, "ALTER TABLE otel.dead_letters DROP COLUMN service, DROP COLUMN attempts"),
        (3, "DROP TABLE otel.losses"),
        (5, "ALTER TABLE otel.dead_letters DROP COLUMN destination"),
        (6, "DROP TABLE otel.log_counts; DROP FUNCTION otel.keep_counts"),
        (
            8,
            "ALTER TABLE otel.resources DROP COLUMN last_used; ALTER TABLE otel.scopes DROP COLUMN last_used",
        ),
        (
            9,
            "ALTER TABLE otel.dead_letters DROP COLUMN resource_id, DROP COLUMN scope_id; DROP TABLE otel.dead_letter_origins",
        ),
        (11, "ALTER TABLE otel.lanes DROP COLUMN queue, DROP COLUMN stored"),
        (12, OLD_HISTOGRAM),
    ] {
        if of > version {
            client.batch_execute(back).await.unwrap();
        }
    }
    if version < 7 {
        let view = "DROP FUNCTION otel.search, otel.trace, otel.histogram, otel.counted, otel.errors_by_service, otel.severity_number;
            DROP VIEW otel.logs";
        client.batch_execute(view).await.unwrap();
        client.batch_execute(&view_of(version)).await.unwrap();
    }
    if (4..7).contains(&version) {
        client.batch_execute(OLD_FUNCTIONS).await.unwrap();
    }
    let forget = format!("DELETE FROM otel.schema_migrations WHERE version > {version}");
    client.batch_execute(&forget).await.unwrap();
}

fn newest() -> i32 {
    MIGRATIONS.last().unwrap().version
}

/// A store of `version`, to which somebody has done `sql`.
async fn store(version: i32, sql: &str) -> (Database, Client) {
    let database = database().await;
    Forebay::ready(database.dsn(), QUICK).await.terminate().await;
    let client = database.connect().await;
    back_to(&client, version).await;
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{version}: {sql}: {error:?}"));
    (database, client)
}

/// Has forebay migrate the store and write ten records, of which a view tells nothing.
async fn upgrade(database: &Database, client: &Client) -> Forebay {
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let before = count(client, "otel.log_records").await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    assert_eq!(count(client, "otel.log_records").await, before + 10);
    let version = "SELECT max(version) FROM otel.schema_migrations";
    assert_eq!(first_column(client, version).await, [newest().to_string()]);
    forebay
}

async fn count(client: &Client, from: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await.unwrap().get(0)
}

async fn one(client: &Client, sql: &str) -> String {
    first_column(client, sql).await.join(", ")
}

const COLUMNS: &str = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = 'otel.logs'::regclass AND attnum > 0";

/// The columns that the newest view has.
async fn new_columns() -> String {
    let (_, client) = store(newest(), "").await;
    one(&client, COLUMNS).await
}

/// What health says of a migration that waits, if one does.
async fn waits(forebay: &Forebay) -> Option<String> {
    let (status, body) = forebay.health().await;
    assert_eq!(status, 200, "{body}");
    (body["degraded"] == "migration_waits").then(|| body["detail"].as_str().unwrap().to_owned())
}

/// What `doctor` says of the view, with the verdict. It is no problem: records are written.
async fn diagnosis(dsn: &str) -> Vec<(String, String)> {
    let ran = run(dsn, "doctor --json", &[]).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let findings = ran.json().into_iter().filter(|finding| finding["check"] == "view");
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    findings.map(|finding| (text(&finding, "verdict"), text(&finding, "text"))).collect()
}

/// The view of `version` with a column that somebody has added.
fn extended(version: i32) -> String {
    view_of(version).replace("\nFROM", ",\n    l.attributes ->> 'user.id' AS user_id\nFROM")
}

/// What users do to a store that is in no migration's way.
const OWN_OBJECTS: &str = "
    CREATE VIEW public.mine AS SELECT time, body FROM otel.logs;
    CREATE MATERIALIZED VIEW public.counted AS SELECT service_name, count(*) FROM otel.logs GROUP BY 1;
    CREATE FUNCTION public.all_logs() RETURNS SETOF otel.logs LANGUAGE sql AS 'SELECT * FROM otel.logs';
    ALTER TABLE otel.log_records ADD COLUMN tenant text DEFAULT 'a';
    ALTER TABLE otel.resources ADD COLUMN owner text;
    CREATE INDEX ON otel.log_records (severity_number);
    CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.tenant := ''b''; RETURN NEW; END';
    CREATE TRIGGER touch BEFORE INSERT ON otel.log_records FOR EACH ROW EXECUTE FUNCTION public.touch()";

/// Scenario: in a store of each version the view has a further column, and other objects depend on it. Promise: the tables are migrated
/// and records stored; their view stays; health and `doctor` say what waits with the statement, which is one. After it the newest view
/// is there, and theirs with what depends on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_was_given_columns_keeps_no_record_waiting() {
    let newest_columns = new_columns().await;
    for version in 1..newest() {
        let (database, client) = store(version, &format!("{}; {OWN_OBJECTS}", extended(version))).await;
        let columns = one(&client, COLUMNS).await;
        let forebay = upgrade(&database, &client).await;
        assert_eq!(one(&client, COLUMNS).await, columns, "theirs stays, of version {version}");
        let (waiting, found) = (waits(&forebay).await, diagnosis(database.dsn()).await);
        if version >= 6 {
            assert_eq!(waiting, None, "it has all that is read, of version {version}");
            assert_eq!(found[0].0, "ok", "{found:?}");
            continue;
        }
        let statement = r#"ALTER VIEW "otel".logs RENAME TO logs_of_yours"#;
        let waiting = waiting.expect("it waits");
        assert!(waiting.contains(statement) && waiting.contains("resource_id"), "{waiting}");
        assert!(
            found.iter().any(|(verdict, text)| verdict == "warning" && text.contains(statement)),
            "{found:?}"
        );
        client.batch_execute(statement).await.unwrap();
        // Once by itself, which takes half a minute, and otherwise at the next start.
        let forebay = if version > 1 { upgrade(&database, &client).await } else { forebay };
        eventually("nothing waits any more", || async { waits(&forebay).await.is_none().then_some(()) })
            .await;
        assert_eq!(one(&client, COLUMNS).await, newest_columns);
        assert_eq!(diagnosis(database.dsn()).await[0].0, "ok");
        let stored = count(&client, "otel.log_records").await;
        for of in ["otel.logs", "otel.search(until => 'infinity')", "otel.logs_of_yours", "public.mine"] {
            assert_eq!(count(&client, of).await, stored, "{of}");
        }
        assert_eq!(run(database.dsn(), "query --json --since 1h", &[]).await.json().len() as i64, stored);
    }
}

/// Scenario: objects depend on the view as it was made, which has options, grants and a comment of its own. Promise: it becomes the
/// newest, with all of that, and nothing waits; that it was migrated is said once, after it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_as_it_was_made_is_renewed_with_all_that_is_on_it() {
    let newest_columns = new_columns().await;
    for version in 1..newest() {
        let role = format!("reader_of_{version}_{}", std::process::id());
        let own = format!(
            "CREATE ROLE {role}; GRANT SELECT ON otel.logs TO {role}; COMMENT ON VIEW otel.logs IS 'ours';
            ALTER VIEW otel.logs SET (security_barrier = true); {OWN_OBJECTS}"
        );
        let (database, client) = store(version, &own).await;
        let forebay = upgrade(&database, &client).await;
        assert_eq!(one(&client, COLUMNS).await, newest_columns, "of version {version}");
        assert_eq!(waits(&forebay).await, None);
        let kept = "SELECT concat_ws(' ', reloptions, obj_description(oid, 'pg_class')) FROM pg_class WHERE oid = 'otel.logs'::regclass";
        assert_eq!(one(&client, kept).await, "{security_barrier=true} ours");
        let may = format!("SELECT has_table_privilege('{role}', 'otel.logs', 'SELECT')");
        assert_eq!(one(&client, &may).await, "t");
        for of in ["public.mine", "public.all_logs()", "otel.search(until => 'infinity')"] {
            assert_eq!(count(&client, of).await, 10, "{of} of version {version}");
        }
        let (_, said) = forebay.terminate().await;
        let migrated = said.iter().filter(|line| line.contains("migrated the schema")).count();
        assert_eq!(migrated, 1, "{said:#?}");
        client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    }
}

/// Scenario: somebody has replaced the view by one that leaves records out, by one with other columns, or by a table of their own.
/// Promise: each stays as it is, whatever its columns are; records are stored, and what is missing is said with the statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_somebodys_own_is_never_replaced() {
    let hides = view_of(3).replace(";\n", " WHERE l.severity_number >= 17;\n");
    let drop = "DROP VIEW otel.logs; CREATE";
    for (own, rename) in [
        (hides, "ALTER VIEW"),
        (format!("{drop} VIEW otel.logs AS SELECT body, time FROM otel.log_records"), "ALTER VIEW"),
        (
            format!("{drop} MATERIALIZED VIEW otel.logs AS SELECT body FROM otel.log_records"),
            "ALTER MATERIALIZED VIEW",
        ),
        (format!("{drop} TABLE otel.logs (body text)"), "ALTER TABLE"),
    ] {
        let (database, client) = store(3, &own).await;
        let definition = "SELECT coalesce(pg_get_viewdef('otel.logs'::regclass), '')";
        let before = one(&client, definition).await;
        let forebay = upgrade(&database, &client).await;
        assert_eq!(one(&client, definition).await, before);
        let statement = format!(r#"{rename} "otel".logs RENAME TO logs_of_yours"#);
        let waiting = waits(&forebay).await.expect("it waits");
        assert!(waiting.contains(&statement), "{waiting}");
        let (_, said) = forebay.terminate().await;
        assert!(said.iter().any(|line| line.contains("a step of a migration waits")), "{said:#?}");
        client.batch_execute(&statement).await.unwrap();
        assert_eq!(waits(&upgrade(&database, &client).await).await, None);
        assert_eq!(count(&client, "otel.search(until => 'infinity')").await, 20);
    }
}

/// Scenario: somebody has given a function of the same parameters another return type. Promise: theirs stays, the others are made, and the
/// statement that is given lets forebay's be made.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_somebodys_own_keeps_no_other_waiting() {
    let own = "CREATE FUNCTION otel.histogram(
            width interval, since timestamptz, until timestamptz, service text, min_severity text, text text, folded boolean
        ) RETURNS text LANGUAGE sql AS 'SELECT ''theirs'''";
    let (database, client) = store(5, own).await;
    let forebay = upgrade(&database, &client).await;
    let waiting = waits(&forebay).await.expect("it waits");
    let (_, statement) = waiting.split_once("42P13): ").expect("a statement");
    assert!(statement.starts_with(r#"ALTER FUNCTION "otel".histogram("#), "{waiting}");
    assert_eq!(count(&client, "otel.search(until => 'infinity')").await, 10);
    let theirs = "SELECT otel.histogram('1 minute', now(), now(), NULL, NULL, NULL, NULL)";
    assert_eq!(one(&client, theirs).await, "theirs");
    client.batch_execute(statement).await.unwrap();
    assert_eq!(waits(&upgrade(&database, &client).await).await, None);
    let counted = "SELECT sum(records) FROM otel.histogram(until => now() + interval '1 hour')";
    assert_eq!(one(&client, counted).await, "20");
}

/// Scenario: a store whose histogram has no `folded` yet, with and without a view that depends on it. Promise: calls mean the new one, and
/// the view reads what it was made of.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_histogram_makes_place_for_the_new_one() {
    for (view, left) in [("", "0"), ("CREATE VIEW public.panel AS SELECT records FROM otel.histogram()", "1")]
    {
        let (database, client) = store(11, view).await;
        let forebay = upgrade(&database, &client).await;
        assert_eq!(waits(&forebay).await, None);
        let counted =
            "SELECT sum(records) FROM otel.histogram(until => now() + interval '1 hour', folded => true)";
        assert_eq!(one(&client, counted).await, "10");
        let without =
            "SELECT sum(records) FROM otel.histogram('1 minute', until => now() + interval '1 hour')";
        assert_eq!(one(&client, without).await, "10");
        let older = "SELECT count(*) FROM pg_proc WHERE proname = 'histogram_of_rows'";
        assert_eq!(one(&client, older).await, left);
        if !view.is_empty() {
            assert_eq!(one(&client, "SELECT records FROM public.panel").await, "7");
        }
        forebay.terminate().await;
    }
}

/// A role of this test's own in the database, and how it connects.
async fn role(database: &Database, client: &Client, name: &str) -> (String, String) {
    let role = format!("{name}_{}", database.name());
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    (role.clone(), database.dsn().replace(&format!("user={NAME}"), &format!("user={role}")))
}

/// Gives the store to `role`.
async fn give(client: &Client, role: &str) {
    let give = format!(
        "DO $$ DECLARE thing regclass; BEGIN
            FOR thing IN SELECT oid FROM pg_class WHERE relnamespace = 'otel'::regnamespace AND relkind IN ('r', 'p', 'v')
            LOOP EXECUTE format('ALTER TABLE %s OWNER TO {role}', thing); END LOOP; END $$;
        DO $$ DECLARE thing regprocedure; BEGIN FOR thing IN SELECT oid FROM pg_proc WHERE pronamespace = 'otel'::regnamespace
            LOOP EXECUTE format('ALTER FUNCTION %s OWNER TO {role}', thing); END LOOP; END $$;
        ALTER SCHEMA otel OWNER TO {role}"
    );
    client.batch_execute(&give).await.unwrap();
}

/// Scenario: another role than the store's owner owns the view, and then a function. Promise: records are stored, and what waits is said with
/// the statement that helps.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_another_owner_keeps_no_record_waiting() {
    for (thing, kind) in [("otel.logs", "VIEW"), ("otel.severity_number(text)", "FUNCTION")] {
        let (database, client) = store(5, "").await;
        let (owner, dsn) = role(&database, &client, "owner").await;
        give(&client, &owner).await;
        client.batch_execute(&format!("ALTER {kind} {thing} OWNER TO {NAME}")).await.unwrap();
        let forebay = Forebay::ready(&dsn, QUICK).await;
        forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
        forebay.settles().await;
        assert_eq!(count(&client, "otel.log_records").await, 10);
        let waiting = waits(&forebay).await.expect("it waits");
        let statement = format!("ALTER {kind} {} OWNER TO {owner}", thing.replace("otel.", "\"otel\"."));
        assert!(waiting.contains(&statement) && waiting.contains("42501"), "{waiting}");
        client.batch_execute(&statement).await.unwrap();
        forebay.terminate().await;
        assert_eq!(waits(&Forebay::ready(&dsn, QUICK).await).await, None);
    }
}

/// Scenario: a session has read the view in a transaction that goes on, in a store whose tables are migrated and whose view is not. Promise:
/// records are stored meanwhile, and the view is renewed once that transaction ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_in_use_is_renewed_later_and_records_are_stored() {
    let older = format!(
        "DROP FUNCTION otel.search, otel.trace; DROP VIEW otel.logs; {}; {OLD_FUNCTIONS}",
        view_of(3)
    )
    .replace("CREATE FUNCTION otel.severity_number", "CREATE OR REPLACE FUNCTION otel.severity_number");
    let (database, client) = store(newest(), &older).await;
    let reader = database.connect().await;
    reader.batch_execute("BEGIN; SELECT FROM otel.logs").await.unwrap();
    let forebay = upgrade(&database, &client).await;
    let waiting = waits(&forebay).await.expect("it waits");
    assert!(waiting.contains("55P03") && waiting.contains("tried again"), "{waiting}");
    reader.batch_execute("COMMIT").await.unwrap();
    eventually("the view is renewed", || async { waits(&forebay).await.is_none().then_some(()) }).await;
    assert_eq!(one(&client, COLUMNS).await, new_columns().await);
}

/// Scenario: a session has read a table in a transaction that goes on, and the table has to be migrated. Promise: what is sent is held,
/// health says what is in the way and that it is tried again, and it is stored once that transaction ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_use_is_migrated_later() {
    let (database, client) = store(7, "").await;
    let reader = database.connect().await;
    reader.batch_execute("BEGIN; SELECT FROM otel.resources").await.unwrap();
    let forebay = Forebay::start(database.dsn(), QUICK).await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    eventually("health says what is in the way", || async {
        let (_, body) = forebay.health().await;
        let detail = body["detail"].as_str()?.to_owned();
        (detail.contains("version 7 and cannot be migrated") && detail.contains("pg_stat_activity"))
            .then_some(())
    })
    .await;
    let said = forebay.said();
    assert!(!said.iter().any(|line| line.contains("migrated the schema")), "{said:#?}");
    reader.batch_execute("COMMIT").await.unwrap();
    forebay.settles().await;
    assert_eq!(count(&client, "otel.logs").await, 10);
}

/// Scenario: the store's owner has made by hand what migrations make, but for the note of it, and forebay's role owns nothing. Promise:
/// records are stored; what cannot be done is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_nothing_written_takes_keeps_no_record_waiting() {
    let (database, client) = store(newest(), "DELETE FROM otel.schema_migrations WHERE version > 7").await;
    let (writer, dsn) = role(&database, &client, "writer").await;
    grant(&client, &writer).await;
    client.batch_execute(&format!("GRANT SELECT ON otel.schema_migrations TO {writer}")).await.unwrap();
    let forebay = Forebay::ready(&dsn, QUICK).await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    assert_eq!(count(&client, "otel.log_records").await, 10);
    let waiting = waits(&forebay).await.expect("it waits");
    assert!(
        waiting.contains("has version 7 and cannot be migrated") && waiting.contains("42501"),
        "{waiting}"
    );
}

/// Grants what writing takes on the tables that are there.
async fn grant(client: &Client, writer: &str) {
    client.batch_execute(&format!("GRANT USAGE ON SCHEMA otel TO {writer}")).await.unwrap();
    for table in TABLES.iter().filter(|table| !table.privileges.is_empty()) {
        let (name, privileges) = (table.name, table.privileges.join(", "));
        if first_column(client, &format!("SELECT to_regclass('otel.{name}')")).await != ["NULL"] {
            client.batch_execute(&format!("GRANT {privileges} ON otel.{name} TO {writer}")).await.unwrap();
        }
    }
}

/// Scenario: one role owns the store and runs what `forebay schema --since` prints, another one writes, with `create_schema: false`; with a
/// store of each version, and a view that somebody has given columns. Promise: the writer may do all that it has to afterwards, refused rows
/// and losses included, without a further grant.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_owns_nothing_writes_after_each_migration_by_its_owner() {
    const MADE: &str = "exporters.postgres.create_schema=false";
    for version in 1..newest() {
        let (database, client) = store(version, &extended(version)).await;
        let (owner, _) = role(&database, &client, "owner").await;
        let (writer, dsn) = role(&database, &client, "writer").await;
        give(&client, &owner).await;
        grant(&client, &writer).await;
        if version < 8 {
            let revoke = format!("REVOKE SELECT, UPDATE ON otel.resources, otel.scopes FROM {writer}");
            client.batch_execute(&revoke).await.unwrap();
        }
        let ddl = run(&dsn, &format!("schema --since {version}"), &[]).await.out;
        client.batch_execute(&format!("SET SESSION AUTHORIZATION {owner}")).await.unwrap();
        let migrated = client.batch_execute(&ddl).await;
        client.batch_execute("ROLLBACK; RESET SESSION AUTHORIZATION").await.unwrap();
        let has_view = MIGRATIONS.iter().any(|migration| migration.version > version && migration.reading);
        assert_eq!(migrated.is_err(), has_view, "the view's part fails apart: {migrated:?}");
        let check = "ALTER TABLE otel.log_records ADD CHECK ((attributes->'number')::int <> 7)";
        client.batch_execute(check).await.unwrap();
        let doctor = run(&dsn, "doctor", &[MADE]).await;
        assert_eq!(doctor.status, Some(0), "version {version}: {doctor:?}");
        let forebay = Forebay::ready(&dsn, &[QUICK, &[MADE]].concat()).await;
        forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
        assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 9);
        let (status, said) = forebay.terminate().await;
        assert_eq!(status, Some(0), "{said:#?}");
        let lost = "SELECT reason || ' ' || sum(records) FROM otel.losses GROUP BY reason";
        assert_eq!(one(&client, lost).await, "dead_letter 1", "version {version}");
    }
}

/// Scenario: a newer forebay has migrated the store. Promise: this one writes nothing there, and health says which one to use; it goes on
/// once the store is as it knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_forebay_is_refused_by_name() {
    let (database, client) =
        store(newest(), "INSERT INTO otel.schema_migrations (version) VALUES (99)").await;
    let forebay = Forebay::start(database.dsn(), QUICK).await;
    forebay.becomes_unready("schema_mismatch").await;
    let (_, body) = forebay.health().await;
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains("has version 99") && detail.contains("use the newer forebay"), "{detail}");
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    client.batch_execute("DELETE FROM otel.schema_migrations WHERE version = 99").await.unwrap();
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10);
    assert_eq!(count(&client, "otel.logs").await, 10);
}
