//! `forebay query`: what is found, and how it is shown.

use ::forebay::otlp::messages::LogRecord;
use serde_json::Value;
use support::forebay::{Forebay, QUICK, Ran, arguments, command, ran, run};
use support::postgres::database;
use support::records::{now, pair, request, text};

use crate::reading::{SENT, Scene, first_column};

impl Scene {
    /// Runs the command with `arguments` that are parted by spaces.
    async fn query(&self, arguments: &str) -> Ran {
        run(self.database.dsn(), format!("query {arguments}").trim(), &[]).await
    }
}

/// Scenario: a few records through a forebay. Guarantee: each filter finds its own, the oldest first; of too many the
/// newest are shown, and that is said.
#[tokio::test(flavor = "multi_thread")]
async fn each_filter_finds_its_own() {
    let scene = Scene::begin(&[]).await;
    let trace = format!("--trace {}", "A1".repeat(16));
    let minute = jiff::Timestamp::from_second(scene.minute as i64 * 60 + 60).unwrap();
    for (arguments, numbers) in [
        ("", &[0, 1, 2, 3, 4, 5, 6, 7][..]),
        ("--service shop", &[0, 1, 2, 6, 7]),
        ("--service shop --service till --severity fatal", &[6]),
        ("--severity WARN", &[2, 3, 4, 5, 6]),
        ("--text RECEIPT", &[3, 4]),
        ("--text 100%", &[0]),
        (&trace, &[4, 5, 6, 7]),
        ("--attribute number=3", &[3]),
        ("--attribute number=3 --attribute who=me", &[3]),
        ("--attribute number=3 --attribute who=you", &[]),
        ("--since 5m", &[]),
        (&format!("--since {minute}"), &[2, 3, 4, 5, 6, 7]),
        (&format!("--since 2h --until {minute}"), &[0, 1]),
        ("--service till --severity 17", &[]),
    ] {
        let found = scene.query(&format!("--json {arguments}")).await;
        if arguments.ends_with("17") {
            assert_eq!(found.status, Some(2), "{found:?}");
            continue;
        }
        assert_eq!((found.status, found.err.as_str()), (Some(0), ""), "{found:?}");
        let bodies: Vec<_> =
            found.json().iter().map(|record| record["body"].as_str().unwrap().to_owned()).collect();
        assert_eq!(bodies, numbers.iter().map(|&number| SENT[number].3).collect::<Vec<_>>(), "{arguments}");
    }
    let newest = scene.query("--utc --limit 2").await;
    let time = |number: usize| {
        let second = jiff::Timestamp::from_second((scene.minute + SENT[number].0) as i64 * 60).unwrap();
        second.strftime("%Y-%m-%d %H:%M:%S.000Z").to_string()
    };
    let expected = format!(
        "{} FATAL shop  C:\\temp is gone  who=me number=6 trace_id={trace}\n{} UNSET shop  no severity  who=me number=7 trace_id={trace}\n",
        time(6),
        time(7),
        trace = "a1".repeat(16),
    );
    assert_eq!(newest.out, expected.replace("UNSET", "-    "));
    assert_eq!(newest.err, "these are the newest 2, and there may be older ones; --limit 0 shows all\n");
    let coloured = scene.query("--utc --color always --severity FATAL").await;
    assert!(coloured.out.contains("\u{1b}[1;97;41mFATAL\u{1b}[0m"), "{coloured:?}");
    let mut elsewhere = command();
    elsewhere.env("DATABASE_URL", scene.database.dsn()).env("TZ", "Asia/Kolkata");
    let shown = ran(elsewhere.args(["query", "--limit=1"])).await;
    let local = jiff::Timestamp::from_second((scene.minute + 3) as i64 * 60 + 19_800).unwrap();
    let local = local.strftime("%Y-%m-%d %H:%M:%S.000 -").to_string();
    assert!(shown.out.starts_with(&local), "{shown:?} has {local}");
    // A time is taken as it is shown, by whatever clock that is.
    let minute = scene.minute as i64 * 60 + 60;
    for (zone, form) in [("Asia/Kolkata", "%Y-%m-%d %H:%M"), ("America/St_Johns", "%Y-%m-%dT%H:%M:%S.000")] {
        let clock = jiff::Timestamp::from_second(minute).unwrap().in_tz(zone).unwrap();
        for (option, zone) in [("--json", zone), ("--utc", "Europe/Berlin")] {
            let shown =
                if option == "--utc" { clock.with_time_zone(jiff::tz::TimeZone::UTC) } else { clock.clone() };
            let mut query = command();
            query.env("DATABASE_URL", scene.database.dsn()).env("TZ", zone).args(["query", option]);
            let found = ran(query.arg(format!("--since={}", shown.strftime(form)))).await;
            assert_eq!((found.status, found.err.as_str()), (Some(0), ""), "{found:?}");
            assert_eq!(found.out.lines().count(), 6, "{zone} {form}: {found:?}");
        }
    }
    let last = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(12);
    let mut query = command();
    query.env("DATABASE_URL", scene.database.dsn()).args(["query", "--utc", "--since"]);
    let none = ran(query.arg(last.strftime("%Y-%m-%d %H:%M:%S").to_string())).await;
    assert_eq!((none.status, none.out.as_str()), (Some(0), ""), "twelve hours from now there is nothing yet");
    let mut query = command();
    query.env("DATABASE_URL", scene.database.dsn()).args(["query", "--since", "2026-11-27 17:05 CET"]);
    let refused = ran(&mut query).await;
    assert_eq!((refused.status, refused.out.as_str()), (Some(2), ""), "{refused:?}");
    assert!(
        ["24h", "2026-11-25 17:05", "+01:00"].iter().all(|form| refused.err.contains(form)),
        "{refused:?}"
    );
}

/// Scenario: a record whose sender has put into it what a terminal obeys. Guarantee: none of it gets through, and the JSON
/// still means what was sent, in all columns of the view.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_cannot_write_to_the_terminal() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J \u{9b}31m\u{202e}\r\u{8}";
    let record = LogRecord {
        time_unix_nano: now(),
        severity_text: evil.into(),
        body: Some(text(format!("first {evil}\nsecond {evil}\ttab"))),
        event_name: evil.into(),
        attributes: vec![pair(evil, text(evil)), pair("stack", text(format!("one\n{evil}")))],
        ..Default::default()
    };
    let mut sent = request(vec![record]);
    sent.resource_logs[0].resource.as_mut().unwrap().attributes = vec![pair("service.name", text(evil))];
    forebay.sender().await.send(sent).await.unwrap();
    forebay.settles().await;
    let shown = run(database.dsn(), "query --color never", &[]).await;
    let is_obeyed = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
    assert_eq!(shown.out.chars().filter(|c| is_obeyed(*c)).count(), 0, "{shown:?}");
    assert_eq!(shown.out.matches("\\u{1b}]0;owned\\u{7}").count(), 8, "{shown:?}");
    let lines: Vec<_> = shown.out.lines().collect();
    assert!(lines[1].starts_with("    second ") && lines[1].ends_with("\ttab"), "{shown:?}");
    assert_eq!((lines[3], lines.len()), ("    stack:", 6), "{shown:?}");
    let json = run(database.dsn(), "query --json", &[]).await;
    assert_eq!(json.out.chars().filter(|c| is_obeyed(*c)).count(), 0, "{json:?}");
    let record = &json.json()[0];
    assert_eq!(record["service_name"], evil);
    assert_eq!(record["attributes"][evil], evil);
    let Value::Object(fields) = record else { panic!("{record} is an object") };
    let columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'otel.logs'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(
        fields.keys().collect::<Vec<_>>(),
        first_column(&database.connect().await, columns).await.iter().collect::<Vec<_>>()
    );
}

/// Scenario: more records than are held at a time, for a reader who wants all, and for one who wants the first. Guarantee:
/// the one has them in their order, the other is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn all_are_shown_in_order_to_whoever_wants_them() {
    let scene = Scene::begin(&[]).await;
    let more = "INSERT INTO otel.log_records (time, time_unix_nano, resource_id, scope_id, body, attributes)
        SELECT to_timestamp(second), second * 1000000000, resource_id, scope_id, 'more', jsonb_build_object('i', i)
        FROM (SELECT resource_id, scope_id FROM otel.log_records LIMIT 1) any_one, generate_series(1, 4001) i,
            LATERAL (SELECT extract(epoch FROM now())::bigint - 4001 + i) t (second)";
    scene.client.batch_execute(more).await.unwrap();
    let all = scene.query("--json --text more --since 2h --limit 0").await;
    let numbers: Vec<_> =
        all.json().iter().map(|record| record["attributes"]["i"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=4001).collect::<Vec<_>>());
    let line = format!("{} query --json --since 2h --limit 0 | head -n 1", env!("CARGO_BIN_EXE_forebay"));
    let mut shell = tokio::process::Command::new("bash");
    let shell =
        shell.args(["-c", &format!("set -o pipefail; {line}")]).env("DATABASE_URL", scene.database.dsn());
    let shown = ran(shell).await;
    assert_eq!((shown.status, shown.json().len(), shown.err.as_str()), (Some(0), 1, ""), "{shown:?}");
}

/// Scenario: a role without privileges, then with those that the refusal names; a store that is not there. Guarantee: the
/// first is told what to grant, which is enough; the second to look with the doctor.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_be_granted_is_said() {
    let scene = Scene::begin(&[]).await;
    let role = format!("reader {}", scene.database.name());
    scene.client.batch_execute(&format!("CREATE ROLE \"{role}\" LOGIN")).await.unwrap();
    let dsn = scene.database.dsn_by_way_of(scene.database.address());
    let dsn = format!(
        "{} sslmode=disable user='{role}'",
        dsn.replace(&format!("user={}", ::forebay::embedded::NAME), "")
    );
    let grants =
        format!("GRANT USAGE ON SCHEMA \"otel\" TO \"{role}\"; GRANT SELECT ON \"otel\".logs TO \"{role}\"");
    for arguments in ["query", "tail"] {
        let refused = run(&dsn, arguments, &[]).await;
        assert_eq!((refused.status, refused.out.as_str()), (Some(1), ""), "{refused:?}");
        assert!(refused.err.contains("42501") && refused.err.contains(&grants), "{refused:?}");
    }
    scene.client.batch_execute(&grants).await.unwrap();
    let shown = run(&dsn, "query --json", &[]).await;
    assert_eq!((shown.status, shown.json().len()), (Some(0), SENT.len()), "{shown:?}");
    let empty = database().await;
    let missing = run(empty.dsn(), "query", &[]).await;
    assert_eq!(missing.status, Some(1));
    assert!(missing.err.contains("42P01") && missing.err.contains("forebay doctor"), "{missing:?}");
    let unreachable = run("host=/nowhere", "tail", &[]).await;
    assert_eq!(unreachable.status, Some(1), "{unreachable:?}");
}

/// Scenario: the private PostgreSQL, beside a running forebay and without one. Guarantee: records are found.
#[tokio::test(flavor = "multi_thread")]
async fn the_private_store_is_searched_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let in_directory = || {
        let mut command = command();
        command.current_dir(dir.path());
        command
    };
    let mut started = in_directory();
    started.args(arguments(QUICK));
    let forebay = Forebay::spawn(started).await;
    forebay.becomes_ready().await;
    forebay.sender().await.send(support::records::numbered_request(0..5)).await.unwrap();
    forebay.settles().await;
    let found = ran(in_directory().args(["query", "--json"])).await;
    assert_eq!(found.json().len(), 5, "{found:?}");
    forebay.terminate().await;
    let found = ran(in_directory().args(["query", "--json", "--attribute", "number=3"])).await;
    assert_eq!(found.json().len(), 1, "{found:?}");
}
