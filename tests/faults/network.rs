//! The network between forebay and PostgreSQL: silent, forgetful, slow. What must hold: every wait ends by a deadline
//! of forebay's own, and what arrives late does no harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::eventually;
use support::postgres::{Database, database};
use support::proxy::{Action, Line, Message, Proxy};
use tokio::time::{Instant, sleep};

use crate::chance::either;
use crate::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);

/// A scene with the proxy in between.
struct Wire {
    scene: Scene,
    line: Line,
    /// Set by the test; taken back by what `decide` does once.
    armed: Arc<AtomicBool>,
    _proxy: Proxy,
}

impl Wire {
    /// `decide` is asked at each message once the wire is armed, until it does something else than forward.
    async fn begin(
        database: &Database,
        decide: impl Fn(&Message, &Line) -> Action + Send + Sync + 'static,
    ) -> Self {
        let (line, armed) = (Line::default(), Arc::new(AtomicBool::new(false)));
        let (of_proxy, once) = (line.clone(), armed.clone());
        let decide = move |message: &Message| {
            if once.load(Ordering::SeqCst) { decide(message, &of_proxy) } else { Action::Forward }
        };
        let proxy = Proxy::start_on(line.clone(), database.address(), decide).await;
        let dsn = format!("{} sslmode=disable", database.dsn_by_way_of(proxy.address()));
        let timeout = format!("exporters.postgres.timeout={}s", either(1, 10));
        let scene = Scene::begin(database, &dsn, &[&timeout]).await;
        Self { scene, line, armed, _proxy: proxy }
    }

    /// Arms the wire, and waits until forebay has given a batch's connection up.
    async fn breaks(&self) {
        let failures = self.scene.failures().await;
        self.armed.store(true, Ordering::SeqCst);
        eventually("forebay gives up waiting", || async {
            (self.scene.failures().await > failures).then_some(())
        })
        .await;
    }
}

/// The whole line goes silent at the first message that is `at`, and comes back with all that was sent meanwhile.
async fn silent_line(fault: &str, at: fn(&Message) -> bool) {
    let database = database().await;
    let wire = Wire::begin(&database, move |message, line| {
        if at(message) {
            line.set_silent(true);
        }
        Action::Forward
    })
    .await;
    let began = Instant::now();
    wire.breaks().await;
    sleep((either(3, 120) * SECOND).saturating_sub(began.elapsed())).await;
    wire.armed.store(false, Ordering::SeqCst);
    wire.line.set_silent(false);
    let recovery = wire.scene.recovers().await;
    let fault = format!("{fault}, {} looked up", wire.scene.looked_up());
    let account = wire.scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Fault 12. Scenario: the line goes silent in the middle of a COPY, with connections that look whole, and comes back
/// later. Promise: the batch's deadline ends the wait; what arrives late is rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn silence_in_the_middle_of_a_copy() {
    silent_line("fault 12, line silent in a COPY", Message::is_copy_data).await;
}

/// Fault 12. Scenario: the line goes silent at a COMMIT, which arrives when the line is back. Promise: whether it was
/// carried out is looked up.
#[tokio::test(flavor = "multi_thread")]
async fn silence_at_a_commit() {
    silent_line("fault 12, line silent at a COMMIT", Message::is_commit).await;
}

/// One connection goes silent, and others can be had at once, as with a firewall that has forgotten it. Its server
/// process is left with the lock on its lane's row, until its timeout or forebay ends it.
async fn forgotten_connection(fault: &str, at: fn(&Message) -> bool) {
    let database = database().await;
    let silenced = AtomicBool::new(false);
    let wire = Wire::begin(&database, move |message, _| {
        let first = at(message) && !silenced.swap(true, Ordering::SeqCst);
        if first { Action::Silence } else { Action::Forward }
    })
    .await;
    wire.breaks().await;
    let first = Instant::now();
    wire.scene.flushes(1).await;
    let first = first.elapsed();
    let recovery = wire.scene.recovers().await;
    let account = wire.scene.ends(&format!("{fault}, first commit after {first:.1?}"), recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}

/// Fault 12. Scenario: one connection goes silent for good at its COMMIT. Promise: the other lane goes on, and the
/// server's `idle_in_transaction_session_timeout`, which is of our setting, sets the batch free.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_forgotten_at_a_commit() {
    forgotten_connection("fault 12, connection silent at a COMMIT", Message::is_commit).await;
}

/// Fault 12. Scenario: one connection goes silent for good in the middle of a COPY, where the server would wait
/// for more without an end. Promise: the other lane goes on, and this one has the lost session ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_forgotten_in_a_copy() {
    forgotten_connection("fault 12, connection silent in a COPY", Message::is_copy_data).await;
}

/// Fault 14. Scenario: each answer takes 200 ms longer and 64 KiB go through a second, which is a twentieth of the
/// load; then each COPY takes a second longer in the server. Promise: what does not fit is shed and counted, memory
/// does not grow, the senders do not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database() {
    let database = database().await;
    let wire = Wire::begin(&database, |_, _| Action::Forward).await;
    let (before, length) = (wire.scene.flushed().await, either(3, 60) * SECOND);
    wire.line.set_slow(Duration::from_millis(200), Some(64 << 10));
    sleep(length).await;
    wire.line.set_slow(Duration::ZERO, None);
    let on_a_slow_line = wire.scene.flushed().await - before;
    let on_line = wire.scene.recovers().await;
    let client = database.connect().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END';
        CREATE TRIGGER slow AFTER INSERT ON otel.log_records EXECUTE FUNCTION slow()";
    client.batch_execute(slow).await.unwrap();
    sleep(length).await;
    client.batch_execute("DROP FUNCTION slow CASCADE").await.unwrap();
    let recovery = on_line.max(wire.scene.recovers().await);
    let fault = format!("fault 14, slow database, {on_a_slow_line} records written on the slow line");
    let account = wire.scene.ends(&fault, recovery).await;
    assert_eq!(account.lost + account.copies, 0);
}
