//! Failover to a standby that lags: commits that PostgreSQL has lost are made again.

use forebay::embedded::Stop;
use support::eventually;
use support::postgres::Database;

use super::{Home, kill, rests};
use crate::chance::either;
use crate::failover::Pair;
use crate::load::Load;

impl Pair {
    /// The records in this database.
    async fn rows(database: &Database) -> i64 {
        let count = "SELECT count(*) FROM otel.log_records";
        database.connect().await.query_one(count, &[]).await.map_or(0, |row| row.get(0))
    }

    /// Waits until the standby has records, cuts it off, and waits until the primary has that many `more`.
    async fn falls_behind(&self, more: i64) -> i64 {
        eventually("the standby follows", || async { (Self::rows(&self.copy).await > 0).then_some(()) })
            .await;
        self.line.set_silent(true);
        let seen = Self::rows(&self.copy).await;
        eventually("the standby lags", || async {
            let ahead = Self::rows(&self.database).await - seen;
            (ahead >= more).then_some(ahead)
        })
        .await
    }

    /// Waits until more records are stored where the standby was.
    async fn goes_on(&self) {
        let before = Self::rows(&self.copy).await;
        eventually("the new primary stores records", || async {
            (Self::rows(&self.copy).await > before).then_some(())
        })
        .await;
    }

    /// The primary is gone, and the standby is promoted.
    async fn fails_over(&mut self) {
        self.primary.stop(Stop::Immediate).await;
        let client = self.copy.connect().await;
        assert!(client.query_one("SELECT pg_promote()", &[]).await.unwrap().get::<_, bool>(0));
    }
}

/// Scenario: an asynchronous standby is cut off, the primary goes on for thousands of records, is stopped, and the standby is promoted,
/// under load all the while. Promise: the records that the standby has not got are sent again, so that each record that was
/// answered OK is stored there exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_standby_lacks_is_sent_again() {
    let mut pair = Pair::asynchronous().await;
    let home = Home::on(&pair.dsn(), &[]);
    let forebay = home.ready().await;
    let load = Load::once(forebay.endpoint(), 0);
    let ahead = pair.falls_behind(either(4_000, 40_000)).await;
    pair.fails_over().await;
    eventually("the loss is noticed", || async {
        let lost = forebay.scrape().await.value("log_buffer_recovered_total");
        (lost >= ahead as u64).then_some(())
    })
    .await;
    pair.goes_on().await;
    let oracle = load.end().await;
    rests(&home, forebay, &pair.copy, &oracle).await;
    println!("failover to a standby that lacks {ahead} records: all are sent again, and stored once");
}

/// Scenario: the same, and forebay is killed before the failover, so that the next one has never seen the primary. Promise: the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_standby_lacks_is_sent_again_by_the_next_forebay() {
    let mut pair = Pair::asynchronous().await;
    let home = Home::on(&pair.dsn(), &[]);
    let forebay = home.ready().await;
    let load = Load::once(forebay.endpoint(), 0);
    let ahead = pair.falls_behind(either(4_000, 40_000)).await;
    kill(forebay).await;
    pair.fails_over().await;
    let next = home.ready().await;
    load.turn_to(next.endpoint());
    pair.goes_on().await;
    let oracle = load.end().await;
    let page = rests(&home, next, &pair.copy, &oracle).await;
    assert!(page.value("log_buffer_recovered_total") >= ahead as u64, "{ahead} records were lost");
}
