//! The end of a forebay on request.

use std::time::Duration;

use forebay::embedded::Stop;
use serde_json::Value;
use support::postgres::Postgres;
use tokio::time::Instant;

use super::copies::receives;
use super::{Home, rests};
use crate::chance::assert_within;
use crate::load::Load;

/// The default of `shutdown_timeout`.
const SHUTDOWN: Duration = Duration::from_secs(25);

/// Scenario: SIGTERM under load, while PostgreSQL is away. Promise: the end comes within seconds, without waiting for PostgreSQL, with
/// exit status 0, and the last message counts the records that are kept; the next forebay stores them.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_postgresql_is_away() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let home = Home::new(&database, &[]);
    let forebay = home.ready().await;
    let load = Load::once(forebay.endpoint(), 0);
    receives(&forebay, 1_000).await;
    postgres.stop(Stop::Fast).await;
    receives(&forebay, 12_000).await;
    let asked = Instant::now();
    let (status, said) = forebay.terminate().await;
    let took = asked.elapsed();
    let oracle = load.end().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert!(took < SHUTDOWN / 2, "the end took {took:?}: it waited for PostgreSQL");
    assert_within(Duration::from_secs(5), took, "the end");
    let words: Value = serde_json::from_str(said.last().expect("last words")).unwrap();
    let count = |name: &str| words[name].as_u64().unwrap_or_else(|| panic!("{name} in {words}"));
    let outcomes = ["flushed", "dropped", "rejected", "dead_lettered", "kept"].map(count);
    assert_eq!(count("received"), outcomes.iter().sum::<u64>(), "{words}");
    assert_eq!(count("dropped"), 0, "{words}");
    assert!(count("kept") > 10_000, "{words}");
    postgres.start_again().await;
    let next = home.ready().await;
    let page = rests(&home, next, &database, &oracle).await;
    assert_eq!(page.value("log_buffer_recovered_total"), count("kept"));
    println!("SIGTERM with PostgreSQL away: the end took {took:.1?}, {} records are kept", count("kept"));
}
