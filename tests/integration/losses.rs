//! The table of losses: what is missing after an incident, by service, severity and reason, each loss once.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ::forebay::embedded::Stop;
use ::forebay::otlp::messages::{ExportLogsServiceRequest, LogRecord};
use support::eventually;
use support::forebay::{Forebay, QUICK};
use support::postgres::{Postgres, database};
use support::records::{numbered, numbered_request, request, text};
use support::sender::Told;
use tokio_postgres::Client;

/// Numbers of records by service, severity and reason.
type Losses = BTreeMap<(Option<String>, Option<String>, String), i64>;

const WINDOW: &str = "exporters.postgres.losses_window=100ms";

/// The last fifteen of thirty records do not fit.
const SMALL: &[&str] = &[
    "exporters.postgres.sending_queue.queue_size=15",
    "exporters.postgres.sending_queue.overflow=drop_newest",
];

async fn losses(client: &Client) -> Losses {
    let sums = "SELECT service, severity, reason, sum(records)::bigint FROM otel.losses GROUP BY 1, 2, 3";
    let rows = client.query(sums, &[]).await.unwrap();
    rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), row.get(3))).collect()
}

fn loss(service: &str, severity: Option<&str>, reason: &str, records: i64) -> <Losses as IntoIterator>::Item {
    ((Some(service.to_owned()), severity.map(str::to_owned), reason.to_owned()), records)
}

/// Scenario: windows without a length. Guarantee: losses are in the metrics and nowhere else, also those of the end.
#[tokio::test(flavor = "multi_thread")]
async fn without_windows_losses_are_metrics_only() {
    let database = database().await;
    let sets = [QUICK, &["exporters.postgres.losses_window=0"], SMALL].concat();
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let answer = forebay.sender().await.send(two_services()).await.unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_log_records, 15);
    assert_eq!(forebay.settles().await.value("log_buffer_dropped_total"), 15);
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert_eq!(losses(&database.connect().await).await, Losses::new());
}

/// A request of ten records of the service `shop` and twenty of `auth`, whose severities are ERROR and not given.
fn two_services() -> ExportLogsServiceRequest {
    let of = |service: &str, severity_number, numbers: std::ops::Range<u64>| {
        let records = numbers.map(|number| LogRecord { severity_number, ..numbered(number) });
        let mut request = request(records.collect());
        let resource = request.resource_logs[0].resource.as_mut().unwrap();
        resource.attributes[0].value = Some(text(service));
        request.resource_logs.remove(0)
    };
    ExportLogsServiceRequest { resource_logs: vec![of("shop", 17, 0..10), of("auth", 0, 10..30)] }
}

/// Scenario: the table is locked, and more arrives than the buffer holds; afterwards it refuses a record. Guarantee:
/// what was shed and what was refused is in the table of losses, with service, severity, reason and time.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_by_service_severity_and_reason() {
    let began = SystemTime::now();
    let database = database().await;
    let sets = [QUICK, &[WINDOW], SMALL].concat();
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let client = database.connect().await;
    let refuse = "ALTER TABLE otel.log_records ADD CHECK ((attributes->'number')::int <> 3) NOT VALID";
    client.batch_execute(refuse).await.unwrap();
    client.batch_execute("BEGIN; LOCK otel.log_records").await.unwrap();
    let sender = forebay.sender().await;
    let answer = sender.send(two_services()).await.unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_log_records, 15);
    client.batch_execute("ROLLBACK").await.unwrap();
    forebay.settles().await;
    let expected: Losses =
        [loss("shop", Some("ERROR"), "dead_letter", 1), loss("auth", None, "drop_newest", 15)].into();
    let found = eventually("all losses are written", || async {
        let found = losses(&client).await;
        (found.values().sum::<i64>() >= 16).then_some(found)
    })
    .await;
    assert_eq!(found, expected);
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert_eq!(losses(&client).await, expected, "the end adds nothing");
    let select =
        "SELECT min(since), max(until), bool_and(since <= until), count(DISTINCT gateway) FROM otel.losses";
    let row = client.query_one(select, &[]).await.unwrap();
    assert!(row.get::<_, SystemTime>(0) >= began && row.get::<_, SystemTime>(1) <= SystemTime::now());
    assert_eq!((row.get::<_, bool>(2), row.get::<_, i64>(3)), (true, 1));
}

/// Scenario: SIGTERM while the table is locked for longer than the end may take. Guarantee: what could not be delivered
/// is in the table of losses.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_delivered_at_the_end_is_told() {
    let database = database().await;
    let sets = [QUICK, &["exporters.postgres.shutdown_timeout=300ms"]].concat();
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let client = database.connect().await;
    client.batch_execute("BEGIN; LOCK otel.log_records").await.unwrap();
    let mut told = Told::default();
    forebay.sender().await.send_numbered(0..24, &mut told).await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(1), "{said:#?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    let found = losses(&client).await;
    // The severities of numbered records are all 24.
    let severities = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let expected: Losses =
        severities.into_iter().map(|severity| loss("shop", Some(severity), "undelivered", 4)).collect();
    assert_eq!(found, expected, "{said:#?}");
    let stored = client.query_one("SELECT count(*) FROM otel.log_records", &[]).await.unwrap();
    assert_eq!(stored.get::<_, i64>(0), 0, "nothing is committed behind the books' back");
}

/// Scenario: SIGTERM while the database is down. Guarantee: the losses that cannot be written are told in the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_any_more_is_in_the_log() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let sets = [QUICK, &["exporters.postgres.shutdown_timeout=300ms"]].concat();
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    postgres.stop(Stop::Fast).await;
    forebay.becomes_unready("database_unreachable").await;
    forebay.sender().await.send(numbered_request(0..24)).await.unwrap();
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(1), "{said:#?}");
    let told = |words: &[&str]| said.iter().any(|line| words.iter().all(|word| line.contains(word)));
    let loss = ["lost, and not in the table of losses", "\"records\":24", "4 fatal of shop: undelivered"];
    assert!(told(&loss), "{said:#?}");
    assert!(told(&["the last losses cannot be written down"]), "{said:#?}");
}
