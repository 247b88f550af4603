//! `exporters.postgres.table`: records go into a table that was there before, with all that is promised for forebay's own.

use std::cell::Cell;

use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{AnyValue, ExportLogsServiceRequest};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use support::arbitrary;
use support::forebay::{Forebay, QUICK, Ran, arguments, command, get, run};
use support::postgres::{Database, database};
use support::records::{body_of, now, numbered_request, pair, request, text};
use tokio::runtime::Handle;
use tokio_postgres::Client;

/// A column of each type that can be filled, two of them NOT NULL.
const TABLE: &str = "CREATE SCHEMA app; CREATE TABLE app.\"Logs\" (id varchar(36) PRIMARY KEY, at timestamptz NOT NULL,
    local timestamp, day date, level varchar(8) NOT NULL, message varchar(20) NOT NULL, number integer NOT NULL, small smallint,
    big bigint, ratio double precision, less real, yes boolean, trace uuid, span bytea, peer inet, host text NOT NULL,
    extra json, rest jsonb, all_of_it jsonb NOT NULL, serial bigint GENERATED ALWAYS AS IDENTITY,
    length integer GENERATED ALWAYS AS (length(message)) STORED, filled text NOT NULL DEFAULT 'by the table')";

const MAPPING: &str = "exporters.postgres.table={name: app.Logs, columns: {
    id: {generate: uuid, type: varchar(36)}, at: {field: time}, local: {field: observed_time, type: timestamp},
    day: {attribute: a, type: date}, level: {field: severity, map: {WARN: WARNING, FATAL: CRITICAL}, default: INFO, type: varchar(8)},
    message: {field: body, type: varchar(20), default: ''}, number: {attribute: number, type: integer, default: -1},
    small: {field: severity_number}, big: {field: time_unix_nano}, ratio: {attribute: a, type: double precision},
    less: {attribute: b, type: real}, yes: {attribute: a, type: boolean}, trace: {field: trace_id, type: uuid},
    span: {field: span_id, type: bytea}, peer: {attribute: peer, type: inet}, host: {resource: host.name, default: unknown},
    extra: {attributes: [a, b, 'with*'], type: json}, rest: {attributes: rest}, all_of_it: {field: attributes}}}";

/// A database with the table, and the settings that name it.
struct Scene {
    database: Database,
    client: Client,
}

impl Scene {
    async fn begin() -> Self {
        let database = database().await;
        let client = database.connect().await;
        client.batch_execute(TABLE).await.unwrap();
        Self { database, client }
    }

    async fn ready(&self) -> Forebay {
        Forebay::ready(self.database.dsn(), &[QUICK, &[MAPPING]].concat()).await
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    async fn count(&self, table: &str) -> i64 {
        self.client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }

    /// The numbers in the table, and that each row has the message of its number.
    async fn numbers(&self) -> Vec<i32> {
        let rows = "SELECT number, message, level FROM app.\"Logs\" ORDER BY number";
        let rows = self.client.query(rows, &[]).await.unwrap();
        let number = |row: &tokio_postgres::Row| {
            let number: i32 = row.get(0);
            assert_eq!(row.get::<_, &str>(1), &body_of(number as u64)[..20]);
            let levels = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
            assert_eq!(row.get::<_, &str>(2), levels[number as usize % 24 / 4]);
            number
        };
        rows.iter().map(number).collect()
    }

    async fn run(&self, arguments: &str) -> Ran {
        run(self.database.dsn(), arguments, &[MAPPING]).await
    }

    /// The problems that the doctor tells of the table.
    async fn problems(&self) -> Vec<String> {
        let told = self.run("doctor --json").await.json();
        let problems =
            told.iter().filter(|finding| finding["check"] == "table" && finding["verdict"] == "problem");
        problems.map(|finding| finding["text"].as_str().unwrap().to_owned()).collect()
    }
}

/// Scenario: numbered records. Guarantee: each is one row, filled as the mapping says, cut to width; nothing is stored
/// beside them; the doctor finds all well.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_rows_of_the_existing_table() {
    let scene = Scene::begin().await;
    let forebay = scene.ready().await;
    forebay.sender().await.send(numbered_request(0..1000)).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 1000);
    assert_eq!(scrape.sum("log_buffer_replaced_values_total", r#"kind="width""#), 1000);
    assert_eq!(scene.numbers().await, (0..1000).collect::<Vec<_>>());
    let filled =
        "SELECT count(*) FROM app.\"Logs\" WHERE host = 'h1' AND filled = 'by the table' AND length = 20
        AND all_of_it->>'number' = number::text AND rest = all_of_it - 'number' AND extra IS NULL
        AND span = decode(lpad(to_hex(number), 16, '0'), 'hex') AND at > now() - interval '1 hour'";
    assert_eq!(
        scene.client.query_one(filled, &[]).await.unwrap().get::<_, i64>(0),
        999,
        "but for the span of zeros"
    );
    for table in ["log_records", "resources", "scopes", "dead_letters"] {
        assert_eq!(scene.count(&format!("otel.{table}")).await, 0, "{table}");
    }
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'otel.log_records'::regclass";
    assert_eq!(
        scene.client.query_one(partitions, &[]).await.unwrap().get::<_, i64>(0),
        1,
        "the default partition"
    );
    let horizon = "log_buffer_partitioned_until_timestamp_seconds";
    let (_, metrics) = get(&format!("http://{}/metrics", forebay.metrics_address())).await;
    assert!(!metrics.contains(horizon), "an alert would take it for the end");
    let told = scene.run("doctor").await;
    assert_eq!(told.status, Some(0), "{told:?}");
    assert!(
        told.out.contains("ok       table          app.Logs takes what its 19 columns are filled with"),
        "{told:?}"
    );
}

/// Scenario: any request that OTLP allows. Guarantee: PostgreSQL takes every record as a row, whatever its values are.
#[tokio::test(flavor = "multi_thread")]
async fn no_value_costs_its_record() {
    let scene = Scene::begin().await;
    let forebay = scene.ready().await;
    let sender = forebay.sender().await;
    let (seed, sent) = (now(), Cell::new(0));
    let config =
        Config { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let check = |request: ExportLogsServiceRequest| {
        let records = request.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len());
        sent.set(sent.get() + records.sum::<usize>());
        Handle::current().block_on(sender.send(request)).unwrap();
        Ok(())
    };
    let result = tokio::task::block_in_place(|| TestRunner::new(config).run(&arbitrary::request(), check));
    result.unwrap_or_else(|error| panic!("{error}\nseed {seed}"));
    let scrape = forebay.settles().await;
    assert!(sent.get() > 300, "enough to find something: {}", sent.get());
    assert_eq!(scrape.value("log_buffer_flushed_total"), sent.get() as u64, "seed {seed}");
    assert_eq!(scene.count("app.\"Logs\"").await, sent.get() as i64);
    for kind in ["width", "type", "number", "nul"] {
        let replaced = scrape.sum("log_buffer_replaced_values_total", &format!("kind=\"{kind}\""));
        assert!(replaced > 0, "{kind}: seed {seed}");
    }
}

/// Scenario: each thing in which the live table can differ from what is written. Guarantee: doctor and health name it
/// with its cure before anything is written; once it is mended, forebay is ready by itself, and writes what it has held.
#[tokio::test(flavor = "multi_thread")]
async fn each_difference_is_told_with_its_cure_and_waited_for() {
    let scene = Scene::begin().await;
    let cases = [
        (
            "ALTER TABLE app.\"Logs\" RENAME TO logs",
            "ALTER TABLE app.logs RENAME TO \"Logs\"",
            &["\"app\".\"Logs\" is not there", "with the letters that PostgreSQL shows"][..],
        ),
        (
            "ALTER TABLE app.\"Logs\" RENAME host TO h",
            "ALTER TABLE app.\"Logs\" RENAME h TO host",
            &["column host is not there", "take it out of table.columns"],
        ),
        (
            "ALTER TABLE app.\"Logs\" RENAME host TO h",
            "ALTER TABLE app.\"Logs\" RENAME h TO host",
            &["column h is NOT NULL and has no default", "say in table.columns what fills it"],
        ),
        (
            "ALTER TABLE app.\"Logs\" ALTER level TYPE varchar(7)",
            "ALTER TABLE app.\"Logs\" ALTER level TYPE varchar(9)",
            &["column level is character varying(7)", "fills it as varchar(8)", "write `type: varchar(7)`"],
        ),
        (
            "ALTER TABLE app.\"Logs\" ALTER big TYPE numeric",
            "ALTER TABLE app.\"Logs\" ALTER big TYPE bigint",
            &["column big is numeric, which forebay cannot write"],
        ),
        (
            "ALTER TABLE app.\"Logs\" ALTER small SET NOT NULL",
            "ALTER TABLE app.\"Logs\" ALTER small DROP NOT NULL",
            &["column small is NOT NULL, and a record may have nothing for it", "write a `default`"],
        ),
        (
            "ALTER TABLE app.\"Logs\" RENAME length TO l; ALTER TABLE app.\"Logs\" RENAME small TO s; ALTER TABLE app.\"Logs\" RENAME l TO small",
            "ALTER TABLE app.\"Logs\" RENAME small TO length; ALTER TABLE app.\"Logs\" RENAME s TO small",
            &["column small is generated by the table"],
        ),
        (
            "ALTER TABLE app.\"Logs\" RENAME TO base; CREATE VIEW app.\"Logs\" AS TABLE app.base",
            "DROP VIEW app.\"Logs\"; ALTER TABLE app.base RENAME TO \"Logs\"",
            &["is a view", "name the table behind it"],
        ),
    ];
    for (done, undone, says) in cases {
        scene.execute(done).await;
        let problems = scene.problems().await;
        assert!(
            problems.iter().any(|told| says.iter().all(|part| told.contains(part))),
            "{done}: {problems:#?}"
        );
        let forebay = Forebay::start(scene.database.dsn(), &[QUICK, &[MAPPING]].concat()).await;
        forebay.becomes_unready("schema_mismatch").await;
        let (_, health) = forebay.health().await;
        let detail = health["detail"].as_str().unwrap();
        assert!(says.iter().all(|part| detail.contains(part)), "{done}: {detail}");
        forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
        scene.execute(undone).await;
        forebay.becomes_ready().await;
        assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10, "{done}");
        assert_eq!(scene.numbers().await, (0..10).collect::<Vec<_>>(), "{done}");
        scene.execute("TRUNCATE app.\"Logs\"").await;
        forebay.terminate().await;
    }
    assert_eq!(scene.problems().await, [""; 0]);
}

/// Scenario: a role without the privileges, or to which policies apply. Guarantee: the statement that is told mends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_role_is_told_what_it_lacks() {
    let scene = Scene::begin().await;
    let role = format!("app_{}", scene.database.name());
    scene
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {} TO {role}",
            scene.database.name()
        ))
        .await;
    let dsn = scene.database.dsn().replace("user=forebay", &format!("user={role}"));
    let problems = async || {
        let told = run(&dsn, "doctor --json", &[MAPPING]).await.json();
        let of_table = told.into_iter().filter(|f| f["check"] == "table" && f["verdict"] == "problem");
        of_table.map(|finding| finding["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = problems().await;
    assert_eq!(first.len(), 2, "the schema, and the table: {first:#?}");
    for problem in &first {
        let (_, cure) = problem.split_once("schema: ").unwrap_or(("", problem));
        scene.execute(cure).await;
    }
    assert_eq!(problems().await, [""; 0]);
    scene
        .execute(&format!(
            "REVOKE INSERT ON app.\"Logs\" FROM {role}; GRANT INSERT (id, at) ON app.\"Logs\" TO {role}"
        ))
        .await;
    let some = problems().await;
    assert!(some.len() == 1 && !some[0].contains("\"at\"") && some[0].contains("\"level\""), "{some:#?}");
    scene.execute(&some[0]).await;
    assert_eq!(problems().await, [""; 0]);
    scene.execute("ALTER TABLE app.\"Logs\" ENABLE ROW LEVEL SECURITY").await;
    let policies = problems().await;
    assert!(policies.len() == 1 && policies[0].contains("policies apply to the role"), "{policies:#?}");
    scene.execute("ALTER TABLE app.\"Logs\" DISABLE ROW LEVEL SECURITY").await;
    let forebay = Forebay::ready(&dsn, &[QUICK, &[MAPPING]].concat()).await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10);
}

/// Scenario: under load a column is dropped, another one must be filled, the type of a third one changes. Guarantee:
/// records are held, none becomes a dead letter, health names the column; once it is mended, all of them are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_holds_the_records() {
    let scene = Scene::begin().await;
    let forebay = scene.ready().await;
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..100)).await.unwrap();
    forebay.settles().await;
    for (number, done, undone, says) in [
        (1, "DROP COLUMN less", "ADD COLUMN less real", "column less is not there"),
        (
            2,
            "ADD COLUMN more text NOT NULL DEFAULT ''; ALTER TABLE app.\"Logs\" ALTER more DROP DEFAULT",
            "ALTER COLUMN more SET DEFAULT ''",
            "column more is NOT NULL and has no default",
        ),
        (3, "ALTER COLUMN number TYPE bigint", "ALTER COLUMN number TYPE integer", "write `type: bigint`"),
    ] {
        scene.execute(&format!("ALTER TABLE app.\"Logs\" {done}")).await;
        sender.send(numbered_request(number * 100..number * 100 + 100)).await.unwrap();
        forebay.becomes_unready("schema_mismatch").await;
        let (_, health) = forebay.health().await;
        assert!(health["detail"].as_str().unwrap().contains(says), "{health}");
        assert_eq!(forebay.scrape().await.value("log_buffer_size"), 100);
        scene.execute(&format!("ALTER TABLE app.\"Logs\" {undone}")).await;
        let scrape = forebay.settles().await;
        assert_eq!(scrape.value("log_buffer_flushed_total"), number * 100 + 100, "{done}");
        assert_eq!(scrape.value("log_buffer_dead_lettered_total"), 0, "{done}");
        forebay.becomes_ready().await;
    }
    assert_eq!(scene.numbers().await, (0..400).collect::<Vec<_>>());
}

/// Scenario: a CHECK constraint refuses some rows. Guarantee: they are dead letters with their service and fields, and
/// the others are stored; a retry stores them in the table that they were for, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_back_into_the_table_that_refused_them() {
    let scene = Scene::begin().await;
    scene.execute("ALTER TABLE app.\"Logs\" ADD CONSTRAINT refused CHECK (number NOT IN (3, 17, 49))").await;
    let forebay = scene.ready().await;
    forebay.sender().await.send(numbered_request(0..50)).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_dead_lettered_total"), 3);
    forebay.terminate().await;
    let listed = scene.run("dead-letters list --json").await.json();
    let numbers: Vec<_> = listed.iter().map(|letter| letter["record"]["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [49, 17, 3]);
    let letter = &listed[0];
    assert_eq!(
        (letter["service"].as_str(), letter["destination"].as_str()),
        (Some("shop"), Some(r#""app"."Logs""#))
    );
    assert_eq!(letter["record"]["level"], "TRACE", "record 49: {letter}");
    let shown = scene.run("dead-letters list").await.out;
    assert!(shown.contains("shop  for \"app\".\"Logs\"\n") && shown.contains("    number: 49\n"), "{shown}");
    // A forebay that writes elsewhere leaves them alone.
    let elsewhere = run(scene.database.dsn(), "dead-letters retry --all", &[]).await;
    assert_eq!((elsewhere.status, elsewhere.out.as_str()), (Some(1), "0 stored, 3 refused again\n"));
    let told = scene.run("dead-letters list").await.out;
    assert!(told.contains("which exporters.postgres.table does not name (refused 2 times)"), "{told}");
    let again = scene.run("dead-letters retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(1), "0 stored, 3 refused again\n"), "{again:?}");
    scene.execute("ALTER TABLE app.\"Logs\" DROP CONSTRAINT refused").await;
    let again = scene.run("dead-letters retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(0), "3 stored, 0 refused again\n"), "{again:?}");
    assert_eq!(scene.numbers().await, (0..50).collect::<Vec<_>>());
    assert_eq!((scene.count("otel.log_records").await, scene.count("otel.dead_letters").await), (0, 0));
}

/// Scenario: values of all kinds for one column, which no longer fit it. Guarantee: what is cut and what is no value of the
/// type is counted by kind, and has the default.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_counted_by_kind() {
    let scene = Scene::begin().await;
    let forebay = scene.ready().await;
    let mut sent = numbered_request(0..3);
    let records = &mut sent.resource_logs[0].scope_logs[0].log_records;
    records[0].attributes = vec![pair("number", text("many"))];
    records[1].attributes = vec![pair("number", AnyValue { value: Some(Value::IntValue(1 << 33)) })];
    records[2].attributes = vec![pair("number", text("2")), pair("peer", text("10.0.0.7"))];
    let records = std::mem::take(records);
    forebay.sender().await.send(request(records)).await.unwrap();
    let scrape = forebay.settles().await;
    for (kind, count) in [("type", 1), ("number", 1), ("width", 3)] {
        assert_eq!(
            scrape.sum("log_buffer_replaced_values_total", &format!("kind=\"{kind}\"")),
            count,
            "{kind}"
        );
    }
    let rows = "SELECT number, host(peer) FROM app.\"Logs\" ORDER BY message";
    let rows = scene.client.query(rows, &[]).await.unwrap();
    let rows: Vec<(i32, Option<String>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(-1, None), (i32::MAX, None), (2, Some("10.0.0.7".to_owned()))]);
}

/// Scenario: `forebay mapping` of a table with a column of each type. Guarantee: what it prints is a configuration, of which
/// the doctor has nothing to say, and by which records are stored.
#[tokio::test(flavor = "multi_thread")]
async fn the_mapping_to_begin_with_is_one() {
    let scene = Scene::begin().await;
    scene.execute("ALTER TABLE app.\"Logs\" ADD price numeric, ADD \"odd: $name\" text NOT NULL DEFAULT '', ADD sum smallint NOT NULL").await;
    let printed = run(scene.database.dsn(), "mapping app.Logs", &[]).await;
    assert_eq!((printed.status, printed.err.as_str()), (Some(0), ""), "{printed:?}");
    for line in [
        "      name: app.Logs\n",
        "        id: {generate: uuid, type: varchar(36)}\n",
        "        at: {field: time, type: timestamptz}\n",
        "        level: {field: severity, type: varchar(8), default: unknown}\n",
        "        host: {resource: host.name, type: text, default: unknown}\n",
        "        extra: {attributes: rest, type: json}\n",
        "        all_of_it: {attribute: all_of_it, type: jsonb, default: \"{}\"}\n",
        "        # length: the table fills it\n",
        "        # price: forebay cannot write numeric\n",
        "        sum: {attribute: sum, type: smallint, default: \"0\"}\n",
    ] {
        assert!(printed.out.contains(line), "{line} is not in:\n{}", printed.out);
    }
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("mapping.yaml");
    std::fs::write(&file, &printed.out).unwrap();
    let configs = ["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/otel-config.yaml"), "--config"];
    let mut start = command();
    start.env("DATABASE_URL", scene.database.dsn()).args(configs).arg(&file).args(arguments(QUICK));
    let forebay = Forebay::spawn(start).await;
    forebay.becomes_ready().await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10);
    let absent = run(scene.database.dsn(), "mapping app.logs", &[]).await;
    let said = "forebay: there is no table app.logs: write it as schema.table, with the letters that PostgreSQL shows\n";
    assert_eq!((absent.status, absent.err.as_str()), (Some(1), said));
}

/// Scenario: a table with triggers that name what is in `public` without saying so, one of them as late as the COMMIT, in a database
/// where somebody may create there, with a time zone and a DateStyle that triggers see; and a column of citext, where PostgreSQL has that. Guarantee: they work as for everybody else,
/// for dead letters that are sent again as well.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_find_what_they_rely_on() {
    let scene = Scene::begin().await;
    let triggers = "CREATE TABLE public.audit (what text);
        CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO audit VALUES (concat_ws(' ', TG_NAME, current_setting('TimeZone'), current_setting('DateStyle'))); RETURN NULL; END $$;
        CREATE TRIGGER at_once AFTER INSERT ON app.\"Logs\" FOR EACH ROW EXECUTE FUNCTION app.note();
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON app.\"Logs\" INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note();
        ALTER TABLE app.\"Logs\" ADD CONSTRAINT refused CHECK (number <> 3)";
    scene.execute(triggers).await;
    let zone = format!(
        "ALTER DATABASE {0} SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE {0} SET DateStyle = 'German'",
        scene.database.name()
    );
    scene.execute(&zone).await;
    if scene.client.batch_execute("CREATE EXTENSION citext").await.is_ok() {
        scene.execute("ALTER TABLE app.\"Logs\" ALTER host TYPE citext").await;
        assert_eq!(scene.problems().await, [""; 0]);
        let printed = run(scene.database.dsn(), "mapping app.Logs", &[]).await;
        assert!(printed.out.contains("        host: {resource: host.name, type: text, "), "{printed:?}");
    }
    let forebay = scene.ready().await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(
        (scrape.value("log_buffer_flushed_total"), scrape.value("log_buffer_dead_lettered_total")),
        (9, 1)
    );
    scene.execute("ALTER TABLE app.\"Logs\" DROP CONSTRAINT refused").await;
    let again = scene.run("dead-letters retry --all").await;
    assert_eq!(again.out, "1 stored, 0 refused again\n", "{again:?}");
    for name in ["at_once", "at_commit"] {
        let fired = format!("public.audit WHERE what = '{name} Asia/Tokyo German, DMY'");
        assert_eq!(scene.count(&fired).await, 10, "{name}");
    }
}

/// Scenario: the table, or a partition of it, is another engine's: by its catalogue, which stands here for that of an extension that
/// a test cannot have; by its access method, by its server. Guarantee: refused at the start with a sentence, and nothing is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_engine_is_refused() {
    let scene = Scene::begin().await;
    let plain = "CREATE TABLE app.parts (number integer) PARTITION BY RANGE (number)";
    scene.execute(plain).await;
    for (made, undone, says) in [
        (
            "SET allow_system_table_mods = on; CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod \"char\");
            INSERT INTO pg_catalog.pg_dist_partition VALUES ('app.parts', 'h')",
            "SET allow_system_table_mods = on; DROP TABLE pg_catalog.pg_dist_partition",
            "is distributed by Citus",
        ),
        (
            "CREATE SCHEMA _timescaledb_catalog; CREATE TABLE _timescaledb_catalog.hypertable (id integer, schema_name name, table_name name,
            compression_state smallint); INSERT INTO _timescaledb_catalog.hypertable VALUES (1, 'app', 'parts', 1)",
            "DROP SCHEMA _timescaledb_catalog CASCADE",
            "is a hypertable of TimescaleDB",
        ),
        (
            "CREATE ACCESS METHOD columnar TYPE TABLE HANDLER heap_tableam_handler;
            CREATE TABLE app.part PARTITION OF app.parts DEFAULT USING columnar",
            "DROP TABLE app.part",
            "is compressed",
        ),
        (
            "CREATE FOREIGN DATA WRAPPER none; CREATE SERVER elsewhere FOREIGN DATA WRAPPER none;
            CREATE FOREIGN TABLE app.part PARTITION OF app.parts DEFAULT SERVER elsewhere",
            "DROP FOREIGN TABLE app.part",
            "is a foreign table or has one as a partition",
        ),
    ] {
        scene.execute(made).await;
        let mapping = "exporters.postgres.table={name: app.parts, columns: {number: {attribute: number, type: integer}}}";
        let forebay = Forebay::start(scene.database.dsn(), &[QUICK, &[mapping]].concat()).await;
        forebay.becomes_unready("schema_mismatch").await;
        let (_, health) = forebay.health().await;
        let detail = health["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("\"app\".\"parts\" {says}")) && detail.contains("name a plain table"), "{detail}");
        let doctor = run(scene.database.dsn(), "doctor", &[mapping]).await;
        assert!(doctor.status == Some(1) && doctor.out.contains(says), "{doctor:?}");
        // A table beside it is nobody else's.
        assert_eq!(scene.problems().await, [""; 0], "{says}");
        scene.execute(undone).await;
    }
}
