//! Writes rows into a table by binary COPY.

use bytes::Bytes;
use futures_util::SinkExt as _;

use super::error::Failure;
use super::session::Connection;
use crate::table::row::{HEADER, TRAILER};

/// The most bytes in one CopyData message: large, so that there are few; small enough for the cache.
const COPY_DATA: usize = 128 << 10;

/// Sends `runs` of rows to `statement`, a COPY into `table`; returns the number of rows that PostgreSQL accepted.
///
/// # Errors
///
/// The failure, with the line of the COPY if PostgreSQL names one.
pub async fn copy(
    connection: &Connection,
    statement: &str,
    table: &str,
    runs: impl IntoIterator<Item = Bytes>,
) -> Result<u64, Failure> {
    let sent = async {
        let statement = connection.prepare_cached(statement).await?;
        let mut sink = std::pin::pin!(connection.copy_in::<_, Bytes>(&statement).await?);
        sink.feed(Bytes::from_static(HEADER)).await?;
        for mut run in runs {
            while !run.is_empty() {
                sink.feed(run.split_to(run.len().min(COPY_DATA))).await?;
            }
        }
        sink.feed(Bytes::from_static(TRAILER)).await?;
        sink.finish().await
    };
    sent.await.map_err(|error| Failure::of_copy(error, table))
}
