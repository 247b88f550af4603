//! Triggers that keep rows out of the table without an error, and what else stands between a COPY and its table. What must
//! hold: what PostgreSQL has answered for is settled and counted as what it is, at once and without a restart; where nothing
//! explains that a row is missing, it is no row that was stored.

use support::eventually;
use support::forebay::{Forebay, QUICK, Ran, run};
use support::postgres::{Database, database};
use support::records::numbered_request;
use tokio_postgres::Client;

const TABLE: &str = "CREATE SCHEMA app; CREATE TABLE app.logs (at timestamptz NOT NULL, number integer NOT NULL, message text)";
const MAPPING: &str = "exporters.postgres.table={name: app.logs, columns: {at: {field: time},
    number: {attribute: number, type: integer, default: -1}, message: {field: body}}}";

/// Partitioning by inheritance, as in PostgreSQL's manual, 5.11.3: a trigger puts each row into the child of its number.
const INHERITANCE: &str = "
    CREATE TABLE app.logs_0 (CHECK (number % 3 = 0)) INHERITS (app.logs);
    CREATE TABLE app.logs_1 (CHECK (number % 3 = 1)) INHERITS (app.logs);
    CREATE TABLE app.logs_2 (CHECK (number % 3 = 2)) INHERITS (app.logs);
    CREATE FUNCTION app.route() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE format('INSERT INTO app.logs_%s VALUES ($1.*)', NEW.number % 3 + NEW.number / 1000) USING NEW;
        RETURN NULL;
    END $$;
    CREATE TRIGGER route BEFORE INSERT ON app.logs FOR EACH ROW EXECUTE FUNCTION app.route()";

/// Leaves out the records of odd numbers.
const SAMPLING: &str = "
    CREATE FUNCTION sample() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (NEW.attributes->>'number')::int % 2 = 1 THEN RETURN NULL; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER sample BEFORE INSERT ON otel.log_records FOR EACH ROW EXECUTE FUNCTION sample()";

async fn existing() -> (Database, Client) {
    let database = database().await;
    let client = database.connect().await;
    client.batch_execute(TABLE).await.unwrap();
    (database, client)
}

async fn ready(database: &Database) -> Forebay {
    Forebay::ready(database.dsn(), &[QUICK, &[MAPPING]].concat()).await
}

async fn count(client: &Client, of: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {of}"), &[]).await.unwrap().get(0)
}

fn says(forebay: &Forebay, words: &str) -> usize {
    forebay.said().iter().filter(|line| line.contains(words)).count()
}

/// The doctor's line about triggers.
async fn told(database: &Database, mapping: &[&str]) -> String {
    let ran: Ran = run(database.dsn(), "doctor", mapping).await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    ran.out.lines().find(|line| line.contains(" triggers ")).unwrap_or_else(|| panic!("{ran:?}")).to_owned()
}

/// Scenario: an existing table that is partitioned by inheritance, where a trigger puts each row into a child and returns
/// NULL; for some rows there is no child. Promise: each row is in its child, once, and counted as flushed and as diverted;
/// those others are dead letters, and stored when they are sent again; start and doctor name the trigger.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_trigger_puts_elsewhere_are_flushed_and_diverted() {
    let (database, client) = existing().await;
    client.batch_execute(INHERITANCE).await.unwrap();
    let forebay = ready(&database).await;
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..30)).await.unwrap();
    // These would be in logs_3 to logs_5.
    sender.send(numbered_request(3000..3007)).await.unwrap();
    let page = forebay.settles().await;
    assert_eq!(page.value("log_buffer_flushed_total"), 30, "{:#?}", forebay.said());
    assert_eq!(page.value("log_buffer_diverted_total"), 30);
    assert_eq!(page.value("log_buffer_dead_lettered_total"), 7);
    for child in 0..3 {
        assert_eq!(count(&client, &format!("app.logs_{child}")).await, 10);
    }
    assert_eq!(count(&client, "ONLY app.logs").await, 0);
    assert_eq!(says(&forebay, "app.logs has triggers that may keep records out of it (route)"), 1);
    let told = told(&database, &[MAPPING]).await;
    assert!(told.starts_with("warning") && told.contains("(route)"), "{told}");
    for child in 3..6 {
        client.batch_execute(&format!("CREATE TABLE app.logs_{child} () INHERITS (app.logs)")).await.unwrap();
    }
    let ran = run(database.dsn(), "dead-letters retry --all", &[MAPPING]).await;
    assert!(ran.out.contains("7 stored, 0 refused again"), "{ran:?}");
    assert_eq!((count(&client, "app.logs").await, count(&client, "otel.dead_letters").await), (37, 0));
}

/// Scenario: while forebay runs, a trigger is made that leaves out every other record, beside one that raises for a record,
/// and dropped again. Promise: no restart is needed; what it leaves out is counted, what is stored is stored once, and
/// that one is a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_is_made_meanwhile_and_leaves_records_out_is_found() {
    let database = database().await;
    let (forebay, client) = (Forebay::ready(database.dsn(), QUICK).await, database.connect().await);
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    assert!(told(&database, &[]).await.starts_with("ok"), "there is none yet");
    client.batch_execute(SAMPLING).await.unwrap();
    let raise = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF NEW.attributes->>'number' = '54' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'XX000'; END IF;
                     RETURN NEW;
                 END $$;
                 CREATE TRIGGER refuse BEFORE INSERT ON otel.log_records FOR EACH ROW EXECUTE FUNCTION refuse()";
    client.batch_execute(raise).await.unwrap();
    sender.send(numbered_request(10..110)).await.unwrap();
    let page = forebay.settles().await;
    let counts = |page: &support::metrics::Scrape| {
        ["flushed", "diverted", "dead_lettered"].map(|what| page.value(&format!("log_buffer_{what}_total")))
    };
    assert_eq!(counts(&page), [109, 50, 1], "{:#?}", forebay.said());
    assert_eq!(count(&client, "otel.log_records").await, 10 + 49);
    client.batch_execute("DROP FUNCTION sample CASCADE").await.unwrap();
    sender.send(numbered_request(110..120)).await.unwrap();
    assert_eq!(counts(&forebay.settles().await), [119, 50, 1]);
    assert_eq!(count(&client, "otel.log_records").await, 69);
    assert_eq!(says(&forebay, "a trigger keeps records out of the table"), 1, "it is said once");
    assert!(told(&database, &[]).await.starts_with("ok"), "the other one returns what it was given");
}

/// Scenario: a trigger on one partition leaves out all of its rows, and the queue is off. Promise: the sender is answered that
/// all is well, at once, and the rows are counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_of_a_partition_that_leaves_all_out_holds_nobody_up() {
    let database = database().await;
    let off = ["exporters.postgres.sending_queue.enabled=false"];
    let forebay = Forebay::ready(database.dsn(), &[QUICK, &off].concat()).await;
    let client = database.connect().await;
    let partition = "SELECT inhrelid::regclass::text FROM pg_inherits, pg_class
                     WHERE oid = inhrelid AND inhparent = 'otel.log_records'::regclass
                     AND relname LIKE '%' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')";
    let partition: String = client.query_one(partition, &[]).await.unwrap().get(0);
    let swallow = format!(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER swallow BEFORE INSERT ON {partition} FOR EACH ROW EXECUTE FUNCTION swallow()"
    );
    client.batch_execute(&swallow).await.unwrap();
    let answer = forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    assert_eq!(answer.partial_success, None);
    let page = forebay.settles().await;
    assert_eq!(page.value("log_buffer_flushed_total"), 10);
    assert_eq!(page.value("log_buffer_diverted_total"), 10);
    assert_eq!(count(&client, "otel.log_records").await, 0);
}

/// Scenario: rows are missing behind a COPY for which the catalogue has no reason: the trigger that left them out
/// has hidden itself. Promise: COPY's count is compared as before: nothing of that is committed, and such a row is a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_missing_without_a_trigger_is_not_taken_for_stored() {
    let database = database().await;
    let (forebay, client) = (Forebay::ready(database.dsn(), QUICK).await, database.connect().await);
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    let hide = "CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF NEW.attributes->>'number' <> '15' THEN RETURN NEW; END IF;
                    SET LOCAL allow_system_table_mods = on;
                    UPDATE pg_catalog.pg_trigger SET tgenabled = 'D' WHERE tgname = 'hide';
                    RETURN NULL;
                END $$;
                CREATE TRIGGER hide BEFORE INSERT ON otel.log_records FOR EACH ROW EXECUTE FUNCTION hide()";
    client.batch_execute(hide).await.unwrap();
    sender.send(numbered_request(10..20)).await.unwrap();
    let page = forebay.settles().await;
    assert_eq!(page.value("log_buffer_flushed_total"), 19, "{:#?}", forebay.said());
    assert_eq!(page.value("log_buffer_diverted_total"), 0);
    let letters = client.query("SELECT sqlstate FROM otel.dead_letters", &[]).await.unwrap();
    assert_eq!(letters.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["not_stored"]);
    assert_eq!(count(&client, "otel.log_records").await, 19);
}

/// Scenario: a rule that does nothing instead of an INSERT. Promise: COPY passes it by, so that everything is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_takes_no_row() {
    let (database, client) = existing().await;
    client.batch_execute("CREATE RULE nothing AS ON INSERT TO app.logs DO INSTEAD NOTHING").await.unwrap();
    let forebay = ready(&database).await;
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    let page = forebay.settles().await;
    assert_eq!((page.value("log_buffer_flushed_total"), count(&client, "app.logs").await), (10, 10));
    assert_eq!(page.value("log_buffer_diverted_total"), 0);
}

/// Scenario: the table is a view; first without a trigger, then with one INSTEAD OF INSERT that returns NULL for every other
/// row and raises for one. Promise: it is held with the cure first; then each row is where the trigger puts it. COPY counts all
/// that it has handed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_takes_rows_by_its_trigger() {
    let (database, client) = existing().await;
    client
        .batch_execute("ALTER TABLE app.logs RENAME TO base; CREATE VIEW app.logs AS TABLE app.base")
        .await
        .unwrap();
    let forebay = Forebay::start(database.dsn(), &[QUICK, &[MAPPING]].concat()).await;
    eventually("health tells what a view needs", || async {
        let told = forebay.health().await.1.to_string();
        told.contains("without an INSTEAD OF INSERT trigger").then_some(())
    })
    .await;
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    let instead = "CREATE FUNCTION app.instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                       IF NEW.number = 5 THEN RAISE EXCEPTION 'no'; END IF;
                       INSERT INTO app.base VALUES (NEW.*);
                       IF NEW.number % 2 = 0 THEN RETURN NULL; END IF;
                       RETURN NEW;
                   END $$;
                   CREATE TRIGGER instead INSTEAD OF INSERT ON app.logs FOR EACH ROW EXECUTE FUNCTION app.instead()";
    client.batch_execute(instead).await.unwrap();
    let page = forebay.settles().await;
    assert_eq!((page.value("log_buffer_flushed_total"), count(&client, "app.base").await), (9, 9));
    assert_eq!(page.value("log_buffer_diverted_total"), 0);
    assert_eq!(page.value("log_buffer_dead_lettered_total"), 1);
}
