//! An outage that memory has no room for.

use std::time::Duration;

use forebay::embedded::Stop;
use support::eventually;
use support::forebay::Forebay;
use support::postgres::{Database, Postgres};
use support::records::numbered_request;
use support::sender::Answer;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Home, rests};
use crate::chance::{assert_within, either};
use crate::oracle::{Oracle, Sent, p99};

/// Records that arrive during the outage, a hundred times of what memory has room for.
const BACKLOG: u64 = 200_000;
const SMALL: &str = "exporters.postgres.sending_queue.queue_size=2000";
const IN_A_REQUEST: u64 = 500;
const SENDERS: u64 = 4;
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

/// Sends a record every 50 ms until the backlog is written; gives what was sent, and how long each took until it could be read.
async fn send_live(forebay: &Forebay, database: &Database) -> (Oracle, Vec<Duration>) {
    let (sender, client) = (forebay.sender().await, database.connect().await);
    let visible = "SELECT 1 FROM otel.log_records WHERE time > now() - interval '1 minute' AND trace_id = $1";
    let visible = client.prepare(visible).await.unwrap();
    let (mut oracle, mut waits) = (Oracle::default(), Vec::new());
    while forebay.scrape().await.held() > 0 {
        let number = LIVE + waits.len() as u64;
        let trace = number.to_be_bytes().repeat(2);
        let answer = Answer::of(sender.send(numbered_request(number..number + 1)).await);
        oracle.requests.push(Sent { numbers: number..number + 1, answers: vec![answer] });
        let answered = Instant::now();
        eventually("a record that arrives now can be read", || async {
            client.query_opt(&visible, &[&trace]).await.unwrap()
        })
        .await;
        waits.push(answered.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    (oracle, waits)
}

/// Scenario: PostgreSQL is away while 200,000 records arrive, with room for 2,000 in memory; then it comes back, and records go on
/// arriving. Promise: all are answered OK, and stored exactly once; a record that arrives while the backlog is written can be
/// read within two seconds.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_with_a_small_memory() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let home = Home::new(&database, &[SMALL]);
    let forebay = home.ready().await;
    postgres.stop(Stop::Fast).await;
    let mut oracle = send(&forebay, 0..BACKLOG).await;
    let page = forebay.scrape().await;
    page.assert_balanced();
    assert_eq!(page.held(), BACKLOG);
    assert!(page.value("log_buffer_size") <= 2_000, "memory has room for no more");
    postgres.start_again().await;
    let back = Instant::now();
    let (live, waits) = send_live(&forebay, &database).await;
    let (drained, count) = (back.elapsed(), waits.len());
    oracle.add(live);
    assert_within(Duration::from_secs(2), p99(&waits), "a record that arrives meanwhile can be read");
    let resident = forebay.peak();
    let limit = page.value("log_buffer_bytes_capacity") + (64 << 20);
    assert!(resident <= limit, "{resident} bytes were resident, {limit} may be");
    rests(&home, forebay, &database, &oracle).await;
    println!(
        "outage with {BACKLOG} records and a small memory: written in {drained:.1?}, p99 of {count} records that arrived \
         meanwhile {:.0?}",
        p99(&waits)
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
