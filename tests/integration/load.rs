//! A million records at full speed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use support::forebay::Forebay;
use support::postgres::database;
use support::records::numbered_request;
use support::sender::{Sender, retry_delay};
use tokio::task::JoinSet;

const RECORDS: u64 = 1_000_000;
const IN_A_REQUEST: u64 = 500;
const IN_FLIGHT: usize = 8;

/// Sends requests until none is left; a request that is refused is sent again, as an SDK would. Gives the number
/// of refusals.
async fn send_all(sender: Sender, next: Arc<AtomicU64>) -> u64 {
    let mut refusals = 0;
    loop {
        let first = next.fetch_add(IN_A_REQUEST, Ordering::Relaxed);
        if first >= RECORDS {
            return refusals;
        }
        let request: Bytes = numbered_request(first..first + IN_A_REQUEST).encode_to_vec().into();
        loop {
            match sender.send_bytes(request.clone()).await {
                Ok(response) => {
                    assert_eq!(response.partial_success, None, "a refusal is whole");
                    break;
                }
                Err(status) => {
                    assert!(retry_delay(&status).is_some(), "{status:?}");
                    refusals += 1;
                    // The hint is a second or two; full speed asks again sooner.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

/// Scenario: eight requests in flight at full speed against the default buffer, which refuses what does not fit.
/// Guarantee: all are stored, none twice, the books balance, and memory stays near what the buffer may hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_records_with_eight_requests_in_flight() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.sending_queue.overflow=reject"]).await;
    let next = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        senders.spawn(send_all(forebay.sender().await, next.clone()));
    }
    let refusals: u64 = senders.join_all().await.into_iter().sum();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), RECORDS);
    assert_eq!(scrape.value("log_buffer_dropped_total"), 0);
    assert_eq!(scrape.sum("log_buffer_rejected_total", r#"reason="full""#), refusals * IN_A_REQUEST);
    assert_eq!(scrape.value("otelcol_exporter_enqueue_failed_log_records_total"), refusals * IN_A_REQUEST);
    let resident = scrape.value("otelcol_process_memory_rss_bytes");
    assert!(resident < (64 + 64) << 20, "{resident} bytes are resident");
    let client = database.connect().await;
    let numbers = "SELECT count(*), count(DISTINCT attributes->'number'), min((attributes->'number')::bigint), \
                   max((attributes->'number')::bigint) FROM otel.logs";
    let row = client.query_one(numbers, &[]).await.unwrap();
    let found = [0, 1, 2, 3].map(|column| row.get::<_, i64>(column));
    let all = RECORDS as i64;
    assert_eq!(found, [all, all, 0, all - 1], "rows, different numbers, the first, the last");
}
