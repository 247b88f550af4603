//! Every SDK, over every transport, sends the same records of all kinds; each field of each one is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use support::forebay::Forebay;
use support::postgres::database;
use support::view::{Row, canonical, rows};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::differences::{self, Form};
use crate::sdks::{Sdk, Transport, say};
use crate::sender::{Sender, Told, Work};
use crate::set::{Record, SET, plain};

/// Enough for three of the SDKs' batches of 512, and less than the 2,048 that their queues hold.
pub const ROUNDS: usize = 25;
/// SDKs at work at a time.
const AT_A_TIME: usize = 3;

/// One SDK over one transport, and what was found otherwise than expected: the record's kind, and in words.
pub struct Cell {
    sdk: Sdk,
    transport: Transport,
    mismatches: Vec<(&'static str, String)>,
}

/// Scenario: each official SDK sends 1,100 records by its language's logging, with its default batches, over each
/// transport that it has. Guarantee: each field of each record is in the view as it was sent, or as `differences.rs`
/// says for that bridge.
#[tokio::test(flavor = "multi_thread")]
async fn each_field_arrives_from_every_sdk_over_every_transport() {
    let room = Arc::new(Semaphore::new(AT_A_TIME));
    let mut cells = JoinSet::new();
    for sdk in Sdk::installed() {
        for &transport in sdk.transports() {
            let room = room.clone();
            cells.spawn(async move {
                let _place = room.acquire().await.expect("it stays open");
                cell(sdk, transport).await
            });
        }
    }
    let cells = cells.join_all().await;
    let table = table(&cells);
    say(&table);
    let mismatches: BTreeSet<_> = cells.iter().flat_map(Cell::described).collect();
    assert!(mismatches.is_empty(), "{:#?}", mismatches.iter().take(20).collect::<Vec<_>>());
    let all_are_there = Sdk::installed().count() == 5;
    assert!(!all_are_there || include_str!("README.md").contains(&table), "README.md has an older table");
}

impl Cell {
    /// Compares what is stored of the set's records.
    pub async fn of(client: &Client, sdk: Sdk, transport: Transport, told: &[Told]) -> Self {
        let found =
            rows(client, "WHERE service_name = 'matrix' ORDER BY (attributes->>'index')::integer").await;
        let sent = ROUNDS * SET.records.len();
        assert_eq!((told.len(), found.len()), (sent, sent), "{sdk:?}");
        Self { sdk, transport, mismatches: compare(client, sdk, transport, told, &found).await }
    }

    pub fn described(&self) -> impl Iterator<Item = String> {
        let of = format!("{:?} {}", self.sdk, self.transport.name());
        self.mismatches.iter().map(move |(kind, what)| format!("{of}: {kind}: {what:.500}"))
    }
}

async fn cell(sdk: Sdk, transport: Transport) -> Cell {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let sender =
        Sender::start(sdk, transport, &transport.endpoint(&forebay), Work::Records { rounds: ROUNDS });
    let (told, report) = sender.end().await;
    let sent = (ROUNDS * SET.records.len()) as u64;
    assert_eq!((report.emitted, report.exported, report.failed), (sent, sent, 0), "{sdk:?}: {report:?}");
    let page = forebay.settles().await;
    assert_eq!(page.value("log_buffer_flushed_total"), sent, "{sdk:?}");
    let client = database.connect().await;
    Cell::of(&client, sdk, transport, &told).await
}

async fn compare(
    client: &Client,
    sdk: Sdk,
    transport: Transport,
    told: &[Told],
    found: &[Row],
) -> Vec<(&'static str, String)> {
    let records: Vec<_> = (0..ROUNDS).flat_map(|_| &SET.records).collect();
    let expected: Vec<_> = records
        .iter()
        .enumerate()
        .map(|(index, record)| {
            Expectation { sdk, transport, index, record, found: &found[index] }.row(&told[index])
        })
        .collect();
    let expected = canonical(client, expected).await;
    let mut mismatches = Vec::new();
    for ((record, expected), found) in records.iter().zip(expected).zip(found) {
        for (column, value) in found {
            if *value != expected[column] {
                let what = format!("{column} is {value:?}, expected {:?}", expected[column]);
                mismatches.push((record.kind.as_str(), what));
            }
        }
    }
    mismatches
}

/// A record that was sent, and the row that has to be its.
struct Expectation<'a> {
    sdk: Sdk,
    transport: Transport,
    index: usize,
    record: &'a Record,
    found: &'a Row,
}

impl Expectation<'_> {
    fn row(&self, told: &Told) -> Row {
        let Self { sdk, record, .. } = *self;
        let some = |text: &str| Some(text.to_owned());
        let [time, observed] = [&told.time, &told.observed].map(|text| text.parse::<i64>().unwrap());
        let time = if time == 0 { observed } else { time };
        let (number, text) = differences::severity(sdk, &record.level);
        let (body, body_json) = self.body();
        let trace = |key: &str| record.trace.as_ref().map(|trace| trace[key].as_str().unwrap().to_owned());
        let flags = record.trace.as_ref().map_or(0, |trace| trace["flags"].as_u64().unwrap());
        Row::from([
            ("time", Some((time / 1000).to_string())),
            ("time_unix_nano", Some(time.to_string())),
            ("observed_time", Some((observed / 1000).to_string())),
            ("observed_time_unix_nano", Some(observed.to_string())),
            ("severity_number", number.map(|number| number.to_string())),
            ("severity_text", some(text)),
            ("severity", number.map(|number| SEVERITIES[usize::from(number) / 4].to_owned())),
            ("service_name", some("matrix")),
            ("body", body),
            ("body_json", body_json),
            ("event_name", differences::event(sdk, record.event.as_deref()).map(str::to_owned)),
            ("trace_id", trace("trace_id")),
            ("span_id", trace("span_id")),
            ("trace_flags", Some(flags.to_string())),
            ("attributes", Some(self.attributes())),
            ("resource", Some(self.resource())),
            ("scope_attributes", some("{}")),
            ("scope_name", some(&SET.scope.name)),
            ("scope_version", differences::scope_version(sdk, &SET.scope.version).map(str::to_owned)),
            ("resource_schema_url", self.schema_url()),
            ("scope_schema_url", None),
            ("dropped_attributes_count", some("0")),
            ("resource_dropped_attributes_count", some("0")),
            ("scope_dropped_attributes_count", some("0")),
        ])
    }

    fn body(&self) -> (Option<String>, Option<String>) {
        let Some(sent) = &self.record.body else {
            return (Some(self.record.kind.clone()), None);
        };
        let body = plain(sent);
        match (differences::body(self.sdk, sent), body.as_str()) {
            (Form::JsonText, _) => (self.json_text(self.found["body"].as_deref(), &body), None),
            (_, Some(text)) => (Some(repaired(text)), None),
            _ => (None, Some(body.to_string())),
        }
    }

    /// A text that is this JSON may have its own spaces and order.
    fn json_text(&self, found: Option<&str>, json: &Value) -> Option<String> {
        let is_same = |text: &&str| serde_json::from_str::<Value>(text).is_ok_and(|found| found == *json);
        Some(found.filter(is_same).map_or_else(|| json.to_string(), str::to_owned))
    }

    fn attributes(&self) -> String {
        let found = object(&self.found["attributes"]);
        let mut attributes = Map::from_iter([("index".to_owned(), json!(self.index))]);
        if let Some(value) = &self.record.value {
            let stored = match differences::value(self.sdk, self.transport, value) {
                Form::AsSent => Some(plain(value)),
                Form::Other(value) => Some(value),
                Form::JsonText => {
                    let text = found.get("value").and_then(Value::as_str);
                    self.json_text(text, &plain(value)).map(Value::String)
                }
                Form::Nothing => None,
            };
            attributes.extend(stored.map(|value| ("value".to_owned(), value)));
        }
        if let Some(message) = &self.record.exception {
            let (of_type, has_trace) = differences::exception(self.sdk);
            attributes.insert("exception.message".to_owned(), json!(message));
            attributes.extend(of_type.map(|name| ("exception.type".to_owned(), json!(name))));
            // A stack trace is what it is, but has the message in it.
            let trace = found.get("exception.stacktrace").and_then(Value::as_str);
            let trace = trace.filter(|trace| trace.contains(message.as_str())).unwrap_or("with the message");
            attributes.extend(has_trace.then(|| ("exception.stacktrace".to_owned(), json!(trace))));
        }
        repaired(&Value::Object(attributes).to_string())
    }

    fn resource(&self) -> String {
        let sent = SET.resource.iter().map(|(key, value)| (key.clone(), plain(value)));
        let mut resource: Map<_, _> = sent.collect();
        resource.extend(differences::added_to_resource(self.sdk, &object(&self.found["resource"])));
        Value::Object(resource).to_string()
    }

    /// Some SDKs say which version of the conventions their own attributes follow.
    fn schema_url(&self) -> Option<String> {
        let found = self.found["resource_schema_url"].clone();
        found.filter(|url| url.starts_with("https://opentelemetry.io/schemas/"))
    }
}

/// By the number's quarter, which begins at 1.
const SEVERITIES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// NUL is what PostgreSQL cannot hold.
fn repaired(text: &str) -> String {
    text.replace('\0', "\u{fffd}").replace("\\u0000", "\u{fffd}")
}

fn object(json: &Option<String>) -> Map<String, Value> {
    serde_json::from_str(json.as_deref().unwrap_or("{}")).expect("an object")
}

/// A row for each kind, a column for each SDK; a sign for all of its transports, or for each.
fn table(cells: &[Cell]) -> String {
    let mut columns: BTreeMap<u8, Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        columns.entry(cell.sdk as u8).or_default().push(cell);
    }
    columns.values_mut().for_each(|cells| cells.sort_by_key(|cell| cell.transport as u8));
    let row = |first: &str, of: &dyn Fn(&[&Cell]) -> String| {
        let cells: Vec<_> = columns.values().map(|cells| of(cells)).collect();
        format!("| {first} | {} |\n", cells.join(" | "))
    };
    let sent = ROUNDS * SET.records.len();
    let mut kinds: Vec<&str> = SET.records.iter().map(|record| record.kind.as_str()).collect();
    kinds.dedup();
    let mut table = row("", &|cells| format!("{:?}", cells[0].sdk));
    table += &row("---", &|_| "---".to_owned());
    table += &row("transports", &|cells| {
        cells.iter().map(|cell| cell.transport.name()).collect::<Vec<_>>().join(", ")
    });
    for kind in kinds {
        table += &row(kind, &|cells| signs(cells, kind));
    }
    table += &row("records", &|cells| format!("{} × {sent}", cells.len()));
    table
        + &row("mismatches", &|cells| {
            cells.iter().map(|cell| cell.mismatches.len()).sum::<usize>().to_string()
        })
}

fn signs(cells: &[&Cell], kind: &str) -> String {
    let mut signs: Vec<_> = cells.iter().map(|cell| sign(cell, kind)).collect();
    if signs.iter().all(|sign| *sign == signs[0]) {
        return signs.remove(0);
    }
    let signs = cells.iter().zip(signs).map(|(cell, sign)| format!("{sign} ({})", cell.transport.name()));
    signs.collect::<Vec<_>>().join("; ")
}

fn sign(cell: &Cell, kind: &str) -> String {
    let wrong = cell.mismatches.iter().filter(|(of, _)| *of == kind).count();
    if wrong > 0 {
        return format!("{wrong} WRONG");
    }
    let records = SET.records.iter().filter(|record| record.kind == kind);
    let signs = records.flat_map(|record| forms(cell, record)).map(|form| match form {
        Form::AsSent => "=",
        Form::JsonText => "text",
        Form::Other(_) => "other",
        Form::Nothing => "none",
    });
    let signs: BTreeSet<_> = signs.collect();
    if signs.is_empty() { "=".to_owned() } else { signs.into_iter().collect::<Vec<_>>().join(", ") }
}

/// What becomes of a record's parts.
fn forms(cell: &Cell, record: &Record) -> impl Iterator<Item = Form> {
    let (sdk, level) = (cell.sdk, &record.level);
    let same = |is_same| if is_same { Form::AsSent } else { Form::Other(Value::Null) };
    let value = record.value.as_ref().map(|value| differences::value(sdk, cell.transport, value));
    let body = record.body.as_ref().map(|body| differences::body(sdk, body));
    let event = record.event.as_deref();
    let event = event.map(|event| match differences::event(sdk, Some(event)) {
        Some(_) => Form::AsSent,
        None => Form::Nothing,
    });
    let exception = record.exception.as_ref();
    let exception = exception.map(|_| same(matches!(differences::exception(sdk), (Some(_), true))));
    let severity = same(differences::severity(sdk, level) == differences::severity(Sdk::Node, level));
    let severity = (record.kind == "severity").then_some(severity);
    [value, body, event, exception, severity].into_iter().flatten()
}
