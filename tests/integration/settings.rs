//! Settings of a database that change what a session's SQL means: forebay does all of its work whatever they are.

use std::sync::Arc;

use futures_util::future::join_all;
use support::eventually;
use support::forebay::{Forebay, QUICK, run};
use support::postgres::{Database, Postgres};
use support::records::{now, numbered_request};
use tokio_postgres::Client;

use crate::partitions::{DAY, count, exists, partition, store};
use crate::reading::first_column;

/// Settings, some at a time where none is in the way of another. A superuser may have set any of them.
const SETTINGS: &[&[&str]] = &[
    &["DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kolkata'"],
    &["DateStyle = 'Postgres, MDY'", "TimeZone = 'America/St_Johns'", "IntervalStyle = 'sql_standard'"],
    &["DateStyle = 'German'", "TimeZone = 'Asia/Shanghai'", "IntervalStyle = 'iso_8601'"],
    &["standard_conforming_strings = off", "backslash_quote = off", "escape_string_warning = on"],
    &["default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on"],
    &["default_transaction_isolation = 'repeatable read'", "synchronous_commit = off", "row_security = off"],
    &["statement_timeout = 2", "lock_timeout = 1", "idle_in_transaction_session_timeout = 1"],
    &["idle_session_timeout = 100", "client_connection_check_interval = 1"],
    &["default_table_access_method = 'other_heap'", "default_statistics_target = 1"],
    &["session_replication_role = 'replica'", "search_path = 'public'"],
    &[
        "extra_float_digits = -15",
        "bytea_output = 'escape'",
        "xmloption = 'document'",
        "array_nulls = off",
        "transform_null_equals = on",
        "quote_all_identifiers = on",
        "client_min_messages = 'debug1'",
        "check_function_bodies = off",
        "plan_cache_mode = 'force_generic_plan'",
    ],
    &[
        "plpgsql.variable_conflict = 'use_column'",
        "plpgsql.extra_errors = 'all'",
        "plpgsql.extra_warnings = 'all'",
        "gin_fuzzy_search_limit = 1",
        "gin_pending_list_limit = 64",
        "vacuum_freeze_min_age = 1000000000",
        "vacuum_cost_delay = 1",
        "constraint_exclusion = on",
    ],
    &[
        "work_mem = 64",
        "maintenance_work_mem = 1024",
        "temp_buffers = 100",
        "enable_seqscan = off",
        "enable_indexscan = off",
        "enable_bitmapscan = off",
        "enable_hashjoin = off",
        "enable_nestloop = off",
        "enable_partition_pruning = off",
        "enable_partitionwise_join = on",
        "jit = on",
        "jit_above_cost = 0",
        "max_parallel_workers_per_gather = 8",
        "parallel_setup_cost = 0",
        "parallel_tuple_cost = 0",
        "min_parallel_table_scan_size = 0",
        "from_collapse_limit = 1",
        "join_collapse_limit = 1",
        "geqo_threshold = 2",
        "lc_messages = 'C'",
        "lc_monetary = 'C'",
        "lc_time = 'C'",
    ],
];

/// A database with these settings, as far as the server knows them, and a session of before.
async fn database_with(server: &Postgres, settings: &[&str]) -> (Database, Client) {
    let database = server.database().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler; SET TimeZone = 'UTC'",
        )
        .await
        .unwrap();
    for setting in settings {
        let name = setting.split(' ').next().unwrap();
        let is_known = format!("pg_settings WHERE lower(name) = lower('{name}')");
        if name.contains('.') || count(&client, &is_known).await == 1 {
            client.batch_execute(&format!("ALTER DATABASE {} SET {setting}", database.name())).await.unwrap();
        }
    }
    (database, client)
}

/// What there are of the day before yesterday by severity, by a session with this client's settings.
async fn histogram(client: &Client, day: u64) -> Vec<String> {
    let day = format!("to_timestamp({})", day / 1_000_000_000);
    let select = format!(
        "SELECT concat_ws(' ', extract(epoch FROM bucket)::int8, coalesce(severity, '-'), records)
         FROM otel.histogram('1 hour', {day}, {day} + interval '1 day') WHERE records <> 0"
    );
    first_column(client, &select).await
}

/// All that forebay does, in a database with these settings.
async fn all_is_done(server: &Postgres, settings: &[&str]) {
    let (database, client) = database_with(server, settings).await;
    let (day, old, closed) = (now() / DAY * DAY, partition(10), partition(2));
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    store(&forebay, [now() - 10 * DAY, day - 2 * DAY, day - DAY - 1, now(), 1]).await;
    assert!(exists(&client, &old).await, "{settings:?}");
    assert_eq!(count(&client, &format!("otel.{closed}")).await, 2, "{settings:?}");
    assert_eq!(count(&client, "otel.log_records_default").await, 1, "{settings:?}");
    forebay.terminate().await;

    let age = ["exporters.postgres.retention.max_age=72h"];
    let forebay = Forebay::ready(database.dsn(), &[QUICK, &age].concat()).await;
    let is_dropped = || async { (!exists(&client, &old).await).then_some(()) };
    eventually(&format!("{settings:?}: the old partition is dropped"), is_dropped).await;
    let indexes = format!("pg_index WHERE indrelid = 'otel.{closed}'::regclass AND indisvalid");
    let is_complete = || async {
        let counted = count(&client, "otel.counted('-infinity', 'infinity')").await;
        (counted == 1 && count(&client, &indexes).await == 5).then_some(())
    };
    eventually(&format!("{settings:?}: the closed partition is complete"), is_complete).await;
    // A late record, and one of a day that has no partition.
    store(&forebay, [day - 2 * DAY + 60_000_000_000, now() - DAY]).await;
    forebay.sender().await.send(numbered_request(100..120)).await.unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_dead_lettered_total"), 0, "{settings:?}");
    let (_, said) = forebay.terminate().await;
    let warned: Vec<_> = said.iter().filter(|line| line.contains(r#""level":"warn""#)).collect();
    let is_expected = |line: &&&String| line.contains("default partition") || line.contains("dropped");
    assert!(warned.iter().all(|line| is_expected(&line)), "{settings:?}: {warned:#?}");
    assert!(exists(&client, &partition(1)).await, "{settings:?}");
    let odd = "otel.log_records WHERE tableoid::regclass::text <> to_char(time AT TIME ZONE 'UTC', '\"otel.log_records_\"YYYYMMDD')";
    assert_eq!(count(&client, odd).await, 0, "{settings:?}");
    assert_eq!(
        count(&client, "pg_class JOIN pg_am am ON am.oid = relam WHERE amname = 'other_heap'").await,
        0
    );

    let theirs = database.connect().await;
    let expected = histogram(&client, day - 2 * DAY).await;
    assert_eq!(expected.len(), 2, "{settings:?}: {expected:?}");
    if !settings.iter().any(|setting| setting.contains("timeout")) {
        assert_eq!(histogram(&theirs, day - 2 * DAY).await, expected, "{settings:?}");
    }
    let queried = run(database.dsn(), "query --json --since 72h --limit 100", &[]).await;
    assert_eq!((queried.status, queried.json().len()), (Some(0), 25), "{settings:?}: {queried:?}");
    let by_attribute = run(database.dsn(), "query --json --since 72h --attribute number=103", &[]).await;
    assert_eq!(
        (by_attribute.status, by_attribute.json().len()),
        (Some(0), 1),
        "{settings:?}: {by_attribute:?}"
    );
    let partitions = run(database.dsn(), "partitions --json", &[]).await;
    assert_eq!(partitions.json().last().unwrap()["total"]["partitions"], 7, "{settings:?}: {partitions:?}");
    let doctor = run(database.dsn(), "doctor", &[]).await;
    assert_eq!(doctor.status, Some(0), "{settings:?}: {doctor:?}");
}

/// Scenario: a database whose settings change the meaning of a session's SQL, in groups; forebay makes its store, is started again
/// with a maximal age, and the store is read. Guarantee: records are stored, each in its day's partition; the old one is dropped, the
/// closed one indexed and counted, with late records; readers are answered the same; nothing is warned of.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_databases_settings_are_all_is_done() {
    let server = Arc::new(Postgres::start().await);
    let mut failed: Vec<&&[&str]> = Vec::new();
    for some in SETTINGS.chunks(4) {
        let begun = some.iter().copied().map(|settings| {
            let server = server.clone();
            tokio::spawn(async move { all_is_done(&server, settings).await })
        });
        let done = join_all(begun.collect::<Vec<_>>()).await;
        failed.extend(some.iter().zip(done).filter(|(_, done)| done.is_err()).map(|(settings, _)| settings));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
