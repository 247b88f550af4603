//! `forebay tail`: every record that is stored is shown once, whatever happens meanwhile.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use ::forebay::embedded::Stop;
use support::forebay::{Forebay, QUICK, command, ran, run};
use support::postgres::{Database, Postgres, database};
use support::records::{now, numbered, request, text};
use support::{PATIENCE, eventually};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio_postgres::Client;

/// A tail that runs, with what it has shown and said so far.
pub struct Tail {
    child: Child,
    out: Lines,
    err: Lines,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Tail {
    /// Starts it with `arguments` that are parted by spaces.
    pub fn start(database: &Database, arguments: &str) -> Self {
        let mut command = command();
        command.env("DATABASE_URL", database.dsn()).arg("tail").args(arguments.split_terminator(' '));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, out: kept(out), err: kept(err) }
    }

    /// Waits until it has shown so many lines.
    pub async fn shows(&self, lines: usize) -> Vec<String> {
        eventually(&format!("{lines} lines are shown"), || async {
            let shown = self.out.lock().unwrap().clone();
            (shown.len() >= lines).then_some(shown)
        })
        .await
    }

    /// Waits until it has shown a line with `text`; gives the bodies of all.
    async fn shows_line(&self, text: &str) -> Vec<String> {
        eventually(&format!("{text} is shown"), || async {
            let shown = self.out.lock().unwrap().clone();
            shown.iter().any(|line| line.contains(text)).then_some(shown)
        })
        .await
    }

    /// Waits until it has said a line with `text`.
    async fn says(&self, text: &str) {
        eventually(&format!("{text} is said"), || async {
            self.err.lock().unwrap().iter().any(|line| line.contains(text)).then_some(())
        })
        .await;
    }

    async fn ends_by(mut self, signal: &str) -> (ExitStatus, Vec<String>) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().await.unwrap().success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        let said = self.err.lock().unwrap().clone();
        (status, said)
    }
}

fn kept(stream: impl AsyncRead + Send + Unpin + 'static) -> Lines {
    let lines = Lines::default();
    let all = lines.clone();
    tokio::spawn(async move {
        let mut stream = BufReader::new(stream).lines();
        while let Ok(Some(line)) = stream.next_line().await {
            all.lock().unwrap().push(line);
        }
    });
    lines
}

/// Stores a record of so many seconds ago.
async fn store(client: &Client, ago: u32, body: &str) {
    let insert = format!(
        "INSERT INTO otel.log_records (time, time_unix_nano, resource_id, scope_id, body, attributes)
        SELECT at, extract(epoch FROM at) * 1000000000, md5('r')::uuid, md5('s')::uuid, '{body}', '{{}}'
        FROM (SELECT now() - interval '{ago} s') t (at)"
    );
    client.batch_execute(&insert).await.unwrap();
}

/// A store with one record in it, so that a tail shows when it has begun.
async fn begun(database: &Database) -> Client {
    Forebay::ready(database.dsn(), QUICK).await.terminate().await;
    let client = database.connect().await;
    store(&client, 0, "the first").await;
    client
}

/// The last word of each line.
fn last_words(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect()
}

/// Scenario: records through a forebay beside a tail: two that are the same, one that comes late, one that comes too late,
/// one of another service. Guarantee: what is asked for is shown, once each, the identical ones both; SIGTERM and SIGINT are
/// a proper end; the session says whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_shown_once() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    let sender = forebay.sender().await;
    let record = |number: u64, ago: u64| ::forebay::otlp::messages::LogRecord {
        time_unix_nano: now() - ago * 1_000_000_000,
        body: Some(text(format!("number {number}"))),
        attributes: Vec::new(),
        trace_id: Vec::new().into(),
        ..numbered(16)
    };
    let send = async |records| {
        sender.send(request(records)).await.unwrap();
        forebay.settles().await;
    };
    send((0..12).map(|number| record(number, 0)).collect()).await;
    let tail = Tail::start(&database, "--service shop --severity ERROR");
    let lines = tail.shows(10).await;
    assert_eq!(last_words(&lines), ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11"], "{lines:#?}");
    let same = record(20, 0);
    send(vec![same.clone(), same]).await;
    tail.shows(12).await;
    let mut other = request(vec![record(21, 0)]);
    other.resource_logs[0].resource.as_mut().unwrap().attributes.clear();
    sender.send(other).await.unwrap();
    send(vec![record(22, 40), record(23, 600)]).await;
    send(vec![record(24, 0)]).await;
    let lines = tail.shows_line("number 24").await;
    assert_eq!(last_words(&lines)[10..], ["20", "20", "22", "24"], "{lines:#?}");
    let session = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forebay tail'
        AND datname = current_database()";
    assert_eq!(database.connect().await.query_one(session, &[]).await.unwrap().get::<_, i64>(0), 1);
    let second = Tail::start(&database, "-n 1 --json");
    let shown = second.shows(1).await;
    assert!(shown[0].contains("\"body\":\"number 24\""), "{shown:?}");
    for (tail, signal) in [(tail, "TERM"), (second, "INT")] {
        let (status, said) = tail.ends_by(signal).await;
        assert_eq!((status.code(), said.len()), (Some(0), 0), "{said:?}");
    }
}

/// Scenario: transactions that commit in another order than they began, one of which is rolled back. Guarantee: each record
/// is shown when it is committed, once.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_commits_is_that_of_lines() {
    let database = database().await;
    let client = begun(&database).await;
    let tail = Tail::start(&database, "");
    tail.shows(1).await;
    let (early, middle, never) =
        (database.connect().await, database.connect().await, database.connect().await);
    for (client, body) in [(&early, "early"), (&middle, "middle"), (&never, "never")] {
        client.batch_execute("BEGIN").await.unwrap();
        store(client, 0, body).await;
    }
    for number in 0..3 {
        store(&client, 0, &format!("between{number}")).await;
        tail.shows(2 + number).await;
    }
    middle.batch_execute("COMMIT").await.unwrap();
    tail.shows(5).await;
    never.batch_execute("ROLLBACK").await.unwrap();
    early.batch_execute("COMMIT").await.unwrap();
    tail.shows(6).await;
    store(&client, 0, "last").await;
    let lines = tail.shows(7).await;
    let expected = ["first", "between0", "between1", "between2", "middle", "early", "last"];
    assert_eq!(last_words(&lines), expected, "{lines:#?}");
}

/// Scenario: three thousand records in one transaction, then one more. Guarantee: the newest thousand are shown, the number of
/// the others is said, and what comes then is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_cut_and_counted() {
    let database = database().await;
    let client = begun(&database).await;
    let tail = Tail::start(&database, "");
    tail.shows(1).await;
    let flood = "INSERT INTO otel.log_records (time, time_unix_nano, resource_id, scope_id, body, attributes)
        SELECT at, extract(epoch FROM at) * 1000000000, md5('r')::uuid, md5('s')::uuid, 'flood ' || i, '{}'
        FROM generate_series(1, 3000) i, LATERAL (SELECT now() - (3000 - i) * interval '1 ms') t (at)";
    client.batch_execute(flood).await.unwrap();
    tail.says("2,000 more records; narrow it with --service").await;
    store(&client, 0, "after").await;
    let lines = tail.shows_line("after").await;
    let flood: Vec<_> = (2001..=3000).map(|number| number.to_string()).collect();
    assert_eq!(last_words(&lines)[1..1001], flood);
    assert_eq!(lines.len(), 1002);
}

/// Scenario: the database is stopped, and started again with a record that was stored meanwhile. Guarantee: said once; the
/// record is shown, and none twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_database_is_survived() {
    let mut postgres = Postgres::start().await;
    let database = postgres.database().await;
    let client = begun(&database).await;
    let tail = Tail::start(&database, "");
    tail.shows(1).await;
    store(&client, 0, "before").await;
    tail.shows(2).await;
    store(&client, 0, "then").await;
    postgres.stop(Stop::Fast).await;
    tail.says("trying again").await;
    postgres.start_again().await;
    store(&database.connect().await, 0, "after").await;
    tail.says("the database is back").await;
    let lines = tail.shows_line("after").await;
    assert_eq!(last_words(&lines), ["first", "before", "then", "after"], "{lines:#?}");
    let (status, said) = tail.ends_by("TERM").await;
    assert_eq!((status.code(), said.len()), (Some(0), 2), "{said:#?}");
}

/// Scenario: whoever reads has seen enough, and no further record comes. Guarantee: the tail ends, without a word.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_reads_is_an_end() {
    let database = database().await;
    begun(&database).await;
    let mut shell = Command::new("bash");
    let line = format!("set -o pipefail; {} tail | head -n 1", env!("CARGO_BIN_EXE_forebay"));
    let ended = ran(shell.args(["-c", &line]).env("DATABASE_URL", database.dsn())).await;
    assert_eq!((ended.status, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.out.ends_with("the first\n"), "{ended:?}");
}

/// Scenario: a standby. Guarantee: it can be searched, and a tail says that it needs the primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_searched_and_not_followed() {
    let primary = Postgres::start().await;
    let database = primary.database().await;
    begun(&database).await;
    let follower = primary.standby(database.address()).await;
    let standby = follower.existing(database.name());
    let dsn = format!("{} target_session_attrs=read-only", standby.dsn());
    let found = run(&dsn, "query --json", &[]).await;
    assert_eq!((found.status, found.json().len()), (Some(0), 1), "{found:?}");
    let refused = run(&dsn, "tail", &[]).await;
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.err.contains("a standby") && refused.err.contains("primary"), "{refused:?}");
}
