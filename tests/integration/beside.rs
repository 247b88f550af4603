//! The tables beside the records are bounded as well: resources, scopes, losses and dead letters.

use support::eventually;
use support::forebay::Forebay;
use support::postgres::database;
use support::records::numbered_request;
use tokio_postgres::Client;

use crate::partitions::{count, exists, partition, with_days};
use crate::reading::first_column;

/// Resources and scopes of these names, which were last used so many days ago.
async fn used(client: &Client, name: &str, days_ago: i32) {
    let insert = format!(
        "INSERT INTO otel.resources (id, service_name, attributes, dropped_attributes_count, last_used)
            VALUES (md5('{name}')::uuid, '{name}', '{{}}', 0, now() - interval '{days_ago} days');
        INSERT INTO otel.scopes (id, name, attributes, dropped_attributes_count, last_used)
            VALUES (md5('{name}')::uuid, '{name}', '{{}}', 0, now() - interval '{days_ago} days')"
    );
    client.batch_execute(&insert).await.unwrap();
}

/// How many rows of this table were deleted for this reason, once there are as many.
async fn deleted(forebay: &Forebay, table: &str, reason: &str, expected: u64) {
    let labels = format!("reason=\"{reason}\",table=\"{table}\"");
    eventually(&format!("{expected} of {table} are deleted by {reason}"), || async {
        (forebay.scrape().await.sum("log_buffer_rows_deleted_total", &labels) == expected).then_some(())
    })
    .await;
}

/// Scenario: resources and scopes that were last used long ago, in a store whose oldest partition is of two days ago. One of each is
/// named by a record of 1970 in the default partition. Guarantee: what no record names goes, and nothing else; one of which a
/// record comes now is noted as used, and is made anew where it was gone. Without retention nothing goes.
#[tokio::test(flavor = "multi_thread")]
async fn resources_and_scopes_go_with_the_last_record() {
    let (database, client) = with_days(&[2, 0]).await;
    for (name, days_ago) in [("gone", 60), ("astray", 60), ("late", 7), ("kept", 0)] {
        used(&client, name, days_ago).await;
    }
    let astray = "INSERT INTO otel.log_records (time, time_unix_nano, resource_id, scope_id, attributes)
        VALUES (to_timestamp(1), 1000000000, md5('astray')::uuid, md5('astray')::uuid, '{}')";
    client.batch_execute(astray).await.unwrap();
    let names = async || {
        let [resources, scopes] = ["service_name FROM otel.resources", "name FROM otel.scopes"];
        let select = format!("SELECT {resources} UNION ALL SELECT {scopes} ORDER BY 1");
        first_column(&client, &select).await
    };
    Forebay::ready(database.dsn(), &[]).await.terminate().await;
    assert_eq!(names().await.len(), 10, "four, and those of the records");
    client
        .batch_execute(
            "UPDATE otel.resources SET last_used = now() - interval '3 days' WHERE service_name = 'shop'",
        )
        .await
        .unwrap();
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.retention.max_size=1GiB"]).await;
    deleted(&forebay, "resources", "unused", 1).await;
    deleted(&forebay, "scopes", "unused", 1).await;
    let left = ["astray", "astray", "kept", "kept", "late", "late", "shop", "tests"];
    assert_eq!(names().await, left);
    let fresh = "otel.resources WHERE service_name = 'shop' AND last_used > now() - interval '1 hour'";
    for _ in 0..2 {
        forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
        forebay.settles().await;
        assert_eq!(count(&client, fresh).await, 1);
    }
}

/// Scenario: losses and dead letters of forty days ago and of now, and 20 MB of them where a tenth of `max_size` is one. Guarantee: the
/// old ones go by age, and by size the oldest until the others fit; it is counted and said. Without retention they stay.
#[tokio::test(flavor = "multi_thread")]
async fn losses_and_dead_letters_are_bounded() {
    let (database, client) = with_days(&[0]).await;
    let fill = "INSERT INTO otel.dead_letters (at, sqlstate, message, columns, row, resource_id, scope_id)
            SELECT now() - i * interval '20 days', '23514', '', '{}', 'x', md5('r' || i)::uuid, md5('s' || i)::uuid
            FROM generate_series(0, 2) i;
        INSERT INTO otel.dead_letter_origins
            SELECT md5(letter || i)::uuid, '{}' FROM generate_series(0, 2) i, unnest('{r,s}'::text[]) letter;
        INSERT INTO otel.losses SELECT t, t, 'shop', 'INFO', 'drop_oldest', 1, md5('g')::uuid
            FROM (SELECT now() - i * interval '20 days' AS t FROM generate_series(0, 2) i) s";
    client.batch_execute(fill).await.unwrap();
    Forebay::ready(database.dsn(), &[]).await.terminate().await;
    assert_eq!(count(&client, "otel.dead_letters").await, 3);
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.retention.max_age=720h"]).await;
    deleted(&forebay, "dead_letters", "max_age", 1).await;
    deleted(&forebay, "losses", "max_age", 1).await;
    eventually("what only the old one named is deleted", || async {
        (count(&client, "otel.dead_letter_origins").await == 4).then_some(())
    })
    .await;
    let (_, said) = forebay.terminate().await;
    assert!(
        said.iter().any(|line| line.contains("deleted the oldest dead letters") && line.contains("max_age")),
        "{said:#?}"
    );
    // Of 1,000 bytes each, which do not compress.
    let fill = "INSERT INTO otel.dead_letters (at, sqlstate, message, columns, row)
            SELECT now() + interval '1 hour' + i * interval '1 ms', '23514', '', '{}',
                (SELECT decode(string_agg(md5(i || '/' || j), ''), 'hex') FROM generate_series(1, 50) j)
            FROM generate_series(1, 10000) i;
        INSERT INTO otel.losses SELECT t, t, repeat('s', 900), 'INFO', 'drop_oldest', 1, md5('g')::uuid
            FROM (SELECT now() + interval '1 hour' + i * interval '1 ms' AS t FROM generate_series(1, 10000) i) s";
    client.batch_execute(fill).await.unwrap();
    let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.retention.max_size=10000000"]).await;
    // 10,002 of each are there, and as many fit.
    deleted(&forebay, "dead_letters", "max_size", 10_002 - 1_000_000 / 1_000).await;
    eventually("losses as well", || async { (count(&client, "otel.losses").await < 1_100).then_some(()) })
        .await;
    for table in ["dead_letters", "losses"] {
        let newest = format!("otel.{table} WHERE {} > now()", if table == "losses" { "until" } else { "at" });
        assert_eq!(count(&client, &newest).await, count(&client, &format!("otel.{table}")).await, "{table}");
    }
}

/// Scenario: a record lay in the default partition for long, one lies in a partition that somebody has made for tomorrow, and each
/// names what nothing else does; a partition has no begin, or one of sixty days ago. Guarantee: both records keep what they name
/// beyond the move into a partition, and a store that reaches back for ever loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_long_before_its_time_keeps_what_it_names() {
    for (from, left) in
        [("MINVALUE", 3), ("now() - interval '60 days'", 3), ("now() - interval '31 days'", 2)]
    {
        let (database, client) = with_days(&[0]).await;
        for name in ["astray", "ahead", "gone"] {
            used(&client, name, 50).await;
        }
        let (to, yesterday) = ("now() - interval '30 days'", "now() - interval '1 day'");
        let day = partition(0);
        let fill = format!(
            "DO $$ BEGIN EXECUTE format('CREATE TABLE otel.old PARTITION OF otel.log_records FOR VALUES FROM ({}) TO (%L)', {to}); END $$;
             INSERT INTO otel.log_records (time, time_unix_nano, resource_id, scope_id, attributes)
                SELECT time, extract(epoch FROM time) * 1000000000, md5(name)::uuid, md5(name)::uuid, '{{}}'
                FROM (VALUES ({yesterday}, 'astray'), (now() + interval '1 day', 'ahead')) r (time, name)",
            if from == "MINVALUE" { from.to_owned() } else { format!("' || quote_literal({from}) || '") }
        );
        client.batch_execute(&fill).await.unwrap();
        assert!(exists(&client, &day).await && !exists(&client, &partition(1)).await);
        let forebay = Forebay::ready(database.dsn(), &["exporters.postgres.retention.max_size=1GiB"]).await;
        eventually("the record astray has a partition", || async {
            exists(&client, &partition(1)).await.then_some(())
        })
        .await;
        let noted = "otel.resources WHERE last_used > now() - interval '1 hour' AND service_name IN ('astray', 'ahead')";
        eventually("both are noted", || async { (count(&client, noted).await == 2).then_some(()) }).await;
        let names = "otel.scopes WHERE name IN ('astray', 'ahead', 'gone')";
        eventually("what no record names is gone", || async {
            (count(&client, names).await == left).then_some(())
        })
        .await;
        let (status, said) = forebay.terminate().await;
        let is_bad = |line: &&String| line.contains("panicked") || line.contains("could not do all");
        assert_eq!((status, said.iter().find(is_bad)), (Some(0), None));
        assert_eq!(count(&client, names).await, left, "from {from}");
    }
}

/// Scenario: the database loses what it had committed, as a standby does that lagged when it took over: the last batches with their
/// resource and scope. Guarantee: the next batch stores these again, whatever the lane knew.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_with_batches_is_stored_again() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let (client, sender) = (database.connect().await, forebay.sender().await);
    let send = async |from: u64| {
        for batch in 0..6 {
            let first = from + batch * 10;
            sender.send(numbered_request(first..first + 10)).await.unwrap();
            forebay.settles().await;
        }
    };
    send(0).await;
    client
        .batch_execute(
            "UPDATE otel.lanes SET sequence = 0 WHERE lane >= 0;
             TRUNCATE otel.log_records, otel.resources, otel.scopes",
        )
        .await
        .unwrap();
    send(100).await;
    assert_eq!(count(&client, "otel.logs WHERE service_name = 'shop' AND scope_name = 'tests'").await, 60);
    let (_, said) = forebay.terminate().await;
    assert!(said.iter().any(|line| line.contains("PostgreSQL has lost batches")), "{said:#?}");
}
