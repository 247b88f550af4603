//! What an index on the partition that is being written costs.

use std::time::Duration;

use bytes::Bytes;
use forebay::table::identifier::Schema;
use support::corpus::Corpus;
use support::forebay::Forebay;
use support::postgres::Postgres;

use crate::load::copy;

/// What the partition carries: nothing, what forebay gives it, and each index that it gives to closed ones only.
const CASES: [(&str, &str); 7] = [
    ("none", ""),
    ("BRIN on time", "CREATE INDEX ON otel.log_records USING brin (time)"),
    (
        "BRIN on time, and errors (as it comes)",
        "CREATE INDEX ON otel.log_records USING brin (time); \
         CREATE INDEX ON otel.log_records (time, resource_id) WHERE severity_number >= 17",
    ),
    ("btree on time", "CREATE INDEX ON otel.log_records (time)"),
    ("service", "CREATE INDEX ON otel.log_records (resource_id, time)"),
    ("trace_id", "CREATE INDEX ON otel.log_records (encode(trace_id, 'hex')) WHERE trace_id IS NOT NULL"),
    ("attributes", "CREATE INDEX ON otel.log_records USING gin (attributes jsonb_path_ops)"),
];
/// Transactions of a run, each with as many requests of 500 records.
const TRANSACTIONS: usize = 20;
const REQUESTS: usize = 20;

/// Write speeds as shares of that without an index: medians of runs that take turns.
pub async fn ratios(postgres: &Postgres, runs: usize) -> Vec<(String, f64)> {
    let database = postgres.database_named("writes").await;
    drop(Forebay::ready(database.dsn(), &["exporters.postgres.indexes=[]"]).await.terminate().await);
    let client = database.connect().await;
    let corpus = Corpus::new(500);
    let schema = Schema::new("otel");
    let mut times = vec![Vec::new(); CASES.len()];
    for run in 0..=runs {
        for turn in 0..CASES.len() {
            let case = (turn + run) % CASES.len();
            client
                .batch_execute("DROP INDEX IF EXISTS otel.log_records_time; TRUNCATE otel.log_records")
                .await
                .unwrap();
            let indexes = "SELECT coalesce(string_agg(format('DROP INDEX otel.%I', relname), ';'), '') FROM pg_class c \
                           JOIN pg_index i ON i.indexrelid = c.oid WHERE i.indrelid = 'otel.log_records'::regclass";
            let drops: String = client.query_one(indexes, &[]).await.unwrap().get(0);
            client.batch_execute(&drops).await.unwrap();
            client.batch_execute(CASES[case].1).await.unwrap();
            client.batch_execute("CHECKPOINT").await.unwrap();
            let mut taken = Duration::ZERO;
            for number in 0..TRANSACTIONS {
                let requests: Vec<Bytes> =
                    (0..REQUESTS).map(|index| corpus.request_now(number * REQUESTS + index)).collect();
                taken += copy(&client, &schema, &requests).await;
            }
            // The first round fills the WAL's files.
            if run > 0 {
                times[case].push(taken);
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let medians: Vec<f64> = times.iter_mut().map(median).collect();
    CASES
        .iter()
        .zip(&medians)
        .skip(1)
        .map(|((name, _), time)| (format!("write speed with {name}"), medians[0] / time))
        .collect()
}
