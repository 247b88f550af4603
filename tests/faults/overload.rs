//! More arrives than finds room while PostgreSQL is away. The promises: a sender that floods drops its own records and
//! nobody else's, errors survive its DEBUG and INFO, and more senders than have a place of their own cost no memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use forebay::embedded::Stop;
use forebay::otlp::messages::{ExportLogsServiceRequest, LogRecord};
use support::forebay::{Forebay, get};
use support::postgres::{Database, Postgres};
use support::records::{numbered, request_of};
use support::sender::{Answer, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::chance::either;
use crate::oracle::{Account, Oracle, Sent, losses_are_written};

const QUEUE: &str = "exporters.postgres.sending_queue";
const FLOOD: &str = "flood";
/// The senders beside the one that floods.
const QUIET: u64 = 10;
/// The records of the flood for each record of another sender.
const TIMES: u64 = 100;
/// Each sender's records are numbered from here on.
const NUMBERS: u64 = 1_000_000_000;
const INFO: i32 = 9;

/// A severity for each number.
type Severity = fn(u64) -> i32;

/// A sender with a service of its own.
struct Tenant {
    service: String,
    sender: Sender,
    severity: Severity,
    in_a_request: u64,
    next: u64,
    oracle: Oracle,
}

impl Tenant {
    async fn new(
        forebay: &Forebay,
        index: u64,
        service: &str,
        in_a_request: u64,
        severity: Severity,
    ) -> Self {
        let (service, sender, next) = (service.to_owned(), forebay.sender().await, index * NUMBERS);
        Self { service, sender, severity, in_a_request, next, oracle: Oracle::default() }
    }

    /// Sends one request.
    async fn sends(mut self) -> Self {
        let numbers = self.next..self.next + self.in_a_request;
        self.next = numbers.end;
        let (request, sent) = (of(&self.service, numbers.clone(), self.severity), Instant::now());
        let answer = Answer::of(self.sender.send(request).await);
        self.oracle.answered(sent.elapsed(), answer);
        self.oracle.requests.push(Sent { numbers, answers: vec![answer] });
        self
    }
}

/// A request of numbered records of a service.
fn of(service: &str, numbers: Range<u64>, severity: Severity) -> ExportLogsServiceRequest {
    let record = |number| LogRecord { severity_number: severity(number), ..numbered(number) };
    request_of(service, numbers.map(record).collect())
}

/// Has each of them send a request, all at once.
async fn round(tenants: Vec<Tenant>) -> Vec<Tenant> {
    let mut sending = JoinSet::new();
    tenants.into_iter().for_each(|tenant| {
        sending.spawn(tenant.sends());
    });
    sending.join_all().await
}

/// The sums of the table of losses by `column` and reason.
async fn losses(database: &Database, column: &str) -> BTreeMap<(String, String), u64> {
    let sums =
        format!("SELECT {column}, reason, sum(records)::bigint FROM otel.losses GROUP BY {column}, reason");
    let rows = database.connect().await.query(&sums, &[]).await.unwrap();
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get::<_, i64>(2) as u64)).collect()
}

/// Ten senders and one that sends a hundred times as much, with PostgreSQL away in the middle; `sets` are the `--set` arguments. Returns
/// how many records each of the ten has lost, how many the other one, and the losses by service and reason.
async fn ten_beside_a_flood(sets: &[&str]) -> (Vec<u64>, u64, BTreeMap<(String, String), u64>) {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let forebay = Forebay::ready(database.dsn(), sets).await;
    let mut tenants = vec![Tenant::new(&forebay, QUIET, FLOOD, TIMES, |_| INFO).await];
    for index in 0..QUIET {
        let any = |number| 1 + (number % 24) as i32;
        tenants.push(Tenant::new(&forebay, index, &format!("quiet {index}"), 1, any).await);
    }
    let (rounds, pace) = either((200, Duration::from_millis(10)), (200, Duration::from_millis(300)));
    let mut pace = interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..20 {
        pace.tick().await;
        tenants = round(tenants).await;
    }
    forebay.settles().await;
    let began = Instant::now();
    postgres.stop(Stop::Fast).await;
    for _ in 0..rounds {
        pace.tick().await;
        tenants = round(tenants).await;
    }
    let away = began.elapsed();
    forebay.becomes_unready("database_unreachable").await;
    let largest = forebay.health().await.1["largest_senders"][0]["service"].clone();
    assert_eq!(largest, FLOOD, "the health page says who holds the most");
    postgres.start_again().await;
    forebay.becomes_ready().await;
    tenants = round(tenants).await;
    let page = forebay.settles().await;
    let (mut all, mut lost, mut quiet) = (Oracle::default(), 0, Vec::new());
    for tenant in tenants {
        match &*tenant.service {
            FLOOD => lost = tenant.oracle.rejected(),
            _ => quiet.push(tenant.oracle.rejected()),
        }
        all.add(tenant.oracle);
    }
    let account = all.settle(&database, &page).await;
    all.assert_answers_in_time();
    println!("ten beside a flood {sets:?}, away for {away:.1?}: {account}; {quiet:?} and {lost} dropped");
    let Account { lost: later, copies, refused, unanswered, .. } = account;
    assert_eq!((later, copies, refused, unanswered), (0, 0, 0, 0));
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    losses_are_written(&database, &page).await;
    (quiet, lost, losses(&database, "service").await)
}

/// Scenario: PostgreSQL is away, ten senders go on at their rate, and an eleventh sends a hundred times as much, of INFO. Promise: by default
/// the ten lose nothing, as they find room in the fifth that the flood leaves free; the table of losses has the eleventh alone, for its share.
/// With `drop_newest`, all ten lose some.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_costs_no_other_sender_a_record() {
    let (quiet, flood, losses) = ten_beside_a_flood(&[]).await;
    assert_eq!(quiet, [0; QUIET as usize]);
    assert!(flood > 0, "it is more than finds room");
    assert_eq!(losses, BTreeMap::from([((FLOOD.to_owned(), "share".to_owned()), flood)]));
    let (quiet, ..) = ten_beside_a_flood(&[&format!("{QUEUE}.overflow=drop_newest")]).await;
    assert!(quiet.iter().all(|lost| *lost > 0), "{quiet:?}");
}

/// The bands from the one that is dropped first, with a severity number of each.
const BANDS: [(&str, i32); 4] = [("DEBUG", 5), ("INFO", INFO), ("WARN", 13), ("ERROR", 17)];

/// The severity of a record of a flood of which `PERCENT` are of each band, well mixed.
fn mixed<const DEBUG: u64, const INFO: u64, const WARN: u64>(number: u64) -> i32 {
    // 37 and 100 have no common divisor.
    let place = number * 37 % 100;
    let ends = [DEBUG, DEBUG + INFO, DEBUG + INFO + WARN, 100];
    BANDS[ends.iter().position(|end| place < *end).unwrap()].1
}

/// A flood of `requests` requests of a hundred records, with PostgreSQL away. Returns the lost share of each band.
async fn a_flood_of(severity: Severity, requests: u64, sets: &[&str]) -> [f64; 4] {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let forebay = Forebay::ready(database.dsn(), sets).await;
    postgres.stop(Stop::Fast).await;
    forebay.becomes_unready("database_unreachable").await;
    let mut flood = Tenant::new(&forebay, 0, FLOOD, 100, severity).await;
    for _ in 0..requests {
        flood = flood.sends().await;
    }
    let told = flood.oracle.rejected();
    postgres.start_again().await;
    let page = forebay.settles().await;
    assert!(told <= page.value("log_buffer_dropped_total"), "the sender was told of no more");
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    losses_are_written(&database, &page).await;
    let (client, losses) = (database.connect().await, losses(&database, "severity").await);
    let mut shares = [0.0; 4];
    for (share, (band, number)) in shares.iter_mut().zip(BANDS) {
        let sent = (0..100 * requests).filter(|record| severity(*record) == number).count() as u64;
        let lost: u64 = losses.iter().filter(|((of, _), _)| of == band).map(|(_, records)| records).sum();
        let stored = "SELECT count(DISTINCT attributes->'number') FROM otel.logs WHERE severity_number = $1";
        let stored: i64 = client.query_one(stored, &[&(number as i16)]).await.unwrap().get(0);
        assert_eq!(sent, stored as u64 + lost, "the books of {band}");
        *share = lost as f64 / sent as f64;
    }
    println!("a flood of {requests} requests {sets:?}: {shares:.3?} of DEBUG, INFO, WARN and ERROR dropped");
    shares
}

/// Scenario: PostgreSQL is away, and one sender sends nearly twice as much as finds room, 5 % of it ERROR. Promise: no ERROR is lost, and
/// of WARN a smaller part than of INFO, and of that a smaller one than of DEBUG. Where the newest are dropped, ERROR is lost as well.
#[tokio::test(flavor = "multi_thread")]
async fn errors_survive_the_debug_of_their_own_sender() {
    let severity = mixed::<45, 40, 10>;
    let [debug, info, warn, error] = a_flood_of(severity, 180, &[]).await;
    assert_eq!(error, 0.0);
    assert!(0.0 < warn && warn < info && info < debug);
    let [.., error] = a_flood_of(severity, 180, &[&format!("{QUEUE}.overflow=drop_newest")]).await;
    assert!(error > 0.0);
}

/// Scenario: PostgreSQL is away, and one sender sends ten times as much as finds room, 5 % of it ERROR, with `beyond: drop_oldest`. Promise:
/// no ERROR and no WARN is lost, since DEBUG and INFO that wait make room.
#[tokio::test(flavor = "multi_thread")]
async fn errors_take_the_place_of_waiting_debug() {
    let sets = [&*format!("{QUEUE}.fairness.beyond=drop_oldest")];
    let [debug, info, warn, error] = a_flood_of(mixed::<46, 46, 3>, 1_000, &sets).await;
    assert_eq!((warn, error), (0.0, 0.0));
    assert!(0.0 < info && info <= debug);
}

/// Scenario: PostgreSQL is away, and ten thousand services send at once, ten times as many as have a place of their own, then others
/// again and again. Promise: a service that was there before loses nothing; memory grows by 4 MiB at most in the second half; the
/// metrics page and the table of losses know no more services than there are places.
#[tokio::test(flavor = "multi_thread")]
async fn more_senders_than_there_are_places() {
    const AT_ONCE: u64 = 10_000;
    const IN_A_REQUEST: u64 = 200;
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let mut shop = Tenant::new(&forebay, 1_000, "shop", 1, |_| INFO).await.sends().await;
    postgres.stop(Stop::Fast).await;
    forebay.becomes_unready("database_unreachable").await;
    let (sender, mut oracle, mut peaks) = (forebay.sender().await, Oracle::default(), Vec::new());
    for crowd in 0..either(5, 50) {
        let mut sending = JoinSet::new();
        for first in (crowd * AT_ONCE..(crowd + 1) * AT_ONCE).step_by(IN_A_REQUEST as usize) {
            let (sender, numbers) = (sender.clone(), first..first + IN_A_REQUEST);
            sending.spawn(async move {
                let one =
                    |number| of(&format!("service {number}"), number..number + 1, |_| INFO).resource_logs;
                let request =
                    ExportLogsServiceRequest { resource_logs: numbers.clone().flat_map(one).collect() };
                Sent { numbers, answers: vec![Answer::of(sender.send(request).await)] }
            });
        }
        oracle.requests.extend(sending.join_all().await);
        shop = shop.sends().await;
        peaks.push(forebay.peak() >> 20);
    }
    let (_, metrics) = get(&format!("http://{}/metrics", forebay.metrics_address())).await;
    postgres.start_again().await;
    let page = forebay.settles().await;
    let dropped = oracle.rejected();
    assert_eq!((shop.oracle.rejected(), shop.oracle.requests.len()), (0, peaks.len() + 1));
    oracle.add(shop.oracle);
    let account = oracle.settle(&database, &page).await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    losses_are_written(&database, &page).await;
    let services = losses(&database, "service").await;
    println!(
        "{} services: {account}; {peaks:?} MiB resident at most, {} bytes of metrics, losses of {} services",
        peaks.len() as u64 * AT_ONCE,
        metrics.len(),
        services.len()
    );
    assert_eq!((account.lost, account.rejected), (0, dropped));
    assert!(metrics.len() < 100_000 && services.len() <= 1_025);
    // Tables and caches of fixed size are full by then.
    assert!(peaks[peaks.len() - 1] <= peaks[peaks.len() / 2] + 4, "{peaks:?}");
}
