//! An outage that memory has no room for.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use forebay::embedded::Stop;
use support::eventually;
use support::forebay::Forebay;
use support::postgres::{Database, Postgres};
use support::records::numbered_request;
use support::sender::Answer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::{Home, rests};
use crate::chance::{assert_within, either};
use crate::oracle::{Oracle, Sent, p99};

/// Records that arrive during the outage, a hundred times of what memory has room for.
const BACKLOG: u64 = 200_000;
const SMALL: &str = "exporters.postgres.sending_queue.queue_size=2000";
const IN_A_REQUEST: u64 = 500;
const SENDERS: u64 = 4;
/// The time between two records that arrive later, and between two looks at the table.
const EVERY: Duration = Duration::from_millis(20);
/// The records that arrive while the backlog is written have numbers from here on.
const LIVE: u64 = 1_000_000_000_000;

/// Sends `numbers` by several senders; all of it is answered OK.
async fn send(forebay: &Forebay, numbers: std::ops::Range<u64>) -> Oracle {
    let each = (numbers.end - numbers.start) / SENDERS;
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (to, first) = (forebay.sender().await, numbers.start + sender * each);
        senders.spawn(async move {
            let mut oracle = Oracle::default();
            for at in (first..first + each).step_by(IN_A_REQUEST as usize) {
                let numbers = at..at + IN_A_REQUEST;
                let answer = Answer::of(to.send(numbered_request(numbers.clone())).await);
                assert_eq!(answer, Answer::Taken { rejected: 0 }, "the disk has room");
                oracle.requests.push(Sent { numbers, answers: vec![answer] });
            }
            oracle
        });
    }
    let mut all = Oracle::default();
    senders.join_all().await.into_iter().for_each(|one| all.add(one));
    all
}

/// Sends a record every 20 ms until the backlog is written; gives what was sent, and how long each took from its answer until it
/// could be read.
async fn send_live(forebay: &Forebay, database: &Database) -> (Oracle, Vec<Duration>) {
    let (sender, client) = (forebay.sender().await, database.connect().await);
    let (began, done) = (SystemTime::now(), watch::Sender::new(false));
    let is_done = done.subscribe();
    let sending = tokio::spawn(async move {
        let (mut oracle, mut answered, mut pace) = (Oracle::default(), Vec::new(), interval(EVERY));
        while !*is_done.borrow() {
            pace.tick().await;
            let number = LIVE + answered.len() as u64;
            let answer = Answer::of(sender.send(numbered_request(number..number + 1)).await);
            oracle.requests.push(Sent { numbers: number..number + 1, answers: vec![answer] });
            answered.push(Instant::now());
        }
        (oracle, answered)
    });
    // The load has sent all of its records before.
    let live = "SELECT trace_id FROM otel.log_records WHERE time >= $1";
    let live = client.prepare(live).await.unwrap();
    let mut seen: HashMap<u64, Instant> = HashMap::new();
    let mut look = async || {
        let found = client.query(&live, &[&began]).await.unwrap();
        let now = Instant::now();
        for row in found {
            let trace: Vec<u8> = row.get(0);
            seen.entry(u64::from_be_bytes(*trace.first_chunk().unwrap())).or_insert(now);
        }
        seen.len()
    };
    while forebay.scrape().await.value("log_buffer_flushed_total") < BACKLOG {
        look().await;
        sleep(EVERY).await;
    }
    done.send_replace(true);
    let (oracle, answered) = sending.await.unwrap();
    while look().await < answered.len() {
        sleep(EVERY).await;
    }
    let wait =
        |(at, answered): (usize, &Instant)| seen[&(LIVE + at as u64)].saturating_duration_since(*answered);
    let waits = answered.iter().enumerate().map(wait).collect();
    (oracle, waits)
}

/// Makes each transaction of a lane take 30 ms, so that a backlog takes a while.
const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END';
    CREATE TRIGGER slow AFTER UPDATE ON otel.lanes FOR EACH ROW EXECUTE FUNCTION slow()";

/// Scenario: PostgreSQL is away while 200,000 records arrive, with room for 2,000 in memory; then it comes back slowly, and records go
/// on arriving. Promise: all are answered OK, and stored exactly once; a record that arrives while the backlog is written can
/// be read within two seconds, long before the backlog's end.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_with_a_small_memory() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let home = Home::new(&database, &[SMALL]);
    let forebay = home.ready().await;
    database.connect().await.batch_execute(SLOW).await.unwrap();
    postgres.stop(Stop::Fast).await;
    let mut oracle = send(&forebay, 0..BACKLOG).await;
    let page = forebay.scrape().await;
    page.assert_balanced();
    assert_eq!(page.held(), BACKLOG);
    assert!(page.value("log_buffer_size") <= 2_000, "memory has room for no more");
    postgres.start_again().await;
    let back = Instant::now();
    // What arrives before memory has room again is behind the backlog.
    eventually("memory has room", || async {
        (forebay.scrape().await.value("log_buffer_flushed_total") > 2_000).then_some(())
    })
    .await;
    let (live, waits) = send_live(&forebay, &database).await;
    let (drained, count) = (back.elapsed(), waits.len());
    oracle.add(live);
    let late = p99(&waits);
    assert!(late < drained / 3, "99 of 100 can be read after {late:.1?}, the backlog took {drained:.1?}");
    assert_within(Duration::from_secs(2), late, "a record that arrives meanwhile can be read");
    let resident = forebay.peak();
    let limit = page.value("log_buffer_bytes_capacity") + (64 << 20);
    assert!(resident <= limit, "{resident} bytes were resident, {limit} may be");
    rests(&home, forebay, &database, &oracle).await;
    println!(
        "outage with {BACKLOG} records and a small memory: written in {drained:.1?}, p99 of {count} records that arrived \
         meanwhile {late:.1?}"
    );
}

/// Scenario: the same with `drain: fifo` and one lane, and records that arrive while the backlog is written. Promise: the rows are in the
/// table in the order in which the records arrived.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_with_a_small_memory_first_in_first_out() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let fifo = ["exporters.postgres.sending_queue.drain=fifo", "exporters.postgres.pool_size=1"];
    let home = Home::new(&database, &[&[SMALL][..], &fifo].concat());
    let forebay = home.ready().await;
    let (sender, backlog) = (forebay.sender().await, either(20_000, BACKLOG));
    postgres.stop(Stop::Fast).await;
    let mut oracle = Oracle::default();
    let mut restart = Some(postgres);
    // As many again arrive after it is back.
    for at in (0..2 * backlog).step_by(100) {
        if at == backlog {
            let mut postgres = restart.take().expect("once");
            postgres.start_again().await;
            restart = Some(postgres);
        }
        let answer = Answer::of(sender.send(numbered_request(at..at + 100)).await);
        oracle.requests.push(Sent { numbers: at..at + 100, answers: vec![answer] });
    }
    rests(&home, forebay, &database, &oracle).await;
    let order = "SELECT (attributes->>'number')::bigint FROM otel.log_records ORDER BY tableoid, ctid";
    let rows = database.connect().await.query(order, &[]).await.unwrap();
    let numbers: Vec<_> = rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect();
    let early = numbers.windows(2).find(|pair| pair[0] > pair[1]);
    assert_eq!(early, None, "a record was written before an older one");
    assert_eq!(numbers.len() as u64, 2 * backlog);
}
