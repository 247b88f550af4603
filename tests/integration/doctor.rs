//! `forebay doctor`: each thing that can be wrong is provoked, and has to be found, with a cure; where the cure is a
//! statement, it has to be one.

use std::collections::BTreeMap;

use ::forebay::embedded::{NAME, Stop};
use ::forebay::table::ddl::{MIGRATIONS, TABLES};
use support::eventually;
use support::forebay::{Forebay, QUICK, Ran, arguments, command, ran, run};
use support::postgres::{Database, Postgres, database};
use support::records::numbered_request;
use tokio_postgres::{Client, NoTls};

use crate::migrations::back_to;

/// What the doctor has said: the exit status, and for each check verdict and text.
#[derive(Debug)]
struct Told {
    status: Option<i32>,
    findings: Vec<(String, String, String)>,
}

async fn doctor(dsn: &str, sets: &[&str]) -> Told {
    told(&run(dsn, "doctor --json", sets).await)
}

fn told(ran: &Ran) -> Told {
    assert_eq!(ran.err, "", "{ran:?}");
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let finding = |finding: serde_json::Value| {
        (text(&finding, "check"), text(&finding, "verdict"), text(&finding, "text"))
    };
    Told { status: ran.status, findings: ran.json().into_iter().map(finding).collect() }
}

impl Told {
    /// The texts of this check and verdict.
    fn of(&self, check: &str, verdict: &str) -> Vec<&str> {
        let wanted = self.findings.iter().filter(|(c, v, _)| c == check && v == verdict);
        wanted.map(|(.., text)| text.as_str()).collect()
    }

    /// There is a problem of this check that says all of this; the exit status shows it. Gives its text.
    fn has_problem(&self, check: &str, says: &[&str]) -> &str {
        assert_eq!(self.status, Some(1), "{self:#?}");
        self.has(check, "problem", says)
    }

    fn has(&self, check: &str, verdict: &str, says: &[&str]) -> &str {
        let texts = self.of(check, verdict);
        let found = texts.iter().find(|text| says.iter().all(|part| text.contains(part)));
        found.unwrap_or_else(|| panic!("no {verdict} of {check} says {says:?}: {self:#?}"))
    }

    /// Nothing is wrong, but for these warnings; and that the tests' clusters do not survive the machine.
    fn has_only(&self, warnings: &[&str]) {
        assert_eq!(self.status, Some(0), "{self:#?}");
        let found =
            self.findings.iter().filter(|(check, verdict, _)| verdict != "ok" && check != "durability");
        assert_eq!(found.map(|(check, ..)| check.as_str()).collect::<Vec<_>>(), warnings, "{self:#?}");
        assert_eq!(self.of("durability", "warning").len(), 2, "fsync and full_page_writes: {self:#?}");
    }
}

/// A database with a store, and a role that may do what forebay needs, and nothing else.
struct Scene {
    database: Database,
    client: Client,
    role: String,
    dsn: String,
}

/// Where a DBA has made the store.
const MADE: &str = "exporters.postgres.create_schema=false";

impl Scene {
    async fn begin() -> Self {
        Self::in_database(database().await).await
    }

    async fn in_database(database: Database) -> Self {
        Forebay::ready(database.dsn(), QUICK).await.terminate().await;
        let (client, role) = (database.connect().await, format!("writer_{}", database.name()));
        client
            .batch_execute(&format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA otel TO {role}"))
            .await
            .unwrap();
        for table in TABLES.iter().filter(|table| !table.privileges.is_empty()) {
            let grant = format!("GRANT {} ON otel.{} TO {role}", table.privileges.join(", "), table.name);
            client.batch_execute(&grant).await.unwrap();
        }
        let dsn = database.dsn().replace(&format!("user={NAME}"), &format!("user={role}"));
        Self { database, client, role, dsn }
    }

    async fn execute(&self, sql: &str) {
        let sql = sql.replace("{role}", &self.role).replace("{database}", self.database.name());
        self.client.batch_execute(&sql).await.unwrap();
    }

    async fn doctor(&self) -> Told {
        doctor(&self.dsn, &[MADE]).await
    }
}

/// Scenario: a role with the privileges that are stated, and no others. Guarantee: the doctor has nothing to say, of
/// each check that there is, and forebay can write, resources and dead letters included.
#[tokio::test(flavor = "multi_thread")]
async fn the_privileges_that_are_asked_for_are_enough() {
    let scene = Scene::begin().await;
    // What may not be asked keeps nothing else from being asked.
    scene.execute("REVOKE SELECT ON pg_stat_ssl FROM PUBLIC").await;
    let told = scene.doctor().await;
    told.has_only(&[]);
    let checks: Vec<_> = told.findings.iter().map(|(check, ..)| check.as_str()).collect();
    let all = [
        "configuration",
        "connection",
        "tls",
        "pooler",
        "version",
        "encoding",
        "clock",
        "durability",
        "durability",
        "timeouts",
        "transactions",
        "connections",
        "schema",
        "view",
        "privileges",
        "row security",
        "public",
        "triggers",
        "partitions",
        "retention",
        "indexes",
        "dead letters",
        "disk",
        "checkpoints",
    ];
    assert_eq!(checks, all);
    assert_eq!(told.of("pooler", "ok"), ["none is in between"]);
    scene.execute("ALTER TABLE otel.log_records ADD CHECK ((attributes->'number')::int <> 7)").await;
    let forebay = Forebay::ready(&scene.dsn, &[QUICK, &[MADE]].concat()).await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 9);
    assert_eq!(scrape.value("log_buffer_dead_lettered_total"), 1);
    let told = doctor(scene.database.dsn(), &[]).await;
    told.has("dead letters", "warning", &["1 in ", "forebay dead-letters list"]);
    told.has("privileges", "warning", &["superuser"]);
    assert_eq!(told.status, Some(0));
}

/// Scenario: each privilege is missing, one at a time. Guarantee: it is found, and the statement that is given mends
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn each_missing_privilege_is_found_and_its_cure_is_one() {
    let scene = Scene::begin().await;
    for table in TABLES.iter() {
        for privilege in table.privileges {
            scene.execute(&format!("REVOKE {privilege} ON otel.{} FROM {{role}}", table.name)).await;
            let told = scene.doctor().await;
            let cure = told.has_problem("privileges", &[privilege, table.name]);
            scene.client.batch_execute(cure).await.unwrap();
        }
    }
    scene.execute("REVOKE USAGE ON SCHEMA otel FROM {role}").await;
    let told = scene.doctor().await;
    let (_, cure) = told.has_problem("privileges", &["may not use the schema"]).split_once(": ").unwrap();
    scene.client.batch_execute(cure).await.unwrap();
    scene.doctor().await.has_only(&[]);
    // A privilege on each column is as good.
    scene.execute("REVOKE INSERT ON otel.scopes FROM {role}").await;
    let scopes = TABLES.iter().find(|table| table.name == "scopes").unwrap();
    let columns: Vec<_> = scopes.columns.iter().map(|column| column.name).collect();
    scene.execute(&format!("GRANT INSERT ({}) ON otel.scopes TO {{role}}", columns.join(", "))).await;
    scene.doctor().await.has_only(&[]);
}

/// Scenario: `create_schema: true` and a role that may not create, or owns nothing, or owns it all.
#[tokio::test(flavor = "multi_thread")]
async fn who_makes_the_store_has_to_own_it() {
    let scene = Scene::begin().await;
    let told = doctor(&scene.dsn, &[]).await;
    told.has_problem("privileges", &["GRANT SELECT ON \"otel\".schema_migrations"]);
    scene.execute("GRANT SELECT ON otel.schema_migrations TO {role}").await;
    doctor(&scene.dsn, &[]).await.has_only(&["privileges"]);
    let mine = "exporters.postgres.schema=mine";
    doctor(&scene.dsn, &[mine]).await.has_problem("privileges", &["may not create", "GRANT CREATE"]);
    doctor(&scene.dsn, &[mine, MADE]).await.has_problem("schema", &["forebay schema"]);
    scene.execute("GRANT CREATE ON DATABASE {database} TO {role}").await;
    doctor(&scene.dsn, &[mine]).await.has_only(&[]);
    Forebay::ready(&scene.dsn, &[QUICK, &[mine]].concat()).await.terminate().await;
    doctor(&scene.dsn, &[mine]).await.has_only(&[]);
}

/// Scenario: settings of the role and the database that stand in forebay's way.
#[tokio::test(flavor = "multi_thread")]
async fn settings_in_the_way_are_found() {
    let scene = Scene::begin().await;
    for (set, reset, check, verdict, says) in [
        ("CONNECTION LIMIT 1", "CONNECTION LIMIT -1", "connections", "problem", "CONNECTION LIMIT 4"),
        ("CONNECTION LIMIT 3", "CONNECTION LIMIT -1", "connections", "warning", "half open"),
        ("CONNECTION LIMIT 0", "CONNECTION LIMIT -1", "connection", "problem", "53300"),
        ("NOLOGIN", "LOGIN", "connection", "problem", "28000"),
        (
            "SET default_transaction_read_only = on",
            "RESET default_transaction_read_only",
            "connection",
            "problem",
            "RESET default_transaction_read_only",
        ),
    ] {
        scene.execute(&format!("ALTER ROLE {{role}} {set}")).await;
        let told = scene.doctor().await;
        told.has(check, verdict, &[says]);
        assert_eq!(told.status, Some(i32::from(verdict == "problem")), "{told:#?}");
        scene.execute(&format!("ALTER ROLE {{role}} {reset}")).await;
    }
    scene.execute("ALTER DATABASE {database} CONNECTION LIMIT 8").await;
    // The test's own session takes one of them.
    let told = doctor(&scene.dsn, &[MADE, "exporters.postgres.pool_size=8"]).await;
    told.has_problem("connections", &["the database has room for 8 sessions", "ALTER DATABASE"]);
    scene.execute("ALTER DATABASE {database} CONNECTION LIMIT -1").await;
    scene.execute("ALTER TABLE otel.log_records ENABLE ROW LEVEL SECURITY").await;
    scene.doctor().await.has_problem("row security", &["log_records", "DISABLE ROW LEVEL SECURITY"]);
    scene.execute("ALTER TABLE otel.log_records DISABLE ROW LEVEL SECURITY").await;
    scene.doctor().await.has_only(&[]);
}

/// Scenario: a store that is older, newer, or changed. Guarantee: said, and the DDL that is pointed to mends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_fit_is_found() {
    let scene = Scene::begin().await;
    scene.execute("GRANT SELECT ON otel.schema_migrations TO {role}").await;
    back_to(&scene.client, 1).await;
    let told = scene.doctor().await;
    told.has_problem("schema", &["dead_letters.service is missing", "forebay schema --since 1"]);
    told.has_problem("schema", &["table losses is missing"]);
    let told = doctor(scene.database.dsn(), &[]).await;
    told.has("schema", "ok", &[&format!("migrates it to {}", MIGRATIONS.len())]);
    let ddl = run(&scene.dsn, "schema --since 1", &[]).await;
    scene.client.batch_execute(&ddl.out).await.unwrap();
    scene.doctor().await.has_only(&[]);
    scene.execute("INSERT INTO otel.schema_migrations (version) VALUES (99)").await;
    doctor(scene.database.dsn(), &[]).await.has_problem("schema", &["version 99", "newer forebay"]);
    scene.doctor().await.has_only(&[]);
    scene.execute("ALTER TABLE otel.log_records RENAME body TO text").await;
    scene.doctor().await.has_problem("schema", &["log_records.body is missing"]);
}

/// Scenario: partitions are missing; rows of today lie in the default partition; there is no default partition.
#[tokio::test(flavor = "multi_thread")]
async fn missing_partitions_are_found() {
    let scene = Scene::begin().await;
    let partitions = "SELECT relname::text FROM pg_inherits JOIN pg_class ON oid = inhrelid
        WHERE inhparent = 'otel.log_records'::regclass AND relname <> 'log_records_default' ORDER BY relname";
    let names: Vec<String> =
        scene.client.query(partitions, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    scene.execute(&format!("DROP TABLE otel.{}", names[3])).await;
    let day = &names[3]["log_records_".len()..];
    let day = format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..]);
    let told = scene.doctor().await;
    told.has_only(&["partitions"]);
    told.has("partitions", "warning", &[&format!("missing for {day}")]);
    scene.execute(&format!("DROP TABLE otel.{}", names[0])).await;
    let forebay = Forebay::ready(&scene.dsn, &[QUICK, &[MADE]].concat()).await;
    forebay.sender().await.send(numbered_request(0..5)).await.unwrap();
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 5);
    scene.execute("GRANT SELECT ON otel.log_records_default TO {role}").await;
    scene.doctor().await.has("partitions", "warning", &["5 rows of days near now"]);
    scene.execute("UPDATE otel.log_records_default SET time = 'epoch'").await;
    scene.doctor().await.has("partitions", "ok", &["5 rows of far days"]);
    scene.execute("ALTER TABLE otel.log_records DETACH PARTITION otel.log_records_default").await;
    let told = scene.doctor().await;
    told.has_problem("partitions", &["there is no default partition"]);
    told.has_problem("partitions", &["missing for", &day]);
}

/// Scenario: retention and an index on texts, for a role that does not own a partition, in a database without pg_trgm.
/// Guarantee: both are found, and with their cures nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_partitions_from_being_dropped_or_indexed_is_found() {
    let scene = Scene::begin().await;
    let sets = ["exporters.postgres.retention.max_age=720h", "exporters.postgres.indexes=[body]"];
    let owner = scene.database.dsn();
    let told = doctor(owner, &sets).await;
    told.has("retention", "ok", &["are kept for 2592000s and any size"]);
    told.has("connections", "ok", &["building indexes and moving stray records take two more"]);
    let told = doctor(&scene.dsn, &sets).await;
    let found = told.has("retention", "warning", &["cannot drop what is due", "OWNER TO"]);
    let cures = found.split_once(": ").unwrap().1.to_owned();
    told.has("indexes", "warning", &["CREATE EXTENSION pg_trgm"]);
    scene.execute(&cures).await;
    let available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'";
    if scene.client.query_one(available, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        scene.execute("CREATE EXTENSION pg_trgm").await;
        assert_eq!(doctor(&scene.dsn, &sets).await.of("indexes", "warning"), [""; 0]);
    }
    assert_eq!(doctor(&scene.dsn, &sets).await.of("retention", "warning"), [""; 0]);
}

/// Scenario: connection strings that lead nowhere, in every way. Guarantee: each is a problem with its own cure, and
/// no password is repeated; one host that can be written to is enough.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_connecting_is_told_apart() {
    let scene = Scene::begin().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, name) = (scene.database.address().port(), scene.database.name());
    for (dsn, says) in [
        (format!("host=127.0.0.1 port={closed} user=me password=hunter2"), vec!["listen_addresses"]),
        (
            format!("host=127.0.0.1 port={port} user=nobody_here password=hunter2"),
            vec!["28000", "create role nobody_here"],
        ),
        (
            format!("host=127.0.0.1 port={port} user={NAME} dbname=nowhere"),
            vec!["3D000", "CREATE DATABASE nowhere"],
        ),
        (
            format!("host=127.0.0.1 port={port} user={NAME} dbname={name} sslmode=require"),
            vec!["TLS", "sslmode"],
        ),
    ] {
        let told = doctor(&dsn, &[]).await;
        told.has_problem("connection", &says);
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
    }
    let two = format!("host=127.0.0.1,127.0.0.1 port={closed},{port} user={} dbname={name}", scene.role);
    doctor(&two, &[MADE]).await.has_only(&["connection"]);
    let wrong = run("postgresql://me:hunter2@db:port/x", "doctor", &[]).await;
    assert_eq!(wrong.status, Some(2));
    assert!(wrong.err.contains("exporters.postgres.dsn") && !wrong.err.contains("hunter2"), "{wrong:?}");
}

/// Scenario: a server of its own, so that its settings can be had: it asks for passwords, and has twenty connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_full_server_are_found() {
    let mut postgres = Postgres::start().await;
    let scene = Scene::in_database(postgres.database().await).await;
    scene.execute("ALTER SYSTEM SET max_connections = 20").await;
    scene.execute("ALTER ROLE {role} PASSWORD 'right'").await;
    let hba = "
        CREATE TABLE hba (line text); INSERT INTO hba VALUES ('local all {role} scram-sha-256'), ('local all all trust')";
    scene.execute(hba).await;
    let file: String = scene.client.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
    scene.client.batch_execute(&format!("COPY hba TO '{file}'")).await.unwrap();
    postgres.stop(Stop::Fast).await;
    postgres.start_again().await;
    doctor(&format!("{} password=wrong", scene.dsn), &[MADE])
        .await
        .has_problem("connection", &["28P01", &scene.role]);
    let right = format!("{} password=right", scene.dsn);
    doctor(&right, &[MADE]).await.has_only(&[]);
    // Three of the twenty are for superusers. Sessions that have just ended may still count.
    let connect = async || {
        let (client, connection) = tokio_postgres::connect(&right, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    };
    let mut others = Vec::new();
    while others.len() < 17 {
        others.push(eventually("there is room for one more", &connect).await);
        if others.len() == 6 {
            let told = doctor(&right, &[MADE, "exporters.postgres.pool_size=12"]).await;
            told.has_problem("connections", &["the server has room for 17 sessions", "pool_size is 12"]);
        }
    }
    doctor(&right, &[MADE]).await.has_problem("connection", &["53300", "max_connections"]);
}

/// Scenario: a database that cannot hold every text, and a server that speaks TLS.
#[tokio::test(flavor = "multi_thread")]
async fn encoding_and_encryption_are_looked_at() {
    let latin = database().await;
    let name = format!("{}_latin1", latin.name());
    let create =
        format!("CREATE DATABASE {name} ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    latin.connect().await.batch_execute(&create).await.unwrap();
    let dsn = latin.dsn().replace(latin.name(), &name);
    doctor(&dsn, &[]).await.has_problem("encoding", &["LATIN1", "ENCODING 'UTF8'"]);
    doctor(latin.dsn(), &[]).await.has("tls", "ok", &["nothing leaves this machine"]);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let postgres = Postgres::start_with_tls(&made.cert.pem(), &made.signing_key.serialize_pem()).await;
    let database = postgres.database().await;
    let over_tcp = database.dsn_by_way_of(database.address());
    doctor(&over_tcp, &[]).await.has("tls", "ok", &["TLSv1.3"]);
}

/// Scenario: `dsn: embedded` before the first run, while forebay runs, and after it. Guarantee: the doctor and the
/// dead letters look into the private PostgreSQL in each case; one that was started for that has ended with it.
#[tokio::test(flavor = "multi_thread")]
async fn the_private_postgresql_is_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let look = async |arguments: &str| {
        let mut command = command();
        ran(command.current_dir(dir.path()).args(arguments.split(' '))).await
    };
    let told_now = told(&look("doctor --json").await);
    assert_eq!(told_now.status, Some(0));
    told_now.has("connection", "ok", &["holds no private PostgreSQL"]);
    told_now.has("queue", "ok", &[".forebay/queue does not exist yet; forebay creates it"]);
    let none = look("dead-letters list").await;
    assert_eq!(none.status, Some(1), "{none:?}");
    assert!(!dir.path().join(".forebay").exists(), "nothing is made by looking");

    let mut command = command();
    command.current_dir(dir.path()).args(arguments(&[]));
    let forebay = Forebay::spawn(command).await;
    forebay.becomes_ready().await;
    let is_well = |told: &Told| {
        let problems: BTreeMap<_, _> = told
            .findings
            .iter()
            // The disk of its queue is this machine's.
            .filter(|(check, verdict, _)| verdict != "ok" && check != "queue")
            .map(|(c, _, text)| (c, text))
            .collect();
        let expected = [&"privileges", &"store"];
        assert_eq!(problems.keys().collect::<Vec<_>>(), expected, "its superuser, of no name: {problems:?}");
    };
    is_well(&told(&look("doctor --json").await));
    assert_eq!(look("dead-letters list").await.status, Some(0));
    assert_eq!(forebay.terminate().await.0, Some(0));
    is_well(&told(&look("doctor --json").await));
    let listed = look("dead-letters purge --yes").await;
    assert_eq!((listed.status, listed.out.as_str()), (Some(0), "0 deleted\n"), "{listed:?}");
    let pid = dir.path().join(".forebay/cluster/postmaster.pid");
    assert!(!pid.exists(), "the server has ended");
}

/// Scenario: for people. Guarantee: a line for each finding, and the sum.
#[tokio::test(flavor = "multi_thread")]
async fn people_read_lines() {
    let database = database().await;
    let looked = run(database.dsn(), "doctor", &[]).await;
    assert_eq!(looked.status, Some(0), "{looked:?}");
    assert!(
        looked
            .out
            .starts_with("ok       configuration  OTLP/gRPC on 127.0.0.1:4317, OTLP/HTTP on 127.0.0.1:4318"),
        "{looked:?}"
    );
    assert!(looked.out.contains("\nok       encoding       UTF8\n"), "{looked:?}");
    assert!(looked.out.contains("\nok       schema         \"otel\" is not there yet"), "{looked:?}");
    assert!(
        looked.out.ends_with(" ok, 3 warnings, 0 problems\n"),
        "superuser, fsync, full_page_writes: {looked:?}"
    );
}

/// Scenario: a session has left a transaction open, in which it has read something, and a hundred thousand others have come since.
/// Guarantee: the doctor warns of it with its number, role and name, as a role that sees no more of it than that; and no longer once
/// it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_left_open_is_found() {
    let scene = Scene::begin().await;
    let forgotten = scene.database.connect().await;
    let read = "SET application_name = 'forgotten'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM otel.log_records";
    forgotten.batch_execute(read).await.unwrap();
    let pid: i32 = forgotten.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    scene.doctor().await.has_only(&[]);
    let others = "CREATE TABLE others (number integer);
        DO $$ BEGIN FOR number IN 1..100001 LOOP
            BEGIN INSERT INTO others VALUES (number); EXCEPTION WHEN division_by_zero THEN NULL; END;
        END LOOP; END $$";
    scene.execute(others).await;
    let told = scene.doctor().await;
    told.has_only(&["transactions"]);
    let session = format!("session {pid} of role {} (forgotten)", ::forebay::embedded::NAME);
    told.has("transactions", "warning", &[&session, "pg_terminate_backend"]);
    forgotten.batch_execute("COMMIT").await.unwrap();
    scene.doctor().await.has_only(&[]);
}

/// Scenario: a database as it was before PostgreSQL 15, a store as it was before version 7, and a role whose name has to be quoted.
/// Guarantee: what everybody may do there is found, and the statements that are given mend it.
#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_may_do_is_found_and_its_cure_is_one() {
    let scene = Scene::begin().await;
    scene.execute("GRANT SELECT ON otel.schema_migrations TO {role}").await;
    scene.execute("ALTER TABLE otel.log_records OWNER TO {role}").await;
    let of_public = async |sets: &[&str]| {
        let told = doctor(&scene.dsn, sets).await;
        told.of("public", "warning").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of_public(&[MADE]).await, [""; 0]);
    scene
        .execute(
            "GRANT CREATE ON SCHEMA public, otel TO PUBLIC; GRANT EXECUTE ON FUNCTION otel.keep_counts() TO PUBLIC;
            ALTER FUNCTION otel.severity_number(text) RESET search_path",
        )
        .await;
    let found = of_public(&[]).await;
    let [otel, public, function, path] = &found[..] else { panic!("{found:#?}") };
    assert!(path.contains("forebay schema --since 6"), "{path}");
    for (found, cure) in [
        (otel, "REVOKE CREATE ON SCHEMA otel FROM PUBLIC"),
        (public, "REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        (function, "REVOKE EXECUTE ON FUNCTION otel.keep_counts() FROM PUBLIC"),
    ] {
        assert!(found.ends_with(&format!(": {cure}")), "{found}");
        scene.execute(cure).await;
    }
    scene.execute("DELETE FROM otel.schema_migrations WHERE version > 6").await;
    let ddl = run(&scene.dsn, "schema --since 6", &[]).await;
    scene.client.batch_execute(&ddl.out).await.unwrap();
    let odd = format!("{}\"'", scene.role);
    scene.execute(&format!("ALTER ROLE {{role}} RENAME TO \"{}\"", odd.replace('"', "\"\""))).await;
    let dsn = scene.dsn.replace(&scene.role, &odd.replace('\'', "\\'"));
    let told = doctor(&dsn, &[]).await;
    let cures: Vec<_> = told.of("public", "warning");
    assert_eq!(cures.len(), 1, "it may not have partitions counted: {told:#?}");
    scene.client.batch_execute(cures[0].split_once(": ").unwrap().1).await.unwrap();
    assert_eq!(doctor(&dsn, &[]).await.of("public", "warning"), [""; 0]);
}
