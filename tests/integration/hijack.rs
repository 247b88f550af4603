//! Nobody's functions, operators or types are called by forebay's SQL, whatever a role with CREATE on `public` puts there and
//! whatever path a database gives its sessions: not by forebay, not by its commands, and not by the functions that readers call.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::eventually;
use support::forebay::{Forebay, QUICK, run};
use support::postgres::{Database, database};
use support::records::{now, numbered_request};
use tokio_postgres::Client;

use crate::counts::are_counted;
use crate::partitions::{DAY, count, store};
use crate::reading::first_column;
use crate::tail::Tail;

/// Every word in the sources that stands before a parenthesis: the functions that SQL calls are among them.
fn called() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension().and_then(|name| name.to_str()) {
                None => folders.push(path),
                Some("rs" | "sql") => {
                    let text = fs::read_to_string(&path).unwrap();
                    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                    names.extend(text.match_indices('(').filter_map(|(at, _)| {
                        let start = text[..at].rfind(|c| !is_word(c)).map_or(0, |before| before + 1);
                        text.get(start..at).filter(|word| !word.is_empty()).map(str::to_owned)
                    }));
                }
                Some(_) => {}
            }
        }
    }
    names
}

/// A database where anybody may create in `public`, as everywhere before PostgreSQL 15, and somebody has. `path` is what sessions
/// have as search_path, where it is not the usual one.
async fn trapped(path: Option<&str>) -> (Database, Client) {
    let database = database().await;
    let client = database.connect().await;
    let names = called().into_iter().collect::<Vec<_>>().join(",");
    let attacker = format!("attacker_{}", database.name());
    let open =
        format!("CREATE ROLE {attacker}; GRANT CREATE ON SCHEMA public TO PUBLIC; SET ROLE {attacker}");
    client.batch_execute(&open).await.unwrap();
    client.batch_execute(&include_str!("traps.sql").replace("{names}", &names)).await.unwrap();
    client.batch_execute("RESET ROLE; SET search_path = pg_catalog").await.unwrap();
    if let Some(path) = path {
        let alter = format!("ALTER DATABASE {} SET search_path = {path}", database.name());
        client.batch_execute(&alter).await.unwrap();
    }
    (database, client)
}

/// What was called, and by whom.
async fn caught(client: &Client) -> Vec<String> {
    first_column(client, "SELECT DISTINCT who || ' has called ' || what FROM public.caught").await
}

const PATHS: [Option<&str>; 2] = [None, Some("public, pg_catalog")];

/// Scenario: traps for each function, operator and type; a forebay that makes its store, writes, refuses, indexes, counts, drops;
/// each of its commands; the DDL that it prints. Guarantee: no trap is ever called.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_runs_code_as_forebay() {
    for path in PATHS {
        let (database, client) = trapped(path).await;
        // They work: this is what was called as forebay's role, once.
        let sprung = database.connect().await;
        sprung.simple_query("SELECT obj_description(1247::oid, 'pg_type')").await.unwrap();
        assert!(caught(&client).await.contains(&"forebay has called obj_description(oid, text)".to_owned()));
        client.batch_execute("TRUNCATE public.caught").await.unwrap();

        let indexes = "exporters.postgres.indexes=[errors, service, trace_id, attributes]";
        let forebay = Forebay::ready(database.dsn(), &[QUICK, &[indexes]].concat()).await;
        store(&forebay, (0..10).map(|number| now() - (number % 4) * DAY)).await;
        forebay.terminate().await;
        let forebay = Forebay::ready(database.dsn(), &[QUICK, &[indexes]].concat()).await;
        are_counted(&client).await;
        let tail = Tail::start(&database, "--json --service shop --severity info");
        tail.shows(1).await;
        let check = "ALTER TABLE otel.log_records ADD CHECK ((attributes->'number')::int4 <> 107) NOT VALID";
        client.batch_execute(check).await.unwrap();
        forebay.sender().await.send(numbered_request(100..140)).await.unwrap();
        forebay.settles().await;
        tail.shows(20).await;
        forebay.terminate().await;
        for (command, status) in [
            ("doctor", 0),
            ("partitions", 0),
            ("query --since 96h --severity warn --text record --attribute number=9 --service shop", 0),
            ("query --json --trace 000102030405060708090a0b0c0d0e0f", 0),
            ("mapping otel.lanes", 0),
            ("dead-letters list --sqlstate 23514 --since 1h --service shop", 0),
            ("dead-letters retry --all", 1),
            ("dead-letters purge --yes", 0),
        ] {
            let ran = run(database.dsn(), command, &[]).await;
            assert_eq!(ran.status, Some(status), "{command}: {ran:?}");
            assert_eq!(ran.err.matches("SQLSTATE").count(), 0, "{command}: {ran:?}");
        }
        let sets = ["exporters.postgres.retention.max_age=24h"];
        let forebay = Forebay::ready(database.dsn(), &[QUICK, &sets].concat()).await;
        eventually("what is past is dropped", || async {
            let left = count(&client, "pg_class WHERE relname ~ '^log_records_[0-9]+$'").await;
            (left <= 6).then_some(())
        })
        .await;
        forebay.terminate().await;
        let ddl = run(database.dsn(), "schema", &["exporters.postgres.schema=other"]).await;
        sprung.batch_execute(&ddl.out).await.unwrap();
        assert_eq!(caught(&client).await, [""; 0], "{path:?}");
    }
}

/// Makes a store of today and three counted days.
async fn counted_days(database: &Database, client: &Client) {
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    store(&forebay, (0..400).map(|number| now() - (number % 4) * DAY)).await;
    forebay.terminate().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    are_counted(client).await;
    forebay.terminate().await;
}

/// Scenario: the same traps, and a reader. Guarantee: whoever calls a function of the store calls that one alone.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_runs_code_as_whoever_reads() {
    for path in PATHS {
        let (database, client) = trapped(path).await;
        counted_days(&database, &client).await;
        let role = format!("reader_{}", database.name());
        let reads = format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA otel TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA otel TO {role}"
        );
        client.batch_execute(&reads).await.unwrap();
        let reader = database.connect().await;
        reader.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        let days = "since => '2020-01-01', until => '2100-01-01'";
        for call in [
            format!("search('record', 'shop', 'INFO', {days})"),
            format!("search(service => 'shop', {days}, max_rows => 3)"),
            "search()".to_owned(),
            format!("trace('00000000000000000000000000000001', {days})"),
            "histogram('1 hour', now() - interval '90 hours')".to_owned(),
            "histogram('7 seconds', service => 'shop', min_severity => '9', text => 'record')".to_owned(),
            format!("errors_by_service({days})"),
            "errors_by_service()".to_owned(),
            format!("counted({days})"),
            "severity_number('warn')".to_owned(),
        ] {
            // Arguments are the caller's own to qualify.
            let call = call.replace("now() - ", "pg_catalog.now() OPERATOR(pg_catalog.-) ");
            let rows = reader.simple_query(&format!("SELECT * FROM otel.{call}")).await;
            assert!(
                rows.unwrap_or_else(|error| panic!("{call}: {error:?}")).len() > 1,
                "{call} finds something"
            );
        }
        assert_eq!(caught(&client).await, [""; 0], "{path:?}");
    }
}

/// Scenario: a store as it is made, and one of an older version with the privileges that it had. Guarantee: nobody but its owner
/// executes a function that runs as its owner.
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_run_as_their_owner_are_the_owners() {
    let database = database().await;
    Forebay::ready(database.dsn(), QUICK).await.terminate().await;
    let client = database.connect().await;
    let open = "SELECT proname FROM pg_proc WHERE pronamespace = 'otel'::regnamespace AND prosecdef
        AND (proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0))";
    assert_eq!(first_column(&client, open).await, [""; 0]);
    let older = "GRANT EXECUTE ON FUNCTION otel.keep_counts() TO PUBLIC; DELETE FROM otel.schema_migrations WHERE version >= 7";
    client.batch_execute(older).await.unwrap();
    assert_eq!(first_column(&client, open).await, ["keep_counts"]);
    Forebay::ready(database.dsn(), QUICK).await.terminate().await;
    assert_eq!(first_column(&client, open).await, [""; 0]);
}

/// Scenario: a store with counts, and a reader who makes triggers of keep_counts, by right or as left from an older version.
/// Guarantee: it may not make one, and those that are there neither erase nor add a count.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_changes_no_counts() {
    let database = database().await;
    let client = database.connect().await;
    counted_days(&database, &client).await;
    let (name, role) = (crate::partitions::partition(2), format!("reader_{}", database.name()));
    let grants = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA otel TO {role}; GRANT SELECT ON otel.logs TO {role}"
    );
    client.batch_execute(&grants).await.unwrap();
    let key = format!("SELECT relname || '/' || oid FROM pg_class WHERE relname = '{name}'");
    let key = first_column(&client, &key).await.remove(0);
    let counts = "SELECT log_counts::text FROM otel.log_counts ORDER BY 1";
    let before = first_column(&client, counts).await;
    assert!(!before.is_empty());
    let reader = database.connect().await;
    let table = "CREATE TEMP TABLE t (time_unix_nano bigint, resource_id uuid, severity_number smallint)";
    reader.batch_execute(&format!("SET ROLE {role}; {table}")).await.unwrap();
    let own = first_column(&reader, "SELECT 't/' || 't'::regclass::oid").await.remove(0);
    for key in [&key, &own] {
        let triggers = format!(
            "CREATE TRIGGER empty AFTER TRUNCATE ON t EXECUTE FUNCTION otel.keep_counts('{key}');
            CREATE TRIGGER forge AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION otel.keep_counts('{key}')"
        );
        let refused = reader.batch_execute(&triggers).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{refused:?}");
        // As a role could before.
        client.batch_execute("GRANT EXECUTE ON FUNCTION otel.keep_counts() TO PUBLIC").await.unwrap();
        reader.batch_execute(&triggers).await.unwrap();
        client.batch_execute("REVOKE EXECUTE ON FUNCTION otel.keep_counts() FROM PUBLIC").await.unwrap();
        let changes =
            "INSERT INTO t VALUES (1, NULL, 21); UPDATE t SET severity_number = 9; DELETE FROM t; TRUNCATE t;
            DROP TRIGGER empty ON t; DROP TRIGGER forge ON t";
        reader.batch_execute(changes).await.unwrap();
        assert_eq!(first_column(&client, counts).await, before, "{key}");
    }
}
