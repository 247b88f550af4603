//! All that a table of somebody's own may have against a single row: keys, references, domains, triggers, at once or at the
//! COMMIT. What must hold: the row is a dead letter with PostgreSQL's code, and costs no other one.

use support::forebay::{Forebay, QUICK};
use support::postgres::{Database, database};
use support::records::numbered_request;
use tokio_postgres::Client;

const MAPPING: &str = "exporters.postgres.table={name: app.logs, columns: {at: {field: time},
    number: {attribute: number, type: integer, default: -1}, message: {field: body}}}";

/// An unlogged table with everything; records of these numbers are refused: 11 is in it, 12 overlaps, 13 and 14 have no
/// parent, at once and at the COMMIT, 15 is not in the domain, 16 to 18 meet triggers, 19 a table that is not there, 20 a
/// generated column that cannot be.
const TABLE: &str = "CREATE SCHEMA app;
    CREATE TABLE app.parents (number integer PRIMARY KEY);
    INSERT INTO app.parents SELECT generate_series(0, 99); DELETE FROM app.parents WHERE number = 13;
    CREATE TABLE app.late_parents (number integer PRIMARY KEY);
    INSERT INTO app.late_parents SELECT generate_series(0, 99); DELETE FROM app.late_parents WHERE number = 14;
    CREATE DOMAIN app.whole AS integer CHECK (VALUE <> 15);
    CREATE UNLOGGED TABLE app.logs (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, message text,
        number app.whole UNIQUE,
        inverse integer GENERATED ALWAYS AS (1 / (number - 20)) STORED,
        EXCLUDE USING gist (int4range(CASE WHEN number IN (12, 30) THEN 1 ELSE number + 100 END,
                                      CASE WHEN number IN (12, 30) THEN 9 ELSE number + 101 END) WITH &&));
    INSERT INTO app.logs (at, number) VALUES (now(), 11), (now(), 30);
    CREATE FUNCTION app.act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.number = TG_ARGV[0]::integer THEN RAISE EXCEPTION 'no' USING ERRCODE = TG_ARGV[1]; END IF;
        IF NEW.number = 19 THEN INSERT INTO app.nowhere VALUES (19); END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER before BEFORE INSERT ON app.logs FOR EACH ROW EXECUTE FUNCTION app.act(16, '21000');
    CREATE TRIGGER after AFTER INSERT ON app.logs FOR EACH ROW EXECUTE FUNCTION app.act(17, '44000');
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.logs DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION app.act(18, 'HV000')";

/// Only tables that are there for good are referred to by others, so that this is of an own table.
const REFERENCES: &str = "ALTER TABLE app.logs SET LOGGED;
    ALTER TABLE app.logs ADD FOREIGN KEY (number) REFERENCES app.parents,
        ADD FOREIGN KEY (number) REFERENCES app.late_parents DEFERRABLE INITIALLY DEFERRED";

async fn scene(table: &[&str], mapping: &str) -> (Database, Client, Forebay) {
    let database = database().await;
    let client = database.connect().await;
    client.batch_execute(&table.join(";")).await.unwrap();
    let forebay = Forebay::ready(database.dsn(), &[QUICK, &[mapping]].concat()).await;
    (database, client, forebay)
}

async fn count(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM app.logs", &[]).await.unwrap().get(0)
}

/// Makes a trigger that raises whatever the row is.
fn raises(trigger: &str) -> String {
    format!(
        "CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'none'; END $$;
         CREATE {trigger} EXECUTE FUNCTION app.refuse()"
    )
}

/// The dead letters' codes, in the order of the records' numbers.
async fn codes(client: &Client) -> Vec<String> {
    let letters = "SELECT sqlstate FROM otel.dead_letters
                   ORDER BY substring(encode(row, 'escape') FROM 'record (\\d+) of a run')::int";
    client.query(letters, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Scenario: one batch has a row for each thing that a table may have against one, the first batch there is. Promise: each is
/// a dead letter with its own code, and all others are stored, once.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_one_row_is_refused_for_costs_that_row_alone() {
    let (_database, client, forebay) = scene(&[TABLE, REFERENCES], MAPPING).await;
    forebay.sender().await.send(numbered_request(0..30)).await.unwrap();
    let page = forebay.settles().await;
    let expected = ["23505", "23P01", "23503", "23503", "23514", "21000", "44000", "HV000", "42P01", "22012"];
    assert_eq!(codes(&client).await, expected, "{:#?}", forebay.said());
    assert_eq!(page.value("log_buffer_flushed_total"), 20);
    assert_eq!(count(&client).await, 2 + 20);
}

/// A table with an id that forebay makes up for its key.
const KEYED: &str =
    "CREATE SCHEMA app; CREATE TABLE app.logs (id varchar(36) PRIMARY KEY, at timestamptz NOT NULL,
    number integer NOT NULL)";
const KEYED_MAPPING: &str =
    "exporters.postgres.table={name: app.logs, columns: {id: {generate: uuid, type: varchar(36)},
    at: {field: time}, number: {attribute: number, type: integer, default: -1}}}";

/// Scenario: a trigger FOR EACH STATEMENT raises, before and after, one FOR EACH ROW after, and one at the COMMIT, whatever
/// the rows are; each is dropped again. Promise: the table is at fault: everything is held and stored then, and nothing is a dead
/// letter, although a row that it took before is in the way of its copy.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_raised_for_all_rows_is_of_the_table_behind_its_key_as_well() {
    let (_database, client, forebay) = scene(&[KEYED], KEYED_MAPPING).await;
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    let triggers = [
        "TRIGGER refuse BEFORE INSERT ON app.logs FOR EACH STATEMENT",
        "TRIGGER refuse AFTER INSERT ON app.logs FOR EACH STATEMENT",
        "TRIGGER refuse AFTER INSERT ON app.logs FOR EACH ROW",
        "CONSTRAINT TRIGGER refuse AFTER INSERT ON app.logs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
    ];
    for (round, trigger) in triggers.into_iter().enumerate() {
        client.batch_execute(&raises(trigger)).await.unwrap();
        let first = 10 + 10 * round as u64;
        sender.send(numbered_request(first..first + 10)).await.unwrap();
        forebay.becomes_unready("database_refuses").await;
        client.batch_execute("DROP FUNCTION app.refuse CASCADE").await.unwrap();
        let page = forebay.settles().await;
        assert_eq!(page.value("log_buffer_flushed_total"), first + 10, "{trigger}");
        assert_eq!(page.value("log_buffer_dead_lettered_total"), 0, "{trigger}");
    }
    assert_eq!(count(&client).await, 50);
}

/// Scenario: the same where every row that forebay knows is in the way of its copy, by a key out of the record. Promise: the
/// table is at fault after twenty rows for each lane, and the others are stored when it is mended.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_which_nothing_more_is_known_is_at_fault_after_twenty_rows() {
    let (_database, client, forebay) = scene(&[TABLE], MAPPING).await;
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    client.batch_execute(&raises("TRIGGER refuse AFTER INSERT ON app.logs FOR EACH ROW")).await.unwrap();
    sender.send(numbered_request(100..200)).await.unwrap();
    forebay.becomes_unready("database_refuses").await;
    client.batch_execute("DROP FUNCTION app.refuse CASCADE").await.unwrap();
    let page = forebay.settles().await;
    let dead = page.value("log_buffer_dead_lettered_total");
    assert!(dead <= 40, "{dead}");
    assert_eq!(page.value("log_buffer_flushed_total"), 110 - dead);
}

/// Scenario: the table takes only what is new, as a trigger has it that asks a table; later, some rows are refused. Promise: it is
/// no fault of the table that it refuses by now what it took before: the other rows are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_refuses_what_is_old_takes_what_is_new() {
    let (_database, client, forebay) = scene(&[TABLE], MAPPING).await;
    let too_old = "CREATE TABLE app.oldest AS SELECT timestamptz '2000-01-01' AS at;
        CREATE FUNCTION app.is_new() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.at < (SELECT at FROM app.oldest) THEN RAISE EXCEPTION 'too old'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER is_new BEFORE INSERT ON app.logs FOR EACH ROW EXECUTE FUNCTION app.is_new()";
    client.batch_execute(too_old).await.unwrap();
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    client.batch_execute("UPDATE app.oldest SET at = clock_timestamp()").await.unwrap();
    sender.send(numbered_request(11..21)).await.unwrap();
    forebay.settles().await;
    assert_eq!(codes(&client).await.len(), 8, "{:#?}", forebay.said());
    assert_eq!(count(&client).await, 2 + 10 + 2);
}
