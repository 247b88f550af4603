//! Times: those of records that no calendar foresees, and a clock that jumps. What must hold: every time finds its place,
//! and nothing of forebay's waits by the clock on the wall.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::otlp::messages::LogRecord;
use forebay::table::partition::{Period, Width};
use support::eventually;
use support::forebay::{Forebay, arguments, command};
use support::postgres::database;
use support::records::{now, numbered, request};
use support::sender::{Answer, Sender};
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::chance::{assert_within, either};
use crate::oracle::{Oracle, Sent};
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);
const DAY: i64 = 24 * 3600;
const NANOS: u64 = 1_000_000_000;
/// Numbers of records that the load does not use.
const OTHERS: u64 = 100_000_000_000;

/// Sends records of these numbers with times of their own.
async fn send(
    sender: &Sender,
    numbers: std::ops::Range<u64>,
    time: impl Fn(u64) -> u64,
    oracle: &mut Oracle,
) {
    let timed = |number| LogRecord { time_unix_nano: time(number), ..numbered(number) };
    let answer = Answer::of(sender.send(request(numbers.clone().map(timed).collect())).await);
    assert_eq!(answer, Answer::Taken { rejected: 0 });
    oracle.requests.push(Sent { numbers, answers: vec![answer] });
}

/// Rows in the default partition, and how many partitions there are beside it.
async fn default_partition(client: &Client) -> (i64, i64) {
    let rows = "SELECT count(*) FROM otel.log_records JOIN pg_class ON pg_class.oid = log_records.tableoid \
                WHERE pg_get_expr(relpartbound, pg_class.oid) = 'DEFAULT'";
    let others = "SELECT count(*) - 1 FROM pg_inherits WHERE inhparent = 'otel.log_records'::regclass";
    let count = async |query: &str| client.query_one(query, &[]).await.unwrap().get(0);
    (count(rows).await, count(others).await)
}

/// Fault 22. Scenario: between the load's records come some from 1970, from the last nanoseconds that 64 bits have with and
/// without a sign (2262 and 2554), and from months ago and ahead. Promise: all of them are stored as what they are, in the
/// default partition; no partition is made for them, and none is held up or a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn times_beyond_all_days() {
    let database = database().await;
    let scene = Scene::begin(&database, database.dsn(), &[]).await;
    let client = database.connect().await;
    let (_, partitions) = default_partition(&client).await;
    let months = 100 * DAY as u64 * 1_000_000_000;
    let times = [1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX, now() - months, now() + months];
    let (sender, mut oracle) = (scene.forebay.sender().await, Oracle::default());
    let all = either(3_000, 120_000);
    for first in (OTHERS..OTHERS + all).step_by(12) {
        send(&sender, first..first + 12, |number| times[number as usize % times.len()], &mut oracle).await;
    }
    let recovery = scene.recovers().await;
    let account = scene.ends_with("fault 22, times beyond all days", recovery, oracle).await;
    assert_eq!(account.lost + account.dead + account.copies + account.rejected, 0);
    assert_eq!(default_partition(&client).await, (all as i64, partitions));
    let ends = client.query_one("SELECT min(time)::date::text, max(time)::date::text FROM otel.logs", &[]);
    let ends = ends.await.unwrap();
    assert_eq!((ends.get(0), ends.get(1)), ("1970-01-01", "2554-07-21"));
}

/// The library that gives a program another time than the system's.
fn libfaketime() -> PathBuf {
    let places = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let found = places.map(|place| place.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime is missing; ./dev test installs it")
}

/// A forebay whose clock is as far from the system's as the file `control` says.
async fn forebay_by_clock(dsn: &str, control: &Path) -> Forebay {
    let mut command = command();
    command.env("DATABASE_URL", dsn).args(arguments(&[])).env("LD_PRELOAD", libfaketime());
    command.env("FAKETIME_TIMESTAMP_FILE", control).env("FAKETIME_CACHE_DURATION", "1");
    // As with a clock that is set: the one that only runs goes on.
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let forebay = Forebay::spawn(command).await;
    forebay.becomes_ready().await;
    forebay
}

/// Scenario: a record of each of the next thirty days; then the clock is ten days on, once while forebay runs and once at a start.
/// Promise: days that come within reach get their partitions with the records that were there before, by a lane that meets
/// such a day, and by the start; none of their records stays in the default partition.
#[tokio::test(flavor = "multi_thread")]
async fn days_get_their_records_when_they_come() {
    let database = database().await;
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("clock");
    fs::write(&control, "+0").unwrap();
    let forebay = forebay_by_clock(database.dsn(), &control).await;
    let (client, noon) =
        (database.connect().await, (now() / NANOS / DAY as u64 * DAY as u64 + 43_200) * NANOS);
    let day = |number: u64| noon + number * DAY as u64 * NANOS;
    let (sender, mut oracle) = (forebay.sender().await, Oracle::default());
    send(&sender, 0..30, |number| day(number + 1), &mut oracle).await;
    forebay.settles().await;
    assert_eq!(default_partition(&client).await, (27, 4));
    fs::write(&control, "+10d").unwrap();
    let numbers = AtomicU64::new(100);
    eventually("a lane makes the partition of such a day", || async {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        send(&sender, number..number + 1, |_| day(12), &mut Oracle::default()).await;
        forebay.settles().await;
        (default_partition(&client).await.1 == 5).then_some(())
    })
    .await;
    let sent = numbers.into_inner() - 100;
    let of_the_day = format!("SELECT count(*) FROM otel.log_records_{}", utc_date(day(12)));
    let found: i64 = client.query_one(&of_the_day, &[]).await.unwrap().get(0);
    assert_eq!(found as u64, 1 + sent, "with all of its records");
    forebay.terminate().await;
    let _forebay = forebay_by_clock(database.dsn(), &control).await;
    // The days of 4 to 13 from now were in the default partition and are within reach.
    eventually("all others follow", || async {
        (default_partition(&client).await == (17, 4 + 10)).then_some(())
    })
    .await;
    let astray = "SELECT count(*) FROM otel.log_records WHERE tableoid <> 'otel.log_records_default'::regclass AND \
                  tableoid::regclass::text <> to_char(time AT TIME ZONE 'UTC', '\"otel.log_records_\"YYYYMMDD')";
    assert_eq!(client.query_one(astray, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// The day of a time, as partitions are named.
fn utc_date(unix_nano: u64) -> String {
    let period = Period::at((unix_nano / NANOS) as i64, Width::Day).name();
    period.strip_prefix("log_records_").unwrap().to_owned()
}

/// How far the record with this number was received from now, in days; `None` until it is stored.
async fn received_days_from_now(client: &Client, number: u64) -> Option<i64> {
    let days = "SELECT round(extract(epoch FROM time - now()) / 86400)::bigint FROM otel.logs \
                WHERE attributes->>'number' = $1";
    client.query_opt(days, &[&number.to_string()]).await.unwrap().map(|row| row.get(0))
}

/// Scenario: forebay's clock is set back by two days, forward by four hundred, back to before 1970, and put right. Promise:
/// nothing waits for the clock to come back: what comes without a time is written at once, under whatever time it is taken
/// for; the load goes on, and the end comes in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps() {
    let database = database().await;
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("clock");
    fs::write(&control, "+0").unwrap();
    let scene = Scene::on(forebay_by_clock(database.dsn(), &control).await, &database).await;
    let client = database.connect().await;
    let (sender, mut oracle, mut numbers) = (scene.forebay.sender().await, Oracle::default(), OTHERS..);
    let since_1970 = now() as i64 / 1_000_000_000 / DAY;
    let mut longest = Duration::ZERO;
    for days in [-2, 400, -30_000, 0] {
        fs::write(&control, format!("{days:+}d")).unwrap();
        let expected = days.max(-since_1970);
        loop {
            let number = numbers.next().unwrap();
            let sent = Instant::now();
            send(&sender, number..number + 1, |_| 0, &mut oracle).await;
            let found = eventually("it is written", || received_days_from_now(&client, number)).await;
            longest = longest.max(sent.elapsed());
            if (found - expected).abs() <= 1 {
                break;
            }
        }
        scene.recovers().await;
    }
    assert_within(2 * SECOND, longest, "a record is written");
    let ending = Instant::now();
    let fault =
        format!("a clock that jumps, a record without a time was written after {longest:.1?} at most");
    let account = scene.ends_with(&fault, Duration::ZERO, oracle).await;
    assert_within(10 * SECOND, ending.elapsed(), "the end");
    assert_eq!(account.lost + account.dead + account.copies + account.rejected, 0);
}
