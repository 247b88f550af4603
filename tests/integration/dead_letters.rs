//! `forebay dead-letters`: refused rows are shown, sent again and deleted, and none is lost or stored twice on the
//! way.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use ::forebay::otlp::messages::ExportLogsServiceRequest;
use ::forebay::table::columns::COLUMNS;
use ::forebay::table::decode::{Record, Value, hex};
use ::forebay::table::{Space, Transcoder};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use prost::Message;
use support::forebay::{Forebay, QUICK, Ran, command, ran, run};
use support::postgres::{Database, database};
use support::proxy::{Action, End, Proxy};
use support::records::{now, numbered_request};
use support::view::{Row, canonical, compare, expected, rows, sent};
use support::{arbitrary, eventually, stored};
use tokio::runtime::Handle;
use tokio_postgres::Client;

/// A store in which `refused` of the records 0 to 49 are dead letters.
struct Scene {
    database: Database,
    client: Client,
    request: ExportLogsServiceRequest,
    since: u64,
}

impl Scene {
    async fn begin(refused: &str) -> Self {
        Self::begin_with(refused, "SELECT 1").await
    }

    /// The same, with a store that is `changed` before the records come.
    async fn begin_with(refused: &str, changed: &str) -> Self {
        let database = database().await;
        let forebay = Forebay::ready(database.dsn(), QUICK).await;
        let (client, since) = (database.connect().await, now());
        let scene = Self { database, client, request: numbered_request(0..50), since };
        scene.refuse(refused).await;
        scene.client.batch_execute(changed).await.unwrap();
        forebay.sender().await.send(scene.request.clone()).await.unwrap();
        forebay.settles().await;
        forebay.terminate().await;
        scene
    }

    /// Has the table refuse the records with these numbers, and no others.
    async fn refuse(&self, numbers: &str) {
        let check = format!(
            "ALTER TABLE otel.log_records DROP CONSTRAINT IF EXISTS refused;
             ALTER TABLE otel.log_records ADD CONSTRAINT refused
             CHECK ((attributes->'number')::int <> ALL (ARRAY[{numbers}]::int[])) NOT VALID"
        );
        self.client.batch_execute(&check).await.unwrap();
    }

    /// The ids of the letters, the oldest first. A try of a batch that failed has left gaps between them.
    async fn ids(&self) -> Vec<i64> {
        let ids = self.client.query("SELECT id FROM otel.dead_letters ORDER BY id", &[]).await.unwrap();
        ids.iter().map(|row| row.get(0)).collect()
    }

    async fn count(&self, table: &str) -> i64 {
        self.client.query_one(&format!("SELECT count(*) FROM otel.{table}"), &[]).await.unwrap().get(0)
    }

    async fn dead_letters(&self, arguments: &str) -> Ran {
        run(self.database.dsn(), &format!("dead-letters {arguments}"), &[]).await
    }

    /// The numbers of the records that are dead letters, and how often each was refused.
    async fn letters(&self) -> Vec<(i64, i64)> {
        let listed = self.dead_letters("list --json --limit 0").await;
        assert_eq!(listed.status, Some(0), "{listed:?}");
        let number = |letter: &serde_json::Value| letter["record"]["attributes"]["number"].as_i64().unwrap();
        let attempts = |letter: &serde_json::Value| letter["attempts"].as_i64().unwrap();
        listed.json().iter().map(|letter| (number(letter), attempts(letter))).collect()
    }

    /// Every record is stored, once, with every field as it was sent.
    async fn all_is_stored_as_it_was_sent(&self) {
        stored(&self.database).await.assert_holds_each_once(&[0..50]);
        let rows = rows(&self.client, "ORDER BY (attributes->>'number')::int").await;
        compare(&self.client, sent(&self.request), &rows, self.since..=now()).await.unwrap();
    }
}

/// Scenario: rows that a CHECK constraint refuses; the constraint is mended in part, then wholly. Guarantee: what is
/// refused again stays, with the count; what is stored has left, and is what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_mended_is_stored_once_and_the_rest_stays() {
    let scene = Scene::begin("0, 17, 49").await;
    assert_eq!(scene.letters().await, [(49, 1), (17, 1), (0, 1)], "the newest first");
    let again = scene.dead_letters("retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(1), "0 stored, 3 refused again\n"), "{again:?}");
    assert_eq!(scene.letters().await, [(49, 2), (17, 2), (0, 2)]);
    scene.refuse("17").await;
    let again = scene.dead_letters("retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(1), "2 stored, 1 refused again\n"), "{again:?}");
    assert_eq!(scene.letters().await, [(17, 3)]);
    scene.refuse("").await;
    let again = scene.dead_letters("retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(0), "1 stored, 0 refused again\n"), "{again:?}");
    assert_eq!(scene.letters().await, []);
    scene.all_is_stored_as_it_was_sent().await;
}

/// Scenario: one letter is answered with a code that says nothing of whose fault it is, another one is not stored, without a
/// word. Guarantee: these stay, with the new reason, and the others are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_with_any_code_costs_the_others_nothing() {
    let scene = Scene::begin("0, 17, 34, 49").await;
    scene.refuse("").await;
    let odd = "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            CASE (NEW.attributes->>'number')::int
                WHEN 17 THEN RAISE EXCEPTION 'no' USING ERRCODE = 'XX000';
                WHEN 34 THEN RETURN NULL;
                ELSE RETURN NEW;
            END CASE;
        END $$;
        CREATE TRIGGER odd BEFORE INSERT ON otel.log_records FOR EACH ROW EXECUTE FUNCTION odd()";
    scene.client.batch_execute(odd).await.unwrap();
    let again = scene.dead_letters("retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(1), "2 stored, 2 refused again\n"), "{again:?}");
    let left = "SELECT sqlstate, attempts FROM otel.dead_letters ORDER BY id";
    let left = scene.client.query(left, &[]).await.unwrap();
    let left: Vec<(String, i32)> = left.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(left, [("XX000".to_owned(), 2), ("not_stored".to_owned(), 2)]);
}

/// The numbers of all records.
fn all() -> String {
    (0..50).map(|number: i32| number.to_string()).collect::<Vec<_>>().join(", ")
}

/// Scenario: a pod whose every record is refused, and that is gone when the constraint is mended. Guarantee: its records
/// come with their service, resource and scope, which nothing else has stored; nothing is left of the letters.
#[tokio::test(flavor = "multi_thread")]
async fn letters_bring_their_resource_and_scope() {
    let scene = Scene::begin(&all()).await;
    assert_eq!([scene.count("resources").await, scene.count("scopes").await], [0, 0]);
    assert_eq!(scene.count("dead_letter_origins").await, 2, "each once");
    let again = scene.dead_letters("retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(1), "0 stored, 50 refused again\n"), "{again:?}");
    assert_eq!([scene.count("resources").await, scene.count("scopes").await], [0, 0], "in one transaction");
    scene.refuse("").await;
    let again = scene.dead_letters("retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(0), "50 stored, 0 refused again\n"), "{again:?}");
    scene.all_is_stored_as_it_was_sent().await;
    let named = "SELECT DISTINCT service_name, resource->>'host.name', scope_name FROM otel.logs";
    let named = scene.client.query_one(named, &[]).await.unwrap();
    assert_eq!([0, 1, 2].map(|index| named.get::<_, &str>(index)), ["shop", "h1", "tests"]);
    assert_eq!(scene.count("dead_letter_origins").await, 0);
}

/// Scenario: it is the resource, or the scope, that PostgreSQL refuses. Guarantee: the letters keep it all the same, are
/// refused again as long as it is, and are stored with it once it is not.
#[tokio::test(flavor = "multi_thread")]
async fn letters_keep_a_resource_or_scope_that_is_refused() {
    for (table, check) in [("resources", "service_name <> 'shop'"), ("scopes", "name <> 'tests'")] {
        let check = format!("ALTER TABLE otel.{table} ADD CONSTRAINT refused CHECK ({check})");
        let scene = Scene::begin_with("", &check).await;
        assert_eq!(scene.letters().await.len(), 50, "{table}");
        let [last, ..] = scene.ids().await[..] else { panic!("letters of {table}") };
        let again = scene.dead_letters(&format!("retry --id {last}")).await;
        assert_eq!((again.status, again.out.as_str()), (Some(1), "0 stored, 1 refused again\n"), "{again:?}");
        let mend = format!("ALTER TABLE otel.{table} DROP CONSTRAINT refused");
        scene.client.batch_execute(&mend).await.unwrap();
        let again = scene.dead_letters("retry --all").await;
        assert_eq!(
            (again.status, again.out.as_str()),
            (Some(0), "50 stored, 0 refused again\n"),
            "{again:?}"
        );
        scene.all_is_stored_as_it_was_sent().await;
    }
}

/// Scenario: letters that an older forebay wrote, which do not keep their resource and scope; once these are stored for
/// other records, and once they are not. Guarantee: what a letter lacks is shown and said when it is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn old_letters_say_what_they_lack() {
    let forget = "UPDATE otel.dead_letters SET resource_id = NULL, scope_id = NULL; DELETE FROM otel.dead_letter_origins";
    for (refused, stored, lacks) in [
        ("7", "1 stored, 0 refused again", None),
        (all().as_str(), "50 stored, 0 refused again; 50 of those", Some("resource")),
    ] {
        let scene = Scene::begin(refused).await;
        scene.client.batch_execute(forget).await.unwrap();
        let listed = scene.dead_letters("list --json --limit 1").await.json();
        assert_eq!(listed[0]["lacks"][0].as_str(), lacks, "{listed:?}");
        assert_eq!(listed[0]["lacks"][1].as_str(), lacks.map(|_| "scope"), "{listed:?}");
        let listed = scene.dead_letters("list").await.out;
        assert_eq!(listed.contains("; its resource and scope are not stored"), lacks.is_some(), "{listed}");
        scene.refuse("").await;
        let again = scene.dead_letters("retry --all").await;
        assert!(again.status == Some(0) && again.out.starts_with(stored), "{again:?}");
    }
}

/// Scenario: letters that share a resource are deleted one by one. Guarantee: it is kept for as long as one names it.
#[tokio::test(flavor = "multi_thread")]
async fn what_letters_name_is_kept_as_long_as_they_are() {
    let scene = Scene::begin("3, 4").await;
    for (id, left) in scene.ids().await.into_iter().zip([2, 0]) {
        let purged = scene.dead_letters(&format!("purge --yes --id {id}")).await;
        assert_eq!((purged.status, purged.out.as_str()), (Some(0), "1 deleted\n"));
        assert_eq!(scene.count("dead_letter_origins").await, left);
    }
}

/// Scenario: letters of another code, service and time beside each other. Guarantee: each filter finds its own, in
/// every command; nothing is deleted without `--yes`.
#[tokio::test(flavor = "multi_thread")]
async fn each_filter_means_the_same_in_every_command() {
    let scene = Scene::begin("1, 2, 3, 4").await;
    let [first, second, third, fourth] = scene.ids().await[..] else { panic!("four letters") };
    let change = format!(
        "UPDATE otel.dead_letters SET sqlstate = '22021' WHERE id = {first};
        UPDATE otel.dead_letters SET service = NULL WHERE id = {second};
        UPDATE otel.dead_letters SET at = now() - interval '2 days' WHERE id = {third}"
    );
    scene.client.batch_execute(&change).await.unwrap();
    let (one, two) = (format!(" --id {second}"), format!(" --id {second} --id {third}"));
    for (filter, count) in [
        ("", 4),
        (&one, 1),
        (&two, 2),
        (" --sqlstate 23514", 3),
        (" --service shop", 3),
        (" --service nobody", 0),
        (" --since 1h", 3),
        (" --since 2000-01-01", 4),
        (" --since 2100-01-01T17:05", 0),
        (" --since 2100-01-01T00:00:00Z", 0),
        (" --sqlstate 23514 --service shop --since 1h", 1),
    ] {
        let listed = scene.dead_letters(&format!("list --json{filter}")).await;
        assert_eq!(listed.json().len(), count, "{filter}: {listed:?}");
        let purged = scene.dead_letters(&format!("purge{filter}")).await;
        let told = format!("{count} would be deleted; nothing is without --yes\n");
        assert_eq!((purged.status, purged.out), (Some(2), told), "{filter}");
    }
    let listed = scene.dead_letters("list --limit 3").await;
    assert_eq!(listed.out.matches("  shop  ").count(), 2, "{listed:?}");
    assert!(listed.out.contains("(no service)") && listed.out.contains("record 4 of a run"), "{listed:?}");
    assert_eq!(listed.err, "these are the newest 3 of 4; --limit 0 shows all\n");
    let purged = scene.dead_letters("purge --since 1h --yes").await;
    assert_eq!((purged.status, purged.out.as_str()), (Some(0), "3 deleted\n"));
    scene.refuse("").await;
    let again = scene.dead_letters(&format!("retry --id {third} --id {fourth}")).await;
    assert_eq!((again.status, again.out.as_str()), (Some(0), "1 stored, 0 refused again\n"), "{again:?}");
    assert_eq!(scene.letters().await, []);
    stored(&scene.database).await.assert_holds_each_once(&[0..1, 3..4, 5..50]);
}

/// Scenario: more letters than one transaction takes, of which some are refused again and some are no rows at all.
/// Guarantee: each of the others is stored, and each of these stays.
#[tokio::test(flavor = "multi_thread")]
async fn letters_that_stay_cost_the_others_nothing() {
    let scene = Scene::begin("0").await;
    let more = "INSERT INTO otel.dead_letters (sqlstate, message, columns, row)
        SELECT '23514', 'copied', columns, row FROM otel.dead_letters, generate_series(1, 1199)";
    scene.client.batch_execute(more).await.unwrap();
    let (cut, longer, unknown) = (scene.ids().await[600], scene.ids().await[601], scene.ids().await[602]);
    let spoil = format!(
        "UPDATE otel.dead_letters SET row = '\\x0001' WHERE id = {cut};
        UPDATE otel.dead_letters SET row = row || '\\x00' WHERE id = {longer};
        UPDATE otel.dead_letters SET columns[13] = 'nothing' WHERE id = {unknown}"
    );
    scene.client.batch_execute(&spoil).await.unwrap();
    scene.refuse("").await;
    let again = scene.dead_letters("retry --all").await;
    assert_eq!((again.status, again.out.as_str()), (Some(1), "1197 stored, 3 refused again\n"), "{again:?}");
    let listed = scene.dead_letters("list --json").await.json();
    let found: Vec<_> =
        listed.iter().map(|letter| (letter["id"].as_i64().unwrap(), &letter["sqlstate"])).collect();
    assert_eq!(found, [(unknown, &"42703".into()), (longer, &"22P04".into()), (cut, &"22P04".into())]);
    assert_eq!(listed[2]["row_hex"], "0001");
    assert_eq!(stored(&scene.database).await.rows(), 49 + 1197);
}

/// Scenario: the command is killed while the server is at work on its COPY. Guarantee: the letters are where they
/// were, and the next retry stores them once.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_loses_nothing() {
    let scene = Scene::begin("3, 4, 5").await;
    scene.refuse("").await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';
        CREATE TRIGGER slow BEFORE INSERT ON otel.log_records FOR EACH ROW EXECUTE FUNCTION slow()";
    scene.client.batch_execute(slow).await.unwrap();
    let mut retry = command();
    retry.env("DATABASE_URL", scene.database.dsn()).args(["dead-letters", "retry", "--all"]);
    let mut retry = retry.args(["--set", "exporters.postgres.timeout=50s"]).spawn().unwrap();
    let sleeping =
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    let pid: i32 = eventually("the COPY is under way", || async {
        scene.client.query_opt(sleeping, &[]).await.unwrap().map(|row| row.get(0))
    })
    .await;
    retry.kill().await.unwrap();
    scene.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    eventually("the session has ended", || async {
        scene.client.query_opt(sleeping, &[]).await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(scene.letters().await, [(5, 1), (4, 1), (3, 1)]);
    assert_eq!(stored(&scene.database).await.rows(), 47);
    scene.client.batch_execute("DROP TRIGGER slow ON otel.log_records").await.unwrap();
    assert_eq!(scene.dead_letters("retry --all").await.status, Some(0));
    scene.all_is_stored_as_it_was_sent().await;
}

/// Scenario: the connection is cut before each message that a retry sends or is sent. Guarantee: the letters are
/// stored, or still there, and never both; the next retry stores those that are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_anywhere_doubles_nothing() {
    let scene = Scene::begin("3, 4, 5").await;
    scene.refuse("").await;
    scene.client.batch_execute("CREATE TABLE kept AS TABLE otel.dead_letters").await.unwrap();
    let back = "TRUNCATE otel.dead_letters;
        INSERT INTO otel.dead_letters OVERRIDING SYSTEM VALUE TABLE kept;
        DELETE FROM otel.log_records WHERE attributes->>'number' IN ('3', '4', '5')";
    let mut committed_unheard = 0;
    for place in 0_u64.. {
        scene.client.batch_execute(back).await.unwrap();
        let seen = AtomicU64::new(0);
        let proxy = Proxy::start(scene.database.address(), move |_| {
            let here = seen.fetch_add(1, Ordering::SeqCst) == place;
            if here { Action::CutBefore(End::Fin) } else { Action::Forward }
        })
        .await;
        let dsn = format!("{} sslmode=disable", scene.database.dsn_by_way_of(proxy.address()));
        let again = run(&dsn, "dead-letters retry --all", &[]).await;
        let letters = scene.letters().await.len() as u64;
        assert_eq!(stored(&scene.database).await.rows() + letters, 50, "cut {place}: {again:?}");
        // A connection may be found cut and be replaced in time, so that the cut is no failure.
        assert!(letters == 3 || stored(&scene.database).await.rows() == 50, "all or none of a transaction");
        committed_unheard += u32::from(letters == 0 && again.status == Some(1));
        let again = scene.dead_letters("retry --all").await;
        assert_eq!((again.status, again.out), (Some(0), format!("{letters} stored, 0 refused again\n")));
        scene.all_is_stored_as_it_was_sent().await;
        if proxy.cuts() == 0 {
            break;
        }
    }
    assert!(committed_unheard > 0, "the cuts have met a COMMIT");
}

/// Scenario: two retries at once, again and again. Guarantee: each letter is stored by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_store_each_letter_once() {
    let scene = Scene::begin("3, 4, 5").await;
    scene.refuse("").await;
    for _ in 0..5 {
        let _ = tokio::join!(scene.dead_letters("retry --all"), scene.dead_letters("retry --id 4"));
    }
    assert_eq!(scene.letters().await, []);
    scene.all_is_stored_as_it_was_sent().await;
}

/// Scenario: no table there, a reader that wants only one line. Guarantee: the one is said with its cure, the other is
/// no failure.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_said() {
    let empty = database().await;
    let listed = run(empty.dsn(), "dead-letters list", &[]).await;
    assert_eq!(listed.status, Some(1));
    assert!(listed.err.contains("42P01") && listed.err.contains("forebay doctor"), "{listed:?}");
    let refused = run("host=/nowhere", "dead-letters purge --yes", &[]).await;
    assert_eq!(refused.status, Some(1), "{refused:?}");
    let scene = Scene::begin("1").await;
    let more = "INSERT INTO otel.dead_letters (sqlstate, message, columns, row)
        SELECT sqlstate, message, columns, row FROM otel.dead_letters, generate_series(1, 2000)";
    scene.client.batch_execute(more).await.unwrap();
    let line = format!("{} dead-letters list --json --limit 0 | head -n 1", env!("CARGO_BIN_EXE_forebay"));
    let mut shell = tokio::process::Command::new("bash");
    let shell =
        shell.args(["-c", &format!("set -o pipefail; {line}")]).env("DATABASE_URL", scene.database.dsn());
    let shown = ran(shell).await;
    assert_eq!((shown.status, shown.json().len(), shown.err.as_str()), (Some(0), 1, ""), "{shown:?}");
}

/// A decoded row, with the columns that the view has of it.
fn read_again(row: &[u8], names: &[String], mut rest: Row) -> Row {
    let record = Record::read(row, names).expect("a row");
    let text = |value: Value<'_>| match value {
        Value::Null => None,
        Value::Time(time) => Some(time.as_microsecond().to_string()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.to_owned()),
        Value::Json(json) => Some(json.get().to_owned()),
        Value::Bytes(bytes) => Some(hex(bytes)),
        Value::Uuid(id) => Some(id.to_string()),
        other => panic!("of no column: {other:?}"),
    };
    for name in ["time", "time_unix_nano", "observed_time_unix_nano", "severity_number", "severity_text"] {
        rest.insert(name, text(record.get(name)));
    }
    for name in ["event_name", "trace_id", "span_id", "body", "body_json", "attributes"] {
        rest.insert(name, text(record.get(name)));
    }
    for name in ["trace_flags", "dropped_attributes_count"] {
        rest.insert(name, text(record.get(name)).or(Some("0".to_owned())));
    }
    rest
}

/// Scenario: any request that OTLP allows. Guarantee: of each row that is written, every value is read again.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_that_is_written_can_be_read() {
    const ARRIVAL: u64 = 1_700_000_000_123_456_789;
    let client = database().await.connect().await;
    let names: Vec<_> = COLUMNS.iter().map(|column| column.name.to_owned()).collect();
    let seed = now();
    let config =
        Config { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let compared = Cell::new(0);
    let check = |request: ExportLogsServiceRequest| {
        let wire = request.encode_to_vec();
        let done =
            Transcoder::default().transcode(&wire, usize::MAX, ARRIVAL, &mut Space::unlimited()).unwrap();
        let sent: Vec<_> = sent(&request).collect();
        assert_eq!((done.rows.len(), done.malformed.total()), (sent.len(), 0));
        let expected: Vec<_> = sent.iter().map(|sent| expected(*sent, ARRIVAL)).collect();
        let read = expected.iter().enumerate().map(|(index, expected)| {
            read_again(&done.rows.bytes()[done.rows.range(index, index + 1)], &names, expected.clone())
        });
        let (read, canonical) = (read.collect(), |rows| Handle::current().block_on(canonical(&client, rows)));
        let (read, expected) = (canonical(read), canonical(expected));
        compared.set(compared.get() + read.len());
        if read == expected {
            Ok(())
        } else {
            Err(TestCaseError::fail(format!("{read:#?}\nis not\n{expected:#?}")))
        }
    };
    let result = tokio::task::block_in_place(|| TestRunner::new(config).run(&arbitrary::request(), check));
    result.unwrap_or_else(|error| panic!("{error}\nseed {seed}"));
    assert!(compared.get() > 300, "enough to find something: {}", compared.get());
}

/// Scenario: names in the database that a terminal would obey, which come back in PostgreSQL's own messages, and a store that is asked
/// for by such a name. Guarantee: no command prints one of them, on whatever way it comes, and JSON means the same.
#[tokio::test(flavor = "multi_thread")]
async fn no_message_of_the_server_gets_at_the_terminal() {
    const EVIL: &str = "\u{1b}]52;c;aGk=\u{7}\u{9b}2J\u{202e}";
    let scene = Scene::begin("").await;
    let change = format!(
        "ALTER TABLE otel.log_records ADD CONSTRAINT \"{EVIL}\" CHECK ((attributes->'number')::int <> 7) NOT VALID;
        CREATE TABLE otel.\"{EVIL}\" PARTITION OF otel.log_records FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');
        CREATE TYPE otel.\"type {EVIL}\" AS ENUM (); CREATE TABLE otel.odd (\"{EVIL}\" otel.\"type {EVIL}\", b text)"
    );
    scene.client.batch_execute(&change).await.unwrap();
    let forebay = Forebay::ready(scene.database.dsn(), QUICK).await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    assert_eq!(forebay.settles().await.value("log_buffer_dead_lettered_total"), 1);
    forebay.terminate().await;
    let odd = format!(
        "TRUNCATE otel.losses; ALTER TABLE otel.losses ADD COLUMN \"{EVIL}\" integer NOT NULL; ALTER VIEW otel.logs RENAME TO real;
        CREATE FUNCTION otel.refuse() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE '%', '{EVIL}'; END $$;
        CREATE VIEW otel.logs AS SELECT * FROM otel.real WHERE otel.refuse() IS NULL"
    );
    scene.client.batch_execute(&odd).await.unwrap();
    for arguments in [
        "dead-letters list",
        "dead-letters list --json",
        "partitions",
        "partitions --json",
        "mapping otel.odd",
        "doctor",
        "doctor --json",
        "query",
        "tail",
    ] {
        let ran = run(scene.database.dsn(), arguments, &[]).await;
        let all = format!("{}{}", ran.out, ran.err);
        let obeyed = |c: &char| *c != '\n' && ::forebay::values::plain::is_obeyed(*c);
        assert_eq!(all.chars().find(obeyed), None, "{arguments}: {ran:?}");
        let said = ["\\u{1b}]52", "\\u001b]52"].iter().any(|written| all.contains(written));
        assert!(said, "{arguments} says it, written out: {ran:?}");
        if arguments.ends_with("--json") {
            assert!(ran.json().iter().any(|line| line.to_string().contains("2J")), "{ran:?}");
        }
    }
}

/// Scenario: the table of what dead letters name, or that of the letters, refuses all, by a check or at the COMMIT. Guarantee:
/// health says so, everything is held, no row becomes a dead letter for it; once it is mended, the one row at fault is.
#[tokio::test(flavor = "multi_thread")]
async fn letters_that_cannot_be_kept_make_no_others() {
    let refuse = "CREATE FUNCTION otel.no() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'XX000'; END $$; CREATE CONSTRAINT TRIGGER no AFTER INSERT";
    for table in ["dead_letter_origins", "dead_letters"] {
        for (broken, mended) in [
            (format!("ALTER TABLE otel.{table} ADD CONSTRAINT no CHECK (false)"), "DROP CONSTRAINT no"),
            (
                format!(
                    "{refuse} ON otel.{table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION otel.no()"
                ),
                "DISABLE TRIGGER no",
            ),
        ] {
            let database = database().await;
            let forebay = Forebay::ready(database.dsn(), QUICK).await;
            let scene = Scene {
                client: database.connect().await,
                database,
                request: numbered_request(0..2),
                since: now(),
            };
            forebay.sender().await.send(numbered_request(2..50)).await.unwrap();
            forebay.settles().await;
            scene.refuse("0").await;
            scene.client.batch_execute(&broken).await.unwrap();
            forebay.sender().await.send(scene.request.clone()).await.unwrap();
            forebay.becomes_unready("database_refuses").await;
            let failures = async || forebay.scrape().await.value("log_buffer_flush_errors_total");
            let before = failures().await;
            eventually("it is tried again", || async { (failures().await > before + 10).then_some(()) })
                .await;
            let page = forebay.scrape().await;
            let [size, dead] =
                ["log_buffer_size", "log_buffer_dead_lettered_total"].map(|name| page.value(name));
            assert_eq!((size, dead), (2, 0), "{broken}");
            scene.client.batch_execute(&format!("ALTER TABLE otel.{table} {mended}")).await.unwrap();
            forebay.settles().await;
            assert_eq!(scene.letters().await, [(0, 1)], "{broken}");
            stored(&scene.database).await.assert_holds_each_once(&[1..50]);
        }
    }
}

/// Scenario: letters are sent again to a table that cannot take any now, as where somebody has it locked. Guarantee: the command
/// stops and says why; no letter is written anew for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_nothing_stops_the_command() {
    let scene = Scene::begin("0, 17").await;
    scene.refuse("").await;
    scene.client.batch_execute("DROP TABLE otel.log_records_default").await.unwrap();
    let days = "SELECT string_agg('DROP TABLE ' || inhrelid::regclass::text, '; ') FROM pg_inherits
        WHERE inhparent = 'otel.log_records'::regclass";
    let days: String = scene.client.query_one(days, &[]).await.unwrap().get(0);
    scene.client.batch_execute(&days).await.unwrap();
    let again = scene.dead_letters("retry --all").await;
    assert_eq!(again.status, Some(1), "{again:?}");
    assert!(again.err.contains("23514") && again.out.is_empty(), "{again:?}");
    assert_eq!(scene.letters().await, [(17, 1), (0, 1)]);
}
