//! Records that repeat each other while the buffer fills.

use ::forebay::otlp::messages::LogRecord;
use support::eventually;
use support::forebay::{Forebay, QUICK, run};
use support::postgres::database;
use support::records::{now, numbered, request};

use crate::reading::first_column;

const STORM: u64 = 100_000;

/// Scenario: PostgreSQL takes nothing, more than half of the buffer is taken, and a service sends the same error 100,000 times; then the
/// table is free again, or forebay is asked to end first. Guarantee: two rows stand for all of them, with counts that add up, and so
/// the histogram and `forebay query` say; the books balance.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_in_an_outage_is_two_rows() {
    for ends in [false, true] {
        let database = database().await;
        let window = "exporters.postgres.sending_queue.fold.window=1h";
        let sets = [QUICK, &["exporters.postgres.sending_queue.queue_size=1000", window]].concat();
        let mut forebay = Forebay::ready(database.dsn(), &sets).await;
        let (client, sender) = (database.connect().await, forebay.sender().await);
        client.batch_execute("BEGIN; LOCK TABLE otel.log_records").await.unwrap();
        let others = (0..501).map(|number| LogRecord { severity_number: 9, ..numbered(number) });
        sender.send(request(others.collect())).await.unwrap();
        let mut error = numbered(1_000_000);
        (error.time_unix_nano, error.severity_number) = (now(), 17);
        for _ in 0..STORM / 1000 {
            let answer = sender.send(request(vec![error.clone(); 1000])).await.unwrap();
            assert_eq!(answer.partial_success, None, "every record is represented");
        }
        let scrape = forebay.scrape().await;
        let of_error = scrape.sum("log_buffer_folded_total", "severity=\"error\"");
        assert_eq!((of_error, scrape.value("log_buffer_folding")), (STORM - 2, 1));
        scrape.assert_balanced();
        if ends {
            forebay.signal("TERM").await;
            eventually("it drains", async || (forebay.health().await.0 == 503).then_some(())).await;
        }
        client.batch_execute("COMMIT").await.unwrap();
        if ends {
            assert_eq!(forebay.ends().await.code(), Some(0), "{:#?}", forebay.said());
        } else {
            assert_eq!(forebay.settles().await.value("log_buffer_folding"), 0);
        }
        let counts = "SELECT coalesce(attributes->>'forebay.folded.count', 'none') || (trace_id IS NULL)
            FROM otel.logs WHERE severity_number = 17 ORDER BY 1 DESC";
        assert_eq!(
            first_column(&client, counts).await,
            ["nonefalse".to_owned(), format!("{}true", STORM - 1)]
        );
        for (folded, expected) in [("false", 503), ("true", 501 + STORM)] {
            let sum = format!(
                "SELECT sum(records) FROM otel.histogram('1 hour', until => now() + interval '1 hour', folded => {folded})"
            );
            assert_eq!(first_column(&client, &sum).await, [expected.to_string()]);
        }
        let query = run(database.dsn(), "query --severity ERROR", &[]).await;
        assert!(query.out.contains(" x 99,999"), "{query:?}");
    }
}
