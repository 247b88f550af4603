//! The two connections to PostgreSQL: encrypted as `sslmode` asks, protected by their own timeouts, and to the server
//! of several that can be written to.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use forebay::postgres::copy::copy;
use forebay::postgres::dsn::Target;
use forebay::postgres::error::{Class, Failure};
use forebay::postgres::pool::Pool;
use forebay::postgres::session::{Connection, attempt};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use support::forebay::{Forebay, QUICK};
use support::postgres::{Database, Postgres, database};
use support::records::numbered_request;
use support::sender::Told;
use support::{eventually, stored};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_postgres::Client;

/// A self-signed certificate for `localhost`, which is its own authority.
fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// `certificate` as a file for `sslrootcert`.
fn root_file(dir: &TempDir, name: &str, certificate: &CertifiedKey<KeyPair>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, certificate.cert.pem()).unwrap();
    path
}

/// A connection string to `database` by `host`, with TLS options.
fn dsn(database: &Database, host: &str, tls: &str) -> String {
    let (port, user) = (database.address().port(), forebay::embedded::NAME);
    format!("host={host} port={port} user={user} dbname={} {tls}", database.name())
}

/// Whether each of forebay's sessions is encrypted.
async fn encrypted(database: &Database) -> Vec<bool> {
    let sessions = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE application_name = 'forebay' AND datname = current_database()";
    let rows = database.connect().await.query(sessions, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Scenario: a server with a certificate for `localhost`, and every `sslmode`. Guarantee: each is encrypted, or not,
/// as libpq has it, and what is wrong with a certificate is said.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_what_sslmode_asks_for() {
    let (of_server, other) = (certificate(), certificate());
    let postgres =
        Postgres::start_with_tls(&of_server.cert.pem(), &of_server.signing_key.serialize_pem()).await;
    let dir = TempDir::new().unwrap();
    let (root, wrong) = (root_file(&dir, "root.pem", &of_server), root_file(&dir, "wrong.pem", &other));
    let (root, wrong) =
        (format!("sslrootcert={}", root.display()), format!("sslrootcert={}", wrong.display()));
    for (host, tls, expected) in [
        ("localhost", "sslmode=disable".to_owned(), false),
        ("localhost", "".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=verify-ca {root}"), true),
        ("localhost", format!("sslmode=verify-full {root}"), true),
    ] {
        let database = postgres.database().await;
        let forebay = Forebay::ready(&dsn(&database, host, &tls), QUICK).await;
        forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
        assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 10, "{host} {tls}");
        let sessions = encrypted(&database).await;
        assert!(
            !sessions.is_empty() && sessions.iter().all(|is| *is == expected),
            "{host} {tls}: {sessions:?}"
        );
    }
    for (host, tls, why) in [
        ("localhost", format!("sslmode=verify-ca {wrong}"), "certificate"),
        ("localhost", format!("sslmode=verify-full {wrong}"), "certificate"),
        ("127.0.0.1", format!("sslmode=verify-full {root}"), "not valid for name"),
    ] {
        let database = postgres.database().await;
        let forebay = Forebay::start(&dsn(&database, host, &tls), QUICK).await;
        forebay.becomes_unready("database_unreachable").await;
        let (_, body) = forebay.health().await;
        assert!(body["detail"].as_str().unwrap().contains(why), "{host} {tls}: {body}");
        assert!(encrypted(&database).await.is_empty(), "{host} {tls}");
    }
}

/// Scenario: `sslmode=require` and a server without TLS. Guarantee: nothing is sent in the clear.
#[tokio::test(flavor = "multi_thread")]
async fn require_does_not_fall_back_to_clear_text() {
    let database = database().await;
    let forebay = Forebay::start(&dsn(&database, "localhost", "sslmode=require"), QUICK).await;
    forebay.becomes_unready("database_unreachable").await;
    let (_, body) = forebay.health().await;
    assert!(body["detail"].as_str().unwrap().contains("TLS"), "{body}");
}

/// The values of a setting that the spy has seen.
async fn seen(client: &Client, name: &str) -> Vec<String> {
    let values = client.query("SELECT DISTINCT value FROM seen WHERE name = $1", &[&name]).await.unwrap();
    values.iter().map(|row| row.get(0)).collect()
}

/// Scenario: role and database have the defaults of a DBA who cares little. Guarantee: forebay's sessions, two at
/// most, have settings of their own: commits are durable, and a forebay that vanishes holds nothing for long.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_set_their_own_timeouts() {
    let database = database().await;
    let client = database.connect().await;
    let careless = format!(
        "ALTER DATABASE {0} SET synchronous_commit = off; ALTER DATABASE {0} SET lock_timeout = 0;
         CREATE TABLE seen (name text, value text)",
        database.name()
    );
    client.batch_execute(&careless).await.unwrap();
    // Over TCP: a Unix socket has no keepalives.
    let over_tcp = database.dsn_by_way_of(database.address());
    let forebay = Forebay::ready(&over_tcp, &["exporters.postgres.timeout=7s"]).await;
    let spy = "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.seen SELECT name, current_setting(name) FROM pg_settings; RETURN NULL;
        END $$;
        CREATE TRIGGER spy AFTER INSERT OR UPDATE ON otel.lanes FOR EACH ROW EXECUTE FUNCTION public.spy()";
    client.batch_execute(spy).await.unwrap();
    forebay.sender().await.send(numbered_request(0..10)).await.unwrap();
    forebay.settles().await;
    for (name, expected) in [
        ("application_name", "forebay"),
        ("synchronous_commit", "on"),
        ("statement_timeout", "7s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "20000"),
        ("client_connection_check_interval", "5s"),
    ] {
        assert_eq!(seen(&client, name).await, [expected], "{name}");
    }
    let version = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await.unwrap();
    let has_it = version.get::<_, i32>(0) >= 170_000;
    assert_eq!(seen(&client, "transaction_timeout").await, if has_it { &["12s"][..] } else { &[] });
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forebay' \
                AND datname = current_database()";
    let sessions: i64 = client.query_one(ours, &[]).await.unwrap().get(0);
    assert!((1..=2).contains(&sessions), "{sessions} sessions");
}

/// Makes new transactions on `database`'s server read-only, as on a standby, or ends that.
async fn set_read_only(database: &Database, on: bool) {
    let client = database.connect().await;
    let set = format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
    client.batch_execute(&set).await.unwrap();
    client.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
    eventually("the server has changed", || async {
        let row = database.connect().await.query_one("SHOW transaction_read_only", &[]).await.unwrap();
        ((row.get::<_, String>(0) == "on") == on).then_some(())
    })
    .await;
}

/// Scenario: two servers in the connection string; the one that can be written to becomes read-only, and later the
/// other one can be written to. Guarantee: forebay leaves the sessions that are of no use and finds the other server,
/// nothing is lost or stored twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_that_can_be_written_to_is_found() {
    let (first, second) = tokio::join!(Postgres::start(), Postgres::start());
    let one = first.database().await;
    let two = second.database_named(one.name()).await;
    // Makes the schema, which replication would have brought there.
    Forebay::ready(two.dsn(), QUICK).await.terminate().await;
    set_read_only(&two, true).await;
    let both = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user={} dbname={}",
        one.address().port(),
        two.address().port(),
        forebay::embedded::NAME,
        one.name()
    );
    let forebay = Forebay::ready(&both, QUICK).await;
    let sender = forebay.sender().await;
    let mut told = Told::default();
    sender.send_numbered(0..100, &mut told).await;
    forebay.settles().await;
    assert_eq!(stored(&one).await.rows(), 100);
    set_read_only(&one, true).await;
    sender.send_numbered(100..200, &mut told).await;
    forebay.becomes_unready("database_unreachable").await;
    set_read_only(&two, false).await;
    forebay.becomes_ready().await;
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 200);
    stored(&two).await.assert_holds_each_once(&[100..200]);
    assert_eq!(stored(&two).await.rows(), 100);
}

/// Begins a transaction that writes a row.
async fn begin(connection: &Connection, value: i32) -> Result<(), Failure> {
    connection.batch_execute(&format!("BEGIN; INSERT INTO public.half_done VALUES ({value})")).await?;
    Ok(())
}

/// The server process of the pool's connection, after a COMMIT on it, and how many rows are there for it.
async fn process_and_rows(pool: &Pool) -> (i32, i64) {
    let look = async |connection: &Connection| {
        connection.batch_execute("COMMIT").await?;
        let select = "SELECT pg_backend_pid(), count(*) FROM public.half_done";
        let row = connection.query_one(select, &[]).await?;
        Ok((row.get(0), row.get(1)))
    };
    pool.session(Duration::from_secs(10), look).await.unwrap()
}

/// Scenario: work on a connection fails in its transaction, is dropped in the middle of it, or runs into its deadline.
/// Guarantee: the next user of the pool is in no transaction of somebody else, whose COMMIT would store half of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_never_left_to_the_next_user_of_a_connection() {
    let database = database().await;
    let create = "CREATE TABLE public.half_done (value int CHECK (value > 0))";
    database.connect().await.batch_execute(create).await.unwrap();
    let pool = Pool::new(Target::parse(database.dsn()).unwrap(), 1, Duration::from_secs(10)).unwrap();
    let (first, _) = process_and_rows(&pool).await;

    let refused = pool.session(Duration::from_secs(10), async |c| begin(c, -1).await).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("23514"));
    assert_eq!(process_and_rows(&pool).await, (first, 0), "rolled back, the connection is used again");

    let begun = Notify::new();
    let work = async |connection: &Connection| {
        begin(connection, 1).await?;
        begun.notify_one();
        std::future::pending::<Result<(), Failure>>().await
    };
    tokio::select! {
        _ = pool.session(Duration::from_secs(60), work) => unreachable!("it does not end"),
        () = begun.notified() => {}
    }
    let (second, rows) = process_and_rows(&pool).await;
    assert_eq!((second != first, rows), (true, 0), "what was dropped has ended with its connection");

    let late = pool.session(Duration::from_millis(100), work).await.unwrap_err();
    assert!(late.message.contains("0.1 s"), "{late}");
    let (third, rows) = process_and_rows(&pool).await;
    assert_eq!((third != second, rows), (true, 0), "so has what took too long");
}

/// One row of a binary COPY.
const ROW: &[u8] = &[0, 1, 0, 0, 0, 4, 0, 0, 0, 7];

/// Stores two rows in one transaction, one by an INSERT and one by a COPY.
async fn store_two(connection: &Connection) -> Result<(), Failure> {
    begin(connection, 7).await?;
    let rows = [Bytes::from_static(ROW)];
    assert_eq!(copy(connection, "COPY public.half_done FROM STDIN BINARY", "half_done", rows).await?, 1);
    connection.batch_execute("COMMIT").await?;
    Ok(())
}

/// Polls `work` so many times, and drops it; gives whether it had ended. It is dropped either as soon as it waits, or when what it
/// waits for has come.
async fn dropped_after<T>(polls: usize, when_it_has_come: bool, work: impl Future<Output = T>) -> bool {
    let (mut work, mut left) = (pin!(work), polls);
    poll_fn(|context| {
        while left > 0 {
            left -= 1;
            if work.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            if left > 0 || when_it_has_come {
                return Poll::Pending;
            }
        }
        Poll::Ready(false)
    })
    .await
}

/// Scenario: a piece of work is dropped at each point at which it waits: for a connection, for each answer of its transaction. Guarantee:
/// whoever has the pool's connection next commits nothing of it: both of its rows are stored, or none.
#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_dropped_anywhere_leaves_nothing_to_the_next_user() {
    let database = database().await;
    database.connect().await.batch_execute("CREATE TABLE public.half_done (value int)").await.unwrap();
    let pool = Pool::new(Target::parse(database.dsn()).unwrap(), 1, Duration::from_secs(10)).unwrap();
    for when_it_has_come in [false, true] {
        let mut points = 0;
        loop {
            let work = pool.session(Duration::from_secs(60), async |c| store_two(c).await);
            let has_ended = dropped_after(points, when_it_has_come, work).await;
            let (_, rows) = process_and_rows(&pool).await;
            assert_eq!(rows % 2, 0, "dropped at point {points}, {when_it_has_come}");
            if has_ended {
                break;
            }
            points += 1;
        }
        // Answers that come together are one wait; BEGIN, COPY and COMMIT each have one of their own.
        assert!(points >= 3, "{points} points are too few for a transaction");
    }
}

/// Scenario: work gives its connection back in a transaction, by a mistake of ours. Guarantee: nobody else gets that connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_comes_back_in_a_transaction_is_not_used_again() {
    let database = database().await;
    database.connect().await.batch_execute("CREATE TABLE public.half_done (value int)").await.unwrap();
    let pool = Pool::new(Target::parse(database.dsn()).unwrap(), 1, Duration::from_secs(10)).unwrap();
    let (first, _) = process_and_rows(&pool).await;
    pool.session(Duration::from_secs(10), async |c| begin(c, 1).await).await.unwrap();
    let (second, rows) = process_and_rows(&pool).await;
    assert_eq!((second != first, rows), (true, 0));
}

/// Scenario: a part of a piece of work fails, by PostgreSQL or by a decision of forebay's own, in a transaction. Guarantee: the rest goes on by the
/// same connection, outside of any transaction. A connection that is lost ends all of it.
#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_where_a_part_of_it_fails() {
    let database = database().await;
    database.connect().await.batch_execute("CREATE TABLE public.half_done (value int)").await.unwrap();
    let pool = Pool::new(Target::parse(database.dsn()).unwrap(), 1, Duration::from_secs(10)).unwrap();
    let parts = async |c: &Connection| {
        let called_off = async {
            begin(c, 1).await?;
            Err::<(), _>(Failure::new(Class::Busy, "writing records goes first"))
        };
        assert_eq!(attempt(c, called_off).await?.unwrap_err().class, Class::Busy);
        let refused = async {
            begin(c, 2).await?;
            Ok::<_, Failure>(c.batch_execute("SELECT nothing").await?)
        };
        assert_eq!(attempt(c, refused).await?.unwrap_err().sqlstate.as_deref(), Some("42703"));
        begin(c, 3).await?;
        Ok(c.batch_execute("COMMIT").await?)
    };
    pool.session(Duration::from_secs(10), parts).await.unwrap();
    assert_eq!(process_and_rows(&pool).await.1, 1);
    let lost = async |c: &Connection| {
        let lost = async { Err::<(), _>(Failure::new(Class::Connection, "gone")) };
        Ok(attempt(c, lost).await?.is_ok())
    };
    assert_eq!(pool.session(Duration::from_secs(10), lost).await.unwrap_err().message, "gone");
}
