//! The limit: the same rows as plain binary COPY, by two streams at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::table::Rows;
use forebay::table::ddl::copy_statement;
use forebay::table::identifier::Schema;
use forebay::table::row::{HEADER, TRAILER};
use futures_util::SinkExt;
use support::postgres::Database;
use tokio::task::JoinSet;

const STREAMS: u64 = 2;

/// Writes the rows of `requests` requests, all of a stream's in one COPY, or `in_one` at a time; gives how long it took
/// until both streams were committed.
pub async fn replay(
    database: &Database,
    rows: &Arc<Vec<Bytes>>,
    requests: u64,
    in_one: Option<usize>,
) -> Duration {
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        clients.push(database.connect().await);
    }
    let started = Instant::now();
    let mut streams = JoinSet::new();
    for (stream, client) in (0..STREAMS).zip(clients) {
        let rows = rows.clone();
        streams.spawn(async move {
            let copy = copy_statement(&Schema::new("otel"));
            let copy = client.prepare(&copy).await.expect("a statement");
            let numbers: Vec<u64> = (stream..requests).step_by(STREAMS as usize).collect();
            for numbers in numbers.chunks(in_one.unwrap_or(numbers.len())) {
                let sink = client.copy_in::<_, Bytes>(&copy).await.expect("a COPY");
                let mut sink = std::pin::pin!(sink);
                sink.feed(Bytes::from_static(HEADER)).await.expect("the header");
                for number in numbers {
                    sink.feed(rows[*number as usize % rows.len()].clone()).await.expect("rows");
                }
                sink.feed(Bytes::from_static(TRAILER)).await.expect("the trailer");
                sink.finish().await.expect("a COMMIT");
            }
        });
    }
    streams.join_all().await;
    started.elapsed()
}

/// The bytes of `rows`.
pub fn bytes(rows: &[Rows]) -> Arc<Vec<Bytes>> {
    Arc::new(rows.iter().map(|rows| Bytes::copy_from_slice(rows.bytes())).collect())
}
