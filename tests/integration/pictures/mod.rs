//! Pictures of the dashboards for the documentation, drawn from their JSON and from what really happened: three minutes of
//! five services, a lock that holds the store up for a while, and a constraint that refuses some records.

mod draw;

use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::otlp::messages::{ExportLogsServiceRequest, LogRecord, Resource};
use prost::Message as _;
use serde_json::Value;
use support::forebay::Forebay;
use support::postgres::database;
use support::prometheus::Prometheus;
use support::records::{now, pair, request, text};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::dashboards::{as_grafana_sends, board, deploy};
use draw::{Line, Shown, picture};

const LASTS: Duration = Duration::from_secs(180);
/// The store is locked for this part of that.
const LOCKED: std::ops::Range<Duration> = Duration::from_secs(90)..Duration::from_secs(110);
/// Points of a line.
const POINTS: u64 = 90;

/// Drawn by `./dev pictures`, which takes three minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it draws pictures for docs; ./dev pictures runs it"]
async fn drawn() {
    let database = database().await;
    let sets = ["exporters.postgres.sending_queue.queue_size=20000"];
    let forebay = Forebay::ready(database.dsn(), &sets).await;
    let rules = ["recording", "alerts"].map(|rules| deploy(&format!("prometheus/rules/{rules}.yml")));
    let prometheus = Prometheus::of(forebay.metrics_address(), &rules.each_ref().map(|path| &**path)).await;
    let client = database.connect().await;
    client
        .batch_execute("ALTER TABLE otel.log_records ADD CHECK (body NOT LIKE 'refund of % refused')")
        .await
        .unwrap();
    let begun = Instant::now();
    tokio::join!(load(&forebay, begun), hold_up(&client, begun));
    forebay.settles().await;
    let end = now() as f64 / 1e9;
    let times = [end - LASTS.as_secs_f64(), end];
    let health = board("forebay-health");
    let mut shown = Vec::new();
    for panel in health["panels"].as_array().unwrap() {
        shown.push(of_prometheus(&prometheus, panel, times).await);
    }
    save("health", &picture(&health, &shown, times));
    let logs = board("forebay-logs");
    let mut shown = Vec::new();
    for panel in logs["panels"].as_array().unwrap() {
        shown.push(of_postgres(&client, &logs, panel).await);
    }
    save("logs", &picture(&logs, &shown, times));
}

fn save(name: &str, svg: &str) {
    let file = deploy("../docs").join(format!("dashboard-{name}.svg"));
    std::fs::write(&file, svg).unwrap();
    eprintln!("drew {}", file.display());
}

/// A request each 50 ms: 300 records/s, then 3,000 for a while.
async fn load(forebay: &Forebay, begun: Instant) {
    let sender = forebay.sender().await;
    let mut number = 0;
    let mut due = tokio::time::interval(Duration::from_millis(50));
    while begun.elapsed() < LASTS {
        due.tick().await;
        let flood = LOCKED.contains(&begun.elapsed());
        let requests = (0..5).map(|service| of_service(service, &mut number, if flood { 30 } else { 3 }));
        let resource_logs = requests.flat_map(|request| request.resource_logs).collect();
        let request = ExportLogsServiceRequest { resource_logs };
        let _ = sender.send_bytes(Bytes::from(request.encode_to_vec())).await;
    }
}

async fn hold_up(client: &Client, begun: Instant) {
    tokio::time::sleep_until((begun + LOCKED.start).into()).await;
    client.batch_execute("BEGIN; LOCK TABLE otel.log_records IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
    tokio::time::sleep_until((begun + LOCKED.end).into()).await;
    client.batch_execute("COMMIT").await.unwrap();
}

/// What a service logs: severity, body.
const SERVICES: [(&str, [(i32, &str); 4]); 5] = [
    (
        "shop",
        [
            (9, "order # placed"),
            (9, "cart # updated"),
            (13, "slow answer of payment: # ms"),
            (5, "cache miss for item #"),
        ],
    ),
    (
        "payment",
        [
            (9, "payment # captured"),
            (9, "card # verified"),
            (17, "payment # declined: insufficient funds"),
            (17, "refund of # refused"),
        ],
    ),
    (
        "search",
        [
            (9, "query answered in # ms"),
            (5, "# candidates ranked"),
            (9, "index segment # merged"),
            (1, "term # expanded"),
        ],
    ),
    (
        "gateway",
        [
            (9, "GET /orders/# 200"),
            (9, "GET /items/# 200"),
            (13, "GET /items/# 404"),
            (17, "GET /orders/# 502: no upstream answers"),
        ],
    ),
    (
        "mail",
        [
            (9, "mail # sent"),
            (13, "mail # deferred"),
            (21, "queue # is corrupt, giving up"),
            (9, "template # rendered"),
        ],
    ),
];

fn of_service(service: usize, number: &mut u64, records: usize) -> ExportLogsServiceRequest {
    let (name, messages) = SERVICES[service];
    let records = (0..records).map(|_| {
        *number += 1;
        // The first two are the usual ones.
        let (severity_number, message) = messages[match *number % 41 {
            0 => 3,
            7 => 2,
            odd => (odd % 2) as usize,
        }];
        LogRecord {
            time_unix_nano: now(),
            severity_number,
            body: Some(text(message.replace('#', &(*number * 7919 % 100_000).to_string()))),
            attributes: vec![pair("region", text(["eu-1", "us-2"][(*number % 2) as usize]))],
            trace_id: (*number / 5).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().repeat(2).into(),
            span_id: number.to_be_bytes().to_vec().into(),
            ..Default::default()
        }
    });
    let mut request = request(records.collect());
    request.resource_logs[0].resource =
        Some(Resource { attributes: vec![pair("service.name", text(name))], dropped_attributes_count: 0 });
    request
}

async fn of_prometheus(prometheus: &Prometheus, panel: &Value, [start, end]: [f64; 2]) -> Shown {
    let mut lines = Vec::new();
    for target in panel["targets"].as_array().unwrap() {
        let query = target["expr"].as_str().unwrap().replace("$job", ".*").replace("$instance", ".*");
        if panel["type"] == "stat" {
            return Shown::Number(prometheus.value(&query).await.unwrap_or(0.0));
        }
        for series in prometheus.range(&query, start, end, (end - start) / POINTS as f64).await {
            let mut name = target["legendFormat"].as_str().unwrap().to_owned();
            for (label, value) in series["metric"].as_object().unwrap() {
                let value = if label == "instance" { "forebay-1" } else { value.as_str().unwrap() };
                name = name.replace(&format!("{{{{{label}}}}}"), value);
            }
            let points = series["values"].as_array().unwrap().iter().filter_map(|point| {
                Some((
                    point[0].as_f64()?,
                    point[1].as_str()?.parse().ok().filter(|value: &f64| value.is_finite())?,
                ))
            });
            lines.push(Line { name, points: points.collect() });
        }
    }
    Shown::Lines(lines)
}

async fn of_postgres(client: &Client, board: &Value, panel: &Value) -> Shown {
    let trace =
        "SELECT trace_id FROM otel.logs WHERE severity = 'ERROR' AND service_name = 'gateway' LIMIT 1";
    let trace: String = client.query_one(trace, &[]).await.unwrap().get(0);
    let variables =
        [("service", None), ("severity", None), ("text", Some("")), ("trace", Some(trace.as_str()))];
    let target = &panel["targets"][0];
    let sql = as_grafana_sends(board, target["rawSql"].as_str().unwrap(), &variables).replace("'1m'", "'2s'");
    let mut names = Vec::new();
    let mut rows = Vec::new();
    for message in client.simple_query(&sql).await.unwrap() {
        if let SimpleQueryMessage::Row(row) = message {
            names = row.columns().iter().map(|column| column.name().to_owned()).collect();
            rows.push((0..row.len()).map(|place| row.get(place).unwrap_or_default().to_owned()).collect());
        }
    }
    if target["format"] == "table" { Shown::Table { names, rows } } else { Shown::Lines(lines_of(rows)) }
}

/// Rows of time, name and value as lines.
fn lines_of(rows: Vec<Vec<String>>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let [time, name, value] = &row[..] else { panic!("time, metric and value: {row:?}") };
        let time: jiff::Timestamp = time.replace("+00", "Z").parse().unwrap();
        let point = (time.as_nanosecond() as f64 / 1e9, value.parse().unwrap());
        match lines.iter_mut().find(|line| line.name == *name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: name.clone(), points: vec![point] }),
        }
    }
    lines
}
