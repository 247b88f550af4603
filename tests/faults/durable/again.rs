//! Faults of the list again, with a durable queue. Each scenario ends with what it always ends with, and here nothing that was
//! acknowledged may be dropped (see [`Scene::ends`](crate::scene::Scene::ends)).

use forebay::embedded::Stop;
use support::eventually;
use support::postgres::database;

use super::{Home, rests};
use crate::load::Load;
use crate::scene::durably;
use crate::{commits, failover, poison, resources, schema, server};

/// Scenarios of the list, each as a test.
macro_rules! again {
    ($($folder:ident :: $scenario:ident,)*) => {
        $(#[test]
        fn $scenario() {
            durably($folder::$scenario);
        })*
    };
}

again! {
    server::crash_restarts,
    server::a_postmaster_that_is_killed,
    server::frozen_sessions,
    server::immediate_stops_during_a_commit,
    commits::a_commit_whose_answer_is_lost,
    commits::a_commit_that_does_not_arrive,
    commits::a_commit_that_is_still_at_work,
    commits::a_connection_that_breaks_anywhere,
    failover::a_standby_that_is_promoted,
    failover::a_standby_that_lags,
    schema::schema_and_rights,
    schema::a_missing_partition,
    schema::rows_that_the_table_refuses,
    schema::a_table_that_refuses_everything,
    schema::rows_that_are_refused_without_a_line,
    poison::rows_that_are_answered_with_any_code,
    poison::rows_that_end_the_session,
    poison::a_table_that_takes_no_row,
    resources::a_lock_on_the_table,
}

#[test]
#[ignore = "it takes ten minutes: ./dev soak"]
fn soak() {
    durably(crate::soak::soak);
}

/// Scenario: the schema is dropped under load, with all that is stored. Promise: the store is made again, and all records that the queue
/// keeps for a standby that lags are stored again, once, with those that have arrived since.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_dropped() {
    let database = database().await;
    let home = Home::new(&database, &[]);
    let forebay = home.ready().await;
    let load = Load::once(forebay.endpoint(), 0);
    let flushed = || async { forebay.scrape().await.value("log_buffer_flushed_total") };
    eventually("records are stored", || async { (flushed().await > 4_000).then_some(()) }).await;
    database.connect().await.batch_execute("DROP SCHEMA otel CASCADE").await.unwrap();
    let before = flushed().await;
    eventually("records are stored again", || async { (flushed().await > before + 4_000).then_some(()) })
        .await;
    let oracle = load.end().await;
    rests(&home, forebay, &database, &oracle).await;
}

/// Scenario: PostgreSQL is killed with the session of a lane in a transaction of the queue, and another forebay starts on the directory of
/// a killed one meanwhile. Promise: it waits for PostgreSQL, and stores what was left, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_while_the_server_begins_anew() {
    let mut postgres = support::postgres::Postgres::start().await;
    let database = postgres.database().await;
    let home = Home::new(&database, &[]);
    let mut forebay = home.ready().await;
    let load = Load::once(forebay.endpoint(), 0);
    eventually("records are stored", || async {
        (forebay.scrape().await.value("log_buffer_flushed_total") > 1_000).then_some(())
    })
    .await;
    postgres.stop(Stop::Kill).await;
    forebay = home.killed(forebay).await;
    load.turn_to(forebay.endpoint());
    super::copies::receives(&forebay, 1_000).await;
    forebay = home.killed(forebay).await;
    load.turn_to(forebay.endpoint());
    postgres.start_again().await;
    super::copies::receives(&forebay, 1_000).await;
    let oracle = load.end().await;
    let page = rests(&home, forebay, &database, &oracle).await;
    assert!(page.value("log_buffer_recovered_total") >= 900, "both have left records");
}
