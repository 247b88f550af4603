//! What is sent is what stands in the view `otel.logs`: every field, or its documented replacement.

use std::cell::Cell;

use ::forebay::otlp::messages::any_value::Value;
use ::forebay::otlp::messages::{AnyValue, ExportLogsServiceRequest, LogRecord, ResourceLogs, ScopeLogs};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use support::arbitrary::{self, nested};
use support::forebay::Forebay;
use support::postgres::database;
use support::records::{now, pair, request, text};
use support::sender::Sender;
use support::view::{compare, rows, sent};
use tokio::runtime::Handle;
use tokio_postgres::Client;

/// The view's columns, as the contract has them.
const CONTRACT: &[(&str, &str)] = &[
    ("time", "timestamp with time zone"),
    ("time_unix_nano", "bigint"),
    ("observed_time", "timestamp with time zone"),
    ("severity_number", "smallint"),
    ("severity_text", "text"),
    ("severity", "text"),
    ("service_name", "text"),
    ("body", "text"),
    ("body_json", "jsonb"),
    ("event_name", "text"),
    ("trace_id", "text"),
    ("span_id", "text"),
    ("trace_flags", "integer"),
    ("attributes", "jsonb"),
    ("resource", "jsonb"),
    ("scope_attributes", "jsonb"),
    ("scope_name", "text"),
    ("scope_version", "text"),
    ("resource_schema_url", "text"),
    ("scope_schema_url", "text"),
    ("dropped_attributes_count", "integer"),
];

/// A forebay whose OK means stored, and at once.
async fn start() -> (Forebay, Sender, Client) {
    let database = database().await;
    let sets = ["exporters.postgres.sending_queue.enabled=false", "processors.batch.timeout=0s"];
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let (sender, client) = (forebay.sender().await, database.connect().await);
    (forebay, sender, client)
}

/// Sends `request` and compares what `rest` finds with it.
async fn store_and_compare(
    (sender, client): (&Sender, &Client),
    request: &ExportLogsServiceRequest,
    rest: &str,
) -> Result<(), String> {
    let before = now();
    let answer = sender.send(request.clone()).await.map_err(|status| format!("{status:?}"))?;
    if let Some(partial) = answer.partial_success {
        return Err(format!("not all of it was taken: {partial:?}"));
    }
    compare(client, sent(request), &rows(client, rest).await, before..=now()).await
}

/// Scenario: any request that OTLP allows. Guarantee: each record is stored, once, with every field as it was sent
/// or with its documented replacement.
#[tokio::test(flavor = "multi_thread")]
async fn any_request_is_stored_as_it_was_sent() {
    let (forebay, sender, client) = start().await;
    let config =
        Config { cases: 150, max_shrink_iters: 1000, failure_persistence: None, ..Config::default() };
    let seed = if let RngSeed::Fixed(seed) = config.rng_seed { seed } else { now() };
    let (case, records) = (Cell::new(0), Cell::new(0));
    let check = |mut request: ExportLogsServiceRequest| {
        case.set(case.get() + 1);
        let count = mark(&mut request, case.get());
        records.set(records.get() + count);
        let rest = format!(
            "WHERE starts_with(event_name, '{}/') ORDER BY split_part(event_name, '/', 2)::integer",
            case.get()
        );
        let checked = store_and_compare((&sender, &client), &request, &rest);
        Handle::current().block_on(checked).map_err(TestCaseError::fail)
    };
    let round = |number| {
        let rng_seed = RngSeed::Fixed(seed + number);
        TestRunner::new(Config { rng_seed, ..config.clone() }).run(&arbitrary::request(), check)
    };
    // As many rounds as it takes to have met enough; one or two, since a request has two records in the middle.
    let result = tokio::task::block_in_place(|| {
        (0..5).try_for_each(|number| if records.get() > 300 { Ok(()) } else { round(number) })
    });
    result.unwrap_or_else(|error| panic!("{error}\nto see it again: PROPTEST_RNG_SEED={seed}"));
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), records.get(), "nothing beside what was compared");
    assert!(records.get() > 300, "enough to find something");
}

/// Begins each event name with the case and the record's number in it, by which the rows are found; gives the number
/// of records.
fn mark(request: &mut ExportLogsServiceRequest, case: u64) -> u64 {
    let scopes = request.resource_logs.iter_mut().flat_map(|resource| &mut resource.scope_logs);
    let mut count = 0;
    for record in scopes.flat_map(|scope| &mut scope.log_records) {
        record.event_name = format!("{case}/{count}/{}", record.event_name);
        count += 1;
    }
    count
}

/// Scenario: a record with nothing in it, in a scope and a resource with nothing in them, and bodies that say nothing
/// in three ways. Guarantee: all fields are NULL, 0 or empty; no body, the empty value and the empty string differ.
#[tokio::test(flavor = "multi_thread")]
async fn absent_is_not_the_same_as_empty() {
    let (forebay, sender, client) = start().await;
    let bodies = [None, Some(AnyValue { value: None }), Some(text(""))];
    let records = bodies.map(|body| LogRecord { body, ..Default::default() });
    let scope_logs = vec![ScopeLogs { log_records: records.to_vec(), ..Default::default() }];
    let request =
        ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] };
    let order = "ORDER BY body IS NOT NULL, body_json IS NULL";
    store_and_compare((&sender, &client), &request, order).await.unwrap();
    let found = rows(&client, order).await;
    let bodies: Vec<_> =
        found.iter().map(|row| (row["body"].as_deref(), row["body_json"].as_deref())).collect();
    assert_eq!(bodies, [(None, None), (Some("null"), Some("null")), (Some(""), None)]);
    for row in found {
        for (column, value) in row {
            let expected = match column {
                "time" | "time_unix_nano" | "body" | "body_json" => continue,
                "attributes" | "resource" | "scope_attributes" => Some("{}"),
                "trace_flags" => Some("0"),
                _ if column.ends_with("count") => Some("0"),
                _ => None,
            };
            assert_eq!(value.as_deref(), expected, "{column}");
        }
    }
    forebay.settles().await;
}

/// Scenario: values that are one step inside of what PostgreSQL and the limits hold, and one step outside.
/// Guarantee: the former stay as they are, the latter are replaced and each is counted.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_is_counted() {
    let (forebay, sender, client) = start().await;
    let inside = LogRecord {
        time_unix_nano: i64::MAX as u64,
        observed_time_unix_nano: i64::MAX as u64,
        severity_number: i16::MAX.into(),
        severity_text: "\u{1}\u{fffd}\u{10ffff}".into(),
        body: Some(nested(64)),
        attributes: vec![pair("deep", nested(64)), pair("\u{1}", text("\u{1}"))],
        dropped_attributes_count: i32::MAX as u32,
        event_name: "1".into(),
        ..Default::default()
    };
    let store = async |record: &LogRecord| {
        let rest = format!("WHERE starts_with(event_name, '{}')", &record.event_name[..1]);
        store_and_compare((&sender, &client), &request(vec![record.clone()]), &rest).await.unwrap();
        let scrape = forebay.settles().await;
        ["nul", "utf8", "depth", "time", "number"]
            .map(|kind| scrape.sum("log_buffer_replaced_values_total", &format!("kind=\"{kind}\"")))
    };
    assert_eq!(store(&inside).await, [0, 0, 0, 0, 0]);
    let outside = LogRecord {
        time_unix_nano: 1 << 63,
        observed_time_unix_nano: 1 << 63,
        severity_number: i32::from(i16::MAX) + 1,
        severity_text: "\0".into(),
        body: Some(nested(65)),
        attributes: vec![pair("deep", nested(200)), pair("\0", text("\0"))],
        dropped_attributes_count: 1 << 31,
        event_name: "2\0".into(),
        ..Default::default()
    };
    assert_eq!(store(&outside).await, [4, 0, 2, 2, 2]);
    let found = rows(&client, "WHERE starts_with(event_name, '2')").await.remove(0);
    assert_eq!(found["severity_text"].as_deref(), Some("\u{fffd}"));
    for column in ["body", "attributes"] {
        let value = found[column].as_ref().unwrap();
        assert!(value.contains(r#""[nested deeper than 64 levels]""#), "{column}: {value}");
        assert_eq!(value.matches(['[', ']']).count(), 64 + 2, "{column}: {value}");
    }
}

/// Scenario: doubles that are whole numbers. Guarantee: they can be told from integers, also where they are large.
#[tokio::test(flavor = "multi_thread")]
async fn a_double_does_not_become_an_integer() {
    let (_forebay, sender, client) = start().await;
    let number = |key: &str, value| pair(key, AnyValue { value: Some(value) });
    let attributes = vec![
        number("double", Value::DoubleValue(1.0)),
        number("int", Value::IntValue(1)),
        number("large", Value::DoubleValue(1e16)),
        number("zero", Value::DoubleValue(-0.0)),
    ];
    let record = LogRecord {
        attributes,
        body: Some(AnyValue { value: Some(Value::DoubleValue(2.0)) }),
        ..Default::default()
    };
    store_and_compare((&sender, &client), &request(vec![record]), "").await.unwrap();
    let found = rows(&client, "").await.remove(0);
    let expected = r#"{"int": 1, "zero": 0.0, "large": 10000000000000000.0, "double": 1.0}"#;
    assert_eq!(found["attributes"].as_deref(), Some(expected));
    assert_eq!((found["body"].as_deref(), found["body_json"].as_deref()), (Some("2.0"), Some("2.0")));
}

/// Scenario: what people and their queries rely on. Guarantee: the view has the columns of the contract, in its order
/// and with its types; others may follow.
#[tokio::test(flavor = "multi_thread")]
async fn the_view_is_the_one_of_the_contract() {
    let (_forebay, _, client) = start().await;
    let statement = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
                     WHERE attrelid = 'otel.logs'::regclass AND attnum > 0 ORDER BY attnum";
    let found = client.query(statement, &[]).await.unwrap();
    let found: Vec<(String, String)> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
    let found: Vec<_> = found.iter().map(|(name, of)| (name.as_str(), of.as_str())).collect();
    assert_eq!(&found[..CONTRACT.len()], CONTRACT);
}
