//! What the store costs and what reading it takes, against two others: (a) one wide table with the resource's attributes
//! in each row, (b) one jsonb for each record beside its tag and time, as generic shippers store it. Both have the usual
//! index, a btree on time.
//!
//! `cargo bench --bench store -- [--rows N] [--days N] [--runs N] [--results DIR]` makes N rows over so many day partitions of
//! which the last one is being written, has forebay build its indexes on the others, and asks five questions of each
//! layout. Figures are medians; everything is in memory as far as it fits.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod layouts;
mod load;
mod report;
mod writes;

use std::time::{Duration, Instant};

use forebay::table::index::Index;
use layouts::{LAYOUTS, QUESTIONS, Samples};
use load::Days;
use report::{Answer, Report};
use support::forebay::{Forebay, run};
use support::postgres::{Database, Postgres};
use tokio_postgres::Client;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// PostgreSQL for a machine of this size, with checkpoints out of the way. Nothing is to survive.
const SETTINGS: &[(&str, &str)] = &[
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "1h"),
    ("shared_buffers", "4GB"),
    ("effective_cache_size", "16GB"),
    ("work_mem", "64MB"),
    ("maintenance_work_mem", "1GB"),
    ("random_page_cost", "1.1"),
    ("jit", "off"),
];

/// One question may take this long; a layout that needs longer has this for its figure.
const PATIENCE: Duration = Duration::from_secs(120);

struct Options {
    rows: u64,
    days: i64,
    runs: usize,
    results: Option<String>,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { rows: 20_000_000, days: 10, runs: 5, results: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--rows" => options.rows = value().parse().expect("a number of rows"),
                "--days" => options.days = value().parse().expect("a number of days"),
                "--runs" => options.runs = value().parse().expect("a number of runs"),
                "--results" => options.results = Some(value()),
                "--bench" => {}
                other => panic!("what is {other}?"),
            }
        }
        options
    }
}

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(measure(&options));
    println!("{}", report.text());
    if let Some(results) = &options.results {
        report.write(results);
    }
}

async fn measure(options: &Options) -> Report {
    let postgres = Postgres::start_durable(SETTINGS).await;
    let database = postgres.database().await;
    let client = database.connect().await;
    let version = client.query_one("SHOW server_version", &[]).await.unwrap().get(0);
    let mut report = Report::new(options.rows, options.days, version);
    // It makes the tables.
    drop(Forebay::ready(database.dsn(), &[]).await.terminate().await);
    let days = Days::until_today(options.days);
    say("COPY of all rows");
    let copied = days.copy(&database, options.rows).await;
    report.fact("COPY of all rows, one stream", copied.as_secs_f64(), "s");
    say("forebay builds the indexes of the closed partitions");
    let indexed = build_indexes(&database).await;
    report.fact("indexes of the closed partitions, in the background", indexed.as_secs_f64(), "s");
    client.batch_execute("ANALYZE").await.unwrap();
    let samples = Samples::of(&client, &days).await;
    let without = layouts::LAYOUTS[0].bytes(&client).await;
    report.size(LAYOUTS[0].name, without, options.rows);
    let text = samples.put_into(LAYOUTS[0].questions[2]);
    let plain = ask(&client, &text, options.runs).await;
    report.fact("text in body over one day without trigrams", plain.median.as_secs_f64() * 1000.0, "ms");
    say("trigrams of the bodies of one day");
    client.batch_execute("CREATE EXTENSION pg_trgm").await.unwrap();
    let started = Instant::now();
    let day = days.day(days.count / 2).name();
    client.batch_execute(&Index::Body.statement("otel", &day, "public")).await.unwrap();
    client.batch_execute(&format!("ANALYZE otel.{day}")).await.unwrap();
    let of_a_million = 1e6 * days.count as f64 / options.rows as f64;
    report.fact("trigrams of a million bodies", started.elapsed().as_secs_f64() * of_a_million, "s");
    for layout in &LAYOUTS {
        if let Some(fill) = layout.fill {
            say(&format!("filling {}", layout.name));
            // One process reads the days one after the other, so that their order stays.
            let fill = format!(
                "SET max_parallel_workers_per_gather = 0; {}; RESET max_parallel_workers_per_gather",
                fill()
            );
            client.batch_execute(&fill).await.unwrap();
            client.batch_execute("VACUUM (ANALYZE)").await.unwrap();
        } else {
            client.batch_execute("VACUUM (ANALYZE)").await.unwrap();
        }
        if layout.fill.is_some() {
            report.size(layout.name, layout.bytes(&client).await, options.rows);
        }
        for (number, question) in QUESTIONS.iter().enumerate() {
            let sql = samples.put_into(layout.questions[number]);
            report.answer(layout.name, question, ask(&client, &sql, options.runs).await);
        }
        if layout.fill.is_some() {
            client.batch_execute("DROP TABLE other").await.unwrap();
        }
    }
    report.sizes_of_indexes(&client).await;
    drop(client);
    say("write speed by the indexes of the partition that is written");
    for (name, ratio) in writes::ratios(&postgres, options.runs).await {
        report.fact(&name, ratio, "of none");
    }
    report
}

/// Has forebay build all that it knows, and waits for that.
async fn build_indexes(database: &Database) -> Duration {
    let started = Instant::now();
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    loop {
        let listed = run(database.dsn(), "partitions --json", &[]).await;
        if listed.json().iter().all(|partition| !partition["next"].to_string().ends_with(" next\"")) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    forebay.terminate().await;
    started.elapsed()
}

/// How long an answer takes: the median after one that warms up.
async fn ask(client: &Client, sql: &str, runs: usize) -> Answer {
    client.batch_execute(&format!("SET statement_timeout = {}", PATIENCE.as_millis())).await.unwrap();
    let mut times = Vec::new();
    let mut rows = 0;
    for _ in 0..=runs {
        let started = Instant::now();
        match client.query(sql, &[]).await {
            Ok(answer) => rows = answer.len(),
            Err(error) => {
                let code = error.code().map(|code| code.code());
                assert_eq!(code, Some("57014"), "{error:?}: {sql}");
                client.batch_execute("RESET statement_timeout").await.unwrap();
                return Answer { median: PATIENCE, rows: None };
            }
        }
        times.push(started.elapsed());
        // What takes long does not get more exact.
        if started.elapsed() > Duration::from_secs(20) && times.len() > 2 {
            break;
        }
    }
    client.batch_execute("RESET statement_timeout").await.unwrap();
    times.remove(0);
    times.sort();
    Answer { median: times[times.len() / 2], rows: Some(rows) }
}

fn say(text: &str) {
    eprintln!("==> {text}");
}
