//! Every class of SQLSTATE, raised by a trigger, in the COPY and at the COMMIT. What must hold: whatever the code, the table
//! decides. A row that is refused while the table takes others is a dead letter; a table that refuses all of them loses none,
//! and what passes by itself is waited for.

use support::eventually;
use support::forebay::{Forebay, QUICK};
use support::postgres::{Database, database};
use support::records::numbered_request;

use crate::poison::{letters, trigger};

/// At least one of each class of PostgreSQL's list that a function can raise, and what else is met most.
const CODES: [&str; 88] = [
    "01000", "02000", "03000", "08000", "08003", "08004", "08006", "08007", "08P01", "09000", "0A000",
    "0B000", "0F000", "0L000", "0P000", "0Z000", "20000", "21000", "22000", "22003", "22012", "22021",
    "22P02", "22P04", "22P05", "23000", "23502", "23503", "23505", "23514", "23P01", "24000", "25000",
    "25001", "25006", "25P02", "25P03", "26000", "27000", "28000", "28P01", "2B000", "2D000", "2F000",
    "34000", "38000", "39000", "39P01", "3B000", "3D000", "3F000", "40000", "40001", "40003", "40P01",
    "42000", "42501", "42601", "42703", "42804", "42P01", "44000", "53000", "53100", "53200", "53300",
    "53400", "54000", "54001", "55000", "55006", "55P03", "57000", "57014", "57P01", "57P02", "57P03",
    "58000", "58030", "58P01", "72000", "F0000", "HV000", "P0000", "P0001", "XX000", "XX001", "ZZ999",
];
/// Records beside each one that is refused, and it.
const OF: usize = 10;
/// Which of them is refused.
const BAD: usize = 3;

const NUMBER: &str = "(NEW.attributes->>'number')::bigint";

/// A forebay that goes on with other batches soon.
async fn ready(database: &Database, sets: &[&str]) -> Forebay {
    Forebay::ready(database.dsn(), &[QUICK, sets].concat()).await
}

/// Has each code raised for one of ten records, and sends them.
async fn one_row_of_ten(when: &str) {
    let database = database().await;
    // Slower than QUICK: those of what passes are tried for a while.
    let forebay = ready(&database, &["exporters.postgres.retry_on_failure.max_interval=1s"]).await;
    let list = CODES.map(|code| format!("'{code}'")).join(", ");
    let does = format!(
        "IF {NUMBER} % {OF} = {BAD} THEN
             RAISE EXCEPTION 'no' USING ERRCODE = (ARRAY[{list}])[1 + {NUMBER} / {OF}];
         END IF"
    );
    trigger(&database.connect().await, "refuse", when, &does).await;
    let sender = forebay.sender().await;
    for place in 0..CODES.len() as u64 {
        let first = place * OF as u64;
        sender.send(numbered_request(first..first + OF as u64)).await.unwrap();
    }
    let page = forebay.settles().await;
    let expected: Vec<_> =
        CODES.iter().enumerate().map(|(at, code)| ((at * OF + BAD) as i64, (*code).to_owned())).collect();
    assert_eq!(letters(&database).await, expected);
    assert_eq!(page.value("log_buffer_flushed_total"), (CODES.len() * (OF - 1)) as u64);
    assert_eq!(page.value("log_buffer_dropped_total"), 0);
}

/// Scenario: a trigger raises each code for one record of ten, where PostgreSQL names the line. Promise: these are the dead
/// letters, each with its code, and all others are stored.
#[tokio::test(flavor = "multi_thread")]
async fn each_code_that_one_row_of_ten_raises_costs_that_row_in_the_copy() {
    one_row_of_ten("BEFORE").await;
}

/// Scenario: the same in a constraint trigger that is deferred, where PostgreSQL names no line. Promise: the same.
#[tokio::test(flavor = "multi_thread")]
async fn each_code_that_one_row_of_ten_raises_costs_that_row_at_the_commit() {
    one_row_of_ten("DEFERRED").await;
}

/// Has each code raised for all records, until that is mended.
async fn all_rows(when: &str) {
    let database = database().await;
    let (forebay, client) = (ready(&database, &[]).await, database.connect().await);
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    client.batch_execute("CREATE TABLE refusal (code text)").await.unwrap();
    let does = "DECLARE refusal text := (SELECT code FROM public.refusal); BEGIN
                    IF refusal IS NOT NULL THEN RAISE EXCEPTION 'no' USING ERRCODE = refusal; END IF;
                END";
    trigger(&client, "refuse", when, does).await;
    let failures = async || forebay.scrape().await.value("log_buffer_flush_errors_total");
    for (place, code) in CODES.iter().enumerate() {
        client.execute("INSERT INTO refusal VALUES ($1)", &[code]).await.unwrap();
        let (before, first) = (failures().await, 10 * (place as u64 + 1));
        sender.send(numbered_request(first..first + 10)).await.unwrap();
        eventually("they were tried some times", || async { (failures().await >= before + 4).then_some(()) })
            .await;
        client.execute("DELETE FROM refusal", &[]).await.unwrap();
        let page = forebay.settles().await;
        assert_eq!(page.value("log_buffer_dead_lettered_total"), 0, "{code}");
        assert_eq!(page.value("log_buffer_flushed_total"), first + 10, "{code}");
    }
    let stored: i64 = client.query_one("SELECT count(*) FROM otel.log_records", &[]).await.unwrap().get(0);
    assert_eq!(stored as usize, 10 + 10 * CODES.len());
}

/// Scenario: each code in turn is raised for all records, then for none. Promise: none of them becomes a dead letter, and
/// all are stored once that is mended.
#[tokio::test(flavor = "multi_thread")]
async fn each_code_that_all_rows_raise_loses_none_of_them_in_the_copy() {
    all_rows("BEFORE").await;
}

/// Scenario: the same at the COMMIT. Promise: the same.
#[tokio::test(flavor = "multi_thread")]
async fn each_code_that_all_rows_raise_loses_none_of_them_at_the_commit() {
    all_rows("DEFERRED").await;
}

/// Scenario: some records are refused with codes of what passes, eight times each, and then taken. Promise: they are
/// stored, and none is a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_itself_costs_no_row() {
    const PASSING: [&str; 6] = ["40001", "40P01", "53200", "57014", "08006", "55P03"];
    let database = database().await;
    let (forebay, client) = (ready(&database, &[]).await, database.connect().await);
    let sender = forebay.sender().await;
    sender.send(numbered_request(100..110)).await.unwrap();
    forebay.settles().await;
    let mut arms = String::new();
    for (number, code) in PASSING.iter().enumerate() {
        // A sequence keeps count through a rollback.
        client.batch_execute(&format!("CREATE SEQUENCE tries_{number}")).await.unwrap();
        arms += &format!(
            "IF {NUMBER} = {number} AND nextval('public.tries_{number}') <= 8 THEN
                 RAISE EXCEPTION 'not yet' USING ERRCODE = '{code}';
             END IF;"
        );
    }
    trigger(&client, "refuse", "BEFORE", &format!("{arms} NULL")).await;
    sender.send(numbered_request(0..20)).await.unwrap();
    let page = forebay.settles().await;
    assert_eq!(page.value("log_buffer_dead_lettered_total"), 0);
    assert_eq!(page.value("log_buffer_flushed_total"), 30);
    for (number, code) in PASSING.iter().enumerate() {
        let tries = client.query_one(&format!("SELECT last_value FROM tries_{number}"), &[]).await.unwrap();
        assert_eq!(tries.get::<_, i64>(0), 9, "{code}");
    }
}

/// Scenario: the only lane tries a record that is refused with a code of what passes, again and again; other records come,
/// then SIGTERM. Promise: these are stored meanwhile, and the record is a dead letter at the end, not lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_may_pass_holds_up_no_other_batch() {
    let database = database().await;
    let forebay = ready(&database, &["exporters.postgres.pool_size=1"]).await;
    let sender = forebay.sender().await;
    sender.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    let does = format!("IF {NUMBER} = 15 THEN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END IF");
    trigger(&database.connect().await, "refuse", "BEFORE", &does).await;
    for first in [10, 20, 30] {
        sender.send(numbered_request(first..first + 10)).await.unwrap();
        eventually("all but that one are stored", || async {
            let page = forebay.scrape().await;
            assert_eq!(page.value("log_buffer_dead_lettered_total"), 0, "it is tried for a while");
            (page.value("log_buffer_flushed_total") == first + 9).then_some(())
        })
        .await;
        assert_eq!(forebay.health().await.1["degraded"], "stuck_on_records");
    }
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert_eq!(letters(&database).await, [(15, "40001".to_owned())]);
}
