//! Rows over some days, as forebay writes them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::table::ddl::copy_statement;
use forebay::table::identifier::Schema;
use forebay::table::index::Index;
use forebay::table::partition::{Period, Width};
use forebay::table::row::{HEADER, TRAILER};
use forebay::table::{Rows, Space, Transcoder};
use futures_util::SinkExt as _;
use support::corpus::Corpus;
use support::postgres::Database;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Records of a request: few, so that the services' records alternate as they do.
const SIZE: u64 = 10;

/// Days one after the other, of which the last is today.
pub struct Days {
    pub first: Period,
    pub count: i64,
}

impl Days {
    pub fn until_today(count: i64) -> Self {
        let today = Period::at(jiff::Timestamp::now().as_second(), Width::Day);
        Self { first: today.later(1 - count), count }
    }

    pub fn day(&self, number: i64) -> Period {
        self.first.later(number)
    }

    /// Writes `rows` rows, as many each day, spread over all of it; gives how long the COPY took.
    pub async fn copy(&self, database: &Database, rows: u64) -> Duration {
        let client = database.connect().await;
        let schema = Schema::new("otel");
        for number in 0..self.count - 1 {
            let day = self.day(number);
            client.batch_execute(&day.create_statements(&schema, &[Index::Errors])).await.unwrap();
            client.batch_execute(&day.attach_statement(&schema)).await.unwrap();
        }
        let mut copying = Duration::ZERO;
        let each = rows / self.count as u64;
        for number in 0..self.count {
            let start = self.day(number).start() as u64 * 1_000_000_000;
            let gap = 86_400_000_000_000 / each;
            let mut done = 0;
            while done < each {
                let corpus = Corpus::seeded(SIZE, start ^ done);
                let encoded = (0..corpus.requests.len()).map(|index| {
                    corpus
                        .request_at(index, |place| start + (done + index as u64 * SIZE + place as u64) * gap)
                });
                let encoded: Vec<Bytes> = encoded.take(((each - done).div_ceil(SIZE)) as usize).collect();
                copying += copy(&client, &schema, &encoded).await;
                done += encoded.len() as u64 * SIZE;
            }
        }
        copying
    }
}

/// Writes the records of `requests` in one transaction; gives how long PostgreSQL took.
pub async fn copy(client: &Client, schema: &Schema, requests: &[Bytes]) -> Duration {
    let transcoder = Transcoder::default();
    let rows: Vec<Rows> = requests
        .iter()
        .map(|request| transcoder.transcode(request, usize::MAX, 1, &mut Space::unlimited()).unwrap().rows)
        .collect();
    let started = Instant::now();
    client.batch_execute("BEGIN").await.unwrap();
    insert_named(client, &rows).await;
    let sink = client.copy_in::<_, Bytes>(&copy_statement(schema)).await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.feed(Bytes::from_static(HEADER)).await.unwrap();
    for rows in &rows {
        sink.feed(Bytes::copy_from_slice(rows.bytes())).await.unwrap();
    }
    sink.feed(Bytes::from_static(TRAILER)).await.unwrap();
    sink.finish().await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    started.elapsed()
}

/// The resources and scopes of the rows, each once.
async fn insert_named(client: &Client, rows: &[Rows]) {
    let resources: BTreeMap<_, _> =
        rows.iter().flat_map(|rows| &rows.resources).map(|named| (named.id, named)).collect();
    for (id, resource) in resources {
        let insert = "INSERT INTO otel.resources (id, service_name, attributes, dropped_attributes_count) \
                      VALUES ($1, $2, $3::text::jsonb, 0) ON CONFLICT DO NOTHING";
        let insert = client.prepare_typed(insert, &[Type::UUID, Type::TEXT, Type::TEXT]).await.unwrap();
        let (id, service) = (uuid::Uuid::from_bytes(id), resource.service_name.as_deref());
        client.execute(&insert, &[&id, &service, &resource.attributes.as_str()]).await.unwrap();
    }
    let scopes: BTreeMap<_, _> =
        rows.iter().flat_map(|rows| &rows.scopes).map(|named| (named.id, named)).collect();
    for (id, scope) in scopes {
        let insert = "INSERT INTO otel.scopes (id, name, version, attributes, dropped_attributes_count) \
                      VALUES ($1, $2, $3, '{}', 0) ON CONFLICT DO NOTHING";
        let id = uuid::Uuid::from_bytes(id);
        client.execute(insert, &[&id, &scope.name.as_deref(), &scope.version.as_deref()]).await.unwrap();
    }
}
