//! A disk that is full, and the limit on what the queue takes of it.

use std::time::Duration;

use forebay::embedded::Stop;
use support::eventually;
use support::forebay::{Forebay, QUICK};
use support::metrics::Scrape;
use support::postgres::{Postgres, database};
use support::records::{numbered, pair, request, text};
use support::sender::{Answer, Sender};
use tokio::time::sleep;

use super::Home;
use crate::disk::SmallDisk;
use crate::oracle::{Account, Oracle, Sent};

/// Records in a request, each with this many bytes of padding.
const IN_A_REQUEST: u64 = 8;
const PADDING: usize = 64 << 10;
/// Requests that are sent while the disk is full.
const MORE: u64 = 40;

/// A sender of large requests.
struct Large {
    sender: Sender,
    oracle: Oracle,
    next: u64,
}

impl Large {
    async fn to(forebay: &Forebay) -> Self {
        Self { sender: forebay.sender().await, oracle: Oracle::default(), next: 0 }
    }

    /// Sends one request; gives the answer.
    async fn send(&mut self) -> Answer {
        let numbers = self.next..self.next + IN_A_REQUEST;
        self.next = numbers.end;
        let large = |number| {
            let mut record = numbered(number);
            record.attributes.push(pair("padding", text("x".repeat(PADDING))));
            record
        };
        let answer = Answer::of(self.sender.send(request(numbers.clone().map(large).collect())).await);
        self.oracle.requests.push(Sent { numbers, answers: vec![answer] });
        answer
    }

    /// Sends until `is_full`, and then some more; gives how many requests were taken before.
    async fn fill(&mut self, is_full: impl AsyncFn(Answer) -> bool) -> u64 {
        let mut taken = 0;
        loop {
            let answer = self.send().await;
            if is_full(answer).await {
                break;
            }
            taken += 1;
            assert!(taken < 2_000, "the disk does not get full");
        }
        for _ in 0..MORE {
            self.send().await;
        }
        taken
    }

    /// Sends until a request is taken whole, and then some more, all of which have to be.
    async fn goes_on(&mut self) {
        for _ in 0..100 {
            if self.send().await == (Answer::Taken { rejected: 0 }) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..5 {
            assert_eq!(self.send().await, Answer::Taken { rejected: 0 }, "there is space again");
        }
    }
}

/// A disk of 96 MiB that another program has filled to a half gets full by the queue, while PostgreSQL is away; later there is space
/// again, and then PostgreSQL. Gives what became of the records, and the metrics of the end; none where nothing can be mounted.
async fn a_full_disk(policy: &str) -> Option<(Account, Scrape)> {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let disk = SmallDisk::in_data_of(&database.connect().await, 96).await?;
    disk.fill_by(20);
    let overflow = format!("exporters.postgres.sending_queue.overflow={policy}");
    // With as much in memory as is on the disk, there would be nothing that may be dropped.
    let sets = [&*overflow, "exporters.postgres.sending_queue.queue_size=200"];
    let home = Home::at(disk.path().join("queue"), database.dsn(), &sets);
    let forebay = home.ready().await;
    postgres.stop(Stop::Fast).await;
    let mut large = Large::to(&forebay).await;
    let dropped =
        async || forebay.scrape().await.sum("log_buffer_dropped_total", "reason=\"drop_oldest\"") > 0;
    let is_full = async |answer| answer != (Answer::Taken { rejected: 0 }) || dropped().await;
    let taken = large.fill(is_full).await;
    let page = forebay.scrape().await;
    page.assert_balanced();
    if policy != "drop_oldest" {
        forebay.becomes_unready("disk").await;
    }
    disk.free();
    large.goes_on().await;
    forebay.scrape().await.assert_balanced();
    forebay.becomes_unready("database_unreachable").await;
    postgres.start_again().await;
    let page = forebay.settles().await;
    let account = large.oracle.settle(&database, &page).await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    println!("full disk after {taken} requests, {policy}: {account}");
    assert_eq!(account.unanswered + account.dead + account.copies, 0);
    postgres.stop(Stop::Fast).await;
    Some((account, page))
}

/// Scenario: the disk of the queue gets full while PostgreSQL is away, with `overflow: reject`. Promise: requests without space are
/// refused with a hint, health says so, nothing that was answered OK is lost, and requests are accepted again once there is space.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_with_reject() {
    let Some((account, page)) = a_full_disk("reject").await else { return };
    assert_eq!((account.lost, account.rejected), (0, 0));
    assert_eq!(page.sum("log_buffer_rejected_total", "reason=\"full\""), account.refused);
    assert!(account.refused >= MORE * IN_A_REQUEST, "{account}");
}

/// Scenario: the same with `drop_newest`. Promise: the answers count each record that is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_with_drop_newest() {
    let Some((account, page)) = a_full_disk("drop_newest").await else { return };
    assert_eq!((account.lost, account.refused), (0, 0));
    assert_eq!(page.sum("log_buffer_dropped_total", "reason=\"drop_newest\""), account.rejected);
    assert!(account.rejected >= MORE * IN_A_REQUEST, "{account}");
}

/// Scenario: the same with `drop_oldest`. Promise: what arrives is accepted, and as many of the oldest records as that takes are dropped,
/// and counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_with_drop_oldest() {
    let Some((account, page)) = a_full_disk("drop_oldest").await else { return };
    assert_eq!((account.rejected, account.refused), (0, 0), "{account}");
    assert_eq!(page.sum("log_buffer_dropped_total", "reason=\"drop_oldest\""), account.lost);
    assert!(account.lost > 0, "{account}");
}

/// Scenario: `max_size` is reached while PostgreSQL is away. Promise: the same as with a full disk; the directory takes no more than
/// that, and once PostgreSQL is back, there is space as soon as something is stored, although `keep_for` is not over.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_size_of_the_queue() {
    const LIMIT: u64 = 256 << 20;
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let sets = [
        "exporters.postgres.sending_queue.max_size=256MiB",
        "exporters.postgres.sending_queue.overflow=reject",
        "exporters.postgres.sending_queue.keep_for=1h",
    ];
    let home = Home::new(&database, &sets);
    let forebay = home.ready().await;
    postgres.stop(Stop::Fast).await;
    let mut large = Large::to(&forebay).await;
    large.fill(async |answer| answer == Answer::Refused).await;
    let page = forebay.scrape().await;
    page.assert_balanced();
    let files = std::fs::read_dir(home.directory()).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(page.value("log_buffer_disk_bytes") <= LIMIT && bytes <= LIMIT + 8192, "{bytes} bytes");
    assert!(bytes > LIMIT - (2 << 20), "only {bytes} bytes are used");
    forebay.becomes_unready("disk").await;
    postgres.start_again().await;
    eventually("something is stored", || async {
        (forebay.scrape().await.held() < page.held() / 2).then_some(())
    })
    .await;
    large.goes_on().await;
    forebay.becomes_ready().await;
    let page = forebay.settles().await;
    let account = large.oracle.settle(&database, &page).await;
    assert_eq!((account.lost, account.rejected, account.copies), (0, 0, 0));
    assert!(account.refused >= MORE * IN_A_REQUEST, "{account}");
    assert_eq!(forebay.terminate().await.0, Some(0));
}

/// Scenario: PostgreSQL stores all that arrives, more than `max_size`, within `keep_for`. Promise: what is stored gives way to what
/// arrives, and nothing is refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_a_standby_gives_way() {
    let database = database().await;
    let sets =
        ["exporters.postgres.sending_queue.max_size=256MiB", "exporters.postgres.sending_queue.keep_for=1h"];
    let home = Home::new(&database, &[&sets[..], QUICK].concat());
    let forebay = home.ready().await;
    let mut large = Large::to(&forebay).await;
    for _ in 0..(320 << 20) / (IN_A_REQUEST * PADDING as u64) {
        assert_eq!(large.send().await, Answer::Taken { rejected: 0 });
        eventually("PostgreSQL keeps up", || async { (forebay.scrape().await.held() < 100).then_some(()) })
            .await;
    }
    let page = forebay.settles().await;
    assert!(page.value("log_buffer_disk_bytes") <= 256 << 20);
    let account = large.oracle.settle(&database, &page).await;
    assert_eq!(account.stored, account.sent);
    assert_eq!(forebay.terminate().await.0, Some(0));
}
