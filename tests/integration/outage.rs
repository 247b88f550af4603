//! The database goes away under load and comes back.

use std::time::Duration;

use support::eventually;
use support::forebay::Forebay;
use support::metrics::Scrape;
use support::postgres::{Database, Postgres};
use support::sender::{Sender, Told};
use support::stored;
use tokio::sync::watch;
use tokio::task::JoinSet;

use ::forebay::embedded::Stop;

/// A buffer that a second of the load fills.
const CAPACITY: u64 = 2_000;
const OUTAGE: Duration = Duration::from_secs(20);

/// A forebay with one policy, and the senders that load it.
struct Loaded {
    forebay: Forebay,
    database: Database,
    senders: JoinSet<Told>,
    end: watch::Sender<bool>,
}

impl Loaded {
    async fn start(postgres: &Postgres, policy: &str) -> Self {
        let database = postgres.database().await;
        let sets = [
            format!("exporters.postgres.sending_queue.overflow={policy}"),
            format!("exporters.postgres.sending_queue.queue_size={CAPACITY}"),
            // With all of them in flight drop_oldest would have nothing to evict.
            format!("processors.batch.send_batch_max_size={}", CAPACITY / 4),
        ];
        let forebay = Forebay::ready(database.dsn(), &sets.each_ref().map(String::as_str)).await;
        let (end, ended) = watch::channel(false);
        let mut senders = JoinSet::new();
        for index in 0..2 {
            let sender = forebay.sender().await;
            senders.spawn(send_steadily(sender, index * 1_000_000_000, ended.clone()));
        }
        Self { forebay, database, senders, end }
    }

    /// Ends the load; gives what the senders were told, what the page says, and checks what must always hold.
    async fn balance(self) -> (Told, Scrape) {
        self.end.send_replace(true);
        let mut told = Told::default();
        self.senders.join_all().await.into_iter().for_each(|one| told.add(one));
        let scrape = self.forebay.settles().await;
        let stored = stored(&self.database).await;
        stored.assert_holds_each_once(&[]);
        assert_eq!(told.unanswered, 0);
        assert_eq!(told.sent, scrape.value("log_buffer_received_total"));
        assert_eq!(stored.rows(), scrape.value("log_buffer_flushed_total"));
        let dropped = scrape.value("log_buffer_dropped_total");
        let rejected = scrape.value("log_buffer_rejected_total");
        assert_eq!(told.sent, stored.rows() + dropped + rejected, "sent = stored + counted losses");
        (told, scrape)
    }
}

/// Sends ten records every five milliseconds, whatever the answers are.
async fn send_steadily(sender: Sender, first: u64, ended: watch::Receiver<bool>) -> Told {
    let mut told = Told::default();
    let mut number = first;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while !*ended.borrow() {
        pace.tick().await;
        sender.send_numbered(number..number + 10, &mut told).await;
        number += 10;
    }
    told
}

/// Scenario: PostgreSQL is stopped for 20 s under load, with each policy. Guarantee: the buffer fills and sheds as
/// the policy says, forebay recovers by itself, and sent = stored + counted losses, exactly. (How long the answers
/// take is for `cargo bench --bench outage` to say, which has the machine for itself.)
#[tokio::test(flavor = "multi_thread")]
async fn twenty_seconds_without_the_database() {
    let mut postgres = Postgres::start().await;
    let mut loaded = Vec::new();
    for policy in ["drop_newest", "drop_oldest", "reject"] {
        loaded.push(Loaded::start(&postgres, policy).await);
    }
    for one in &loaded {
        flushes_another_thousand(&one.forebay).await;
    }
    postgres.stop(Stop::Fast).await;
    let back = tokio::time::Instant::now() + OUTAGE;
    for one in &loaded {
        one.forebay.becomes_unready("database_unreachable").await;
        eventually("the buffer is full and sheds", || async {
            let scrape = one.forebay.scrape().await;
            let shed = scrape.value("otelcol_exporter_enqueue_failed_log_records_total");
            (scrape.value("log_buffer_size") + 10 > CAPACITY && shed > 0).then_some(())
        })
        .await;
    }
    tokio::time::sleep_until(back).await;
    postgres.start_again().await;
    for one in &loaded {
        one.forebay.becomes_ready().await;
        flushes_another_thousand(&one.forebay).await;
        let errors = one.forebay.scrape().await.sum("log_buffer_flush_errors_total", r#"class="connection""#);
        assert!(errors > 0, "the failures of the outage are counted");
    }
    let mut loaded = loaded.into_iter();
    let mut next = || loaded.next().expect("three policies").balance();

    let (told, scrape) = next().await;
    assert!(told.rejected > 0 && told.refused == 0, "drop_newest tells the sender how many it has shed");
    assert_eq!(scrape.sum("log_buffer_dropped_total", r#"reason="drop_newest""#), told.rejected);

    let (told, scrape) = next().await;
    assert_eq!((told.rejected, told.refused), (0, 0), "drop_oldest takes what arrives");
    assert!(scrape.sum("log_buffer_dropped_total", r#"reason="drop_oldest""#) > 0);

    let (told, scrape) = next().await;
    assert!(told.refused > 0 && told.rejected == 0, "reject gives back whole requests");
    assert_eq!(scrape.sum("log_buffer_rejected_total", r#"reason="full""#), told.refused);
    assert_eq!(scrape.value("log_buffer_dropped_total"), 0);
}

async fn flushes_another_thousand(forebay: &Forebay) {
    let before = forebay.scrape().await.value("log_buffer_flushed_total");
    eventually("a thousand more are written", || async {
        (forebay.scrape().await.value("log_buffer_flushed_total") > before + 1000).then_some(())
    })
    .await;
}
