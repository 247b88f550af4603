//! The durable queue as PostgreSQL sees it: who writes it, what is stored of it, and what was lost. The lanes are the real ones; the
//! queue has no directory, so that the tests say which records it has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::buffer::Buffer;
use forebay::buffer::config::{BatchConfig, QueueConfig};
use forebay::buffer::disk::{DurableQueue, Positions, Run};
use forebay::exporter::{Exporter, config::Config};
use forebay::otlp::Limits;
use forebay::postgres::dsn::Target;
use forebay::postgres::pool::Pool;
use forebay::store::Store;
use forebay::store::lanes::{Owner, stored_of, take_over};
use forebay::table::identifier::Schema;
use forebay::table::mapping::config::{ColumnConfig, Field, TableConfig};
use forebay::table::partition::Width;
use forebay::table::{Mapping, RowFormat, Space, Transcoder};
use forebay::telemetry::Health;
use forebay::values::duration::GoDuration;
use prost::Message as _;
use support::postgres::{Database, database};
use support::proxy::{Action, End, Message, Proxy};
use support::records::numbered_request;
use support::{eventually, stored};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::reading::first_column;

/// The run of the records, unless a test has others.
const RUN: i64 = 7;

/// A forebay over a durable queue: keeper and lanes, without a receiver.
struct Process {
    queue: Arc<DurableQueue>,
    buffer: Arc<Buffer>,
    exporter: Arc<Exporter>,
    store: Arc<Store>,
    health: Health,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Process {
    /// One with a single lane.
    fn begin(dsn: &str, queue: Uuid) -> Self {
        let mut process = Self::with(dsn, queue, |config| config.pool_size = 1);
        process.run_lane(0);
        process
    }

    /// One whose lanes do not run yet.
    fn with(dsn: &str, queue: Uuid, change: impl FnOnce(&mut Config)) -> Self {
        Self::with_batches_of(0, dsn, queue, change)
    }

    /// The same, with at most so many records in a batch; 0 is no limit.
    fn with_batches_of(
        send_batch_max_size: usize,
        dsn: &str,
        queue: Uuid,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config { timeout: GoDuration(Duration::from_secs(4)), ..Config::default() };
        config.retry_on_failure.initial_interval = GoDuration(Duration::from_millis(20));
        config.retry_on_failure.max_interval = GoDuration(Duration::from_millis(50));
        change(&mut config);
        let (meter, health) = (opentelemetry::global::meter("test"), Health::new());
        let of_store = config.store();
        let (destination, target) = (of_store.destination().unwrap(), Target::parse(dsn).unwrap());
        let retry = config.retry_on_failure.clone();
        let store = Store::new(of_store, retry, destination, target, health.clone(), &meter).unwrap();
        let store = Arc::new(store);
        let queue = Arc::new(DurableQueue::without_directory(queue));
        let timeout = GoDuration(Duration::from_millis(5));
        let batch = BatchConfig { timeout, send_batch_max_size, ..BatchConfig::default() };
        let buffer = Arc::new(Buffer::new(&QueueConfig::default(), &batch).durably(queue.clone()));
        let exporter = Arc::new(Exporter::new(config, store.clone(), buffer.clone(), &meter));
        let keeper = store.clone();
        let tasks = vec![tokio::spawn(async move { keeper.run_keeper().await })];
        Self { queue, buffer, exporter, store, health, tasks }
    }

    fn run_lane(&mut self, number: usize) {
        let exporter = self.exporter.clone();
        self.tasks.push(tokio::spawn(async move { exporter.run_lane(number).await }));
    }

    /// Puts the records `numbers` into the queue, at positions of these numbers.
    fn put(&self, numbers: Range<u64>) {
        self.put_as(numbers, None, None);
    }

    /// The same, as rows for the table of `mapping` in this format.
    fn put_as(&self, numbers: Range<u64>, mapping: Option<Arc<Mapping>>, format: Option<RowFormat>) {
        let (first, records) = (numbers.start, (numbers.end - numbers.start) as usize);
        let request = numbered_request(numbers).encode_to_vec();
        let transcoder = Transcoder::new(Width::default(), mapping, Limits::default());
        let rows = transcoder.transcode(&request, records, 1, &mut Space::unlimited()).unwrap().rows;
        self.buffer.put_at(rows, (RUN, first), format.map(Arc::new));
    }

    /// Waits until nothing of `numbers` is left to write.
    async fn has(&self, numbers: Range<u64>) {
        eventually("the records are stored", || async {
            let is_stored = self.queue.claims().stored().covers(RUN, numbers.clone());
            (is_stored && self.buffer.budget().records() == 0).then_some(())
        })
        .await;
    }

    async fn writes(&self, numbers: Range<u64>) {
        self.put(numbers.clone());
        self.has(numbers).await;
    }

    /// What it knows to be stored.
    fn stored(&self) -> Vec<i64> {
        self.queue.claims().stored().to_numbers()
    }

    /// Waits until it owns the queue.
    async fn owns(&self, client: &Client) {
        let id = self.queue.id();
        let owns = format!(
            "SELECT count(*) FROM otel.lanes WHERE queue = '{id}' AND gateway = '{}'",
            self.store.gateway
        );
        let there = "SELECT to_regclass('otel.lanes') IS NOT NULL AND EXISTS (SELECT FROM information_schema.columns \
                     WHERE table_schema = 'otel' AND table_name = 'lanes' AND column_name = 'queue')";
        eventually("the queue is taken over", || async {
            let there: bool = client.query_one(there, &[]).await.unwrap().get(0);
            (there && client.query_one(&owns, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
        })
        .await;
    }
}

async fn count(client: &Client, from: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await.unwrap().get(0)
}

/// The positions that PostgreSQL has of `queue`.
async fn claimed(client: &Client, queue: Uuid) -> Vec<i64> {
    let mut positions = Positions::default();
    let select = "SELECT stored[2:] FROM otel.lanes WHERE queue = $1 AND stored IS NOT NULL";
    for row in client.query(select, &[&queue]).await.unwrap() {
        positions.add(&Positions::from_numbers(&row.get::<_, Vec<i64>>(0)));
    }
    positions.to_numbers()
}

/// Keeps the rows of the lanes as they are, for [`fail_over`].
const KEEP: &str = "CREATE TABLE public.kept AS SELECT * FROM otel.lanes";

/// Does what a failover to a lagging standby does: takes the lanes back to what was kept, and removes the records `lost`.
async fn fail_over(client: &Client, lost: Range<u64>) {
    let numbers = format!("BETWEEN {} AND {}", lost.start, lost.end - 1);
    client
        .batch_execute(&format!(
            "BEGIN; DELETE FROM otel.lanes; INSERT INTO otel.lanes SELECT * FROM public.kept; \
             DELETE FROM otel.log_records WHERE (attributes->>'number')::int {numbers}; COMMIT"
        ))
        .await
        .unwrap();
}

/// Scenario: a forebay has written a queue, and another one is started on it. Promise: the second knows all that is stored, and the
/// first writes nothing any more, says so, and does not end before it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_a_queue_over_knows_what_is_stored_and_the_earlier_owner_writes_nothing_more() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let first = Process::begin(database.dsn(), id);
    first.writes(0..10).await;
    first.writes(20..30).await;
    assert_eq!(claimed(&client, id).await, [7, 0, 10, 7, 20, 30]);
    let second = Process::begin(database.dsn(), id);
    second.owns(&client).await;
    eventually("the second one knows", || async { (second.stored().len() == 6).then_some(()) }).await;
    assert_eq!(second.stored(), [7, 0, 10, 7, 20, 30]);
    first.put(10..20);
    let detail = eventually("the first one is fenced", || async {
        let report = first.health.report();
        report.trouble.filter(|_| first.queue.is_fenced()).map(|(_, detail)| detail)
    })
    .await;
    assert!(detail.contains(&format!("another forebay has taken over this queue ({id})")), "{detail}");
    second.writes(30..40).await;
    assert_eq!(claimed(&client, id).await, [7, 0, 10, 7, 20, 40]);
    stored(&database).await.assert_holds_each_once(&[0..10, 20..40]);
    assert_eq!(stored(&database).await.rows(), 30);
    first.buffer.close();
    eventually("the first one ends", || async { first.tasks[1].is_finished().then_some(()) }).await;
    assert_eq!(first.buffer.books().dropped_total(), 0, "its records are left to the other one");
    assert!(!second.queue.is_fenced());
}

/// Scenario: two lanes write many batches, so that their rows get other numbers, each while the other one writes. Promise: each finds the
/// other's row, and takes nothing for lost. A lane that is fenced when its row is to get another number stays fenced.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_get_other_numbers_are_found_and_fenced_as_well() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let mut first = Process::with_batches_of(1, database.dsn(), id, |_| {});
    (0..2).for_each(|lane| first.run_lane(lane));
    first.owns(&client).await;
    let anchor = "SELECT stored[1]::text FROM otel.lanes WHERE lane = -2";
    let before = first_column(&client, anchor).await;
    first.writes(0..1000).await;
    let moved =
        "SELECT count(*)::text FROM otel.lanes WHERE lane > 1 AND queue IS NOT NULL AND stored IS NOT NULL";
    assert_eq!(first_column(&client, moved).await, ["2"]);
    assert_eq!(first_column(&client, anchor).await, before, "the queue was not taken over again");
    assert_eq!(claimed(&client, id).await, [7, 0, 1000]);
    let id = Uuid::new_v4();
    let mut third = Process::with_batches_of(1, database.dsn(), id, |config| config.pool_size = 1);
    third.run_lane(0);
    third.writes(1000..1200).await;
    let fourth = Process::begin(database.dsn(), id);
    eventually("the queue is taken over", || async { (fourth.stored() == [7, 1000, 1200]).then_some(()) })
        .await;
    third.put(1200..1210);
    eventually("it is fenced", || async { third.queue.is_fenced().then_some(()) }).await;
    assert_eq!(claimed(&client, id).await, [7, 1000, 1200]);
    stored(&database).await.assert_holds_each_once(&[0..1200]);
    assert_eq!(stored(&database).await.rows(), 1200);
}

/// Scenario: somebody empties the table of lanes. Promise: the lanes write on, and nothing is said to be stored of what PostgreSQL no
/// longer says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_lanes_that_was_emptied_is_filled_again() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let process = Process::begin(database.dsn(), id);
    process.writes(0..10).await;
    client.batch_execute("TRUNCATE otel.lanes").await.unwrap();
    process.writes(10..20).await;
    assert_eq!(process.stored(), [7, 10, 20]);
    process.writes(20..30).await;
    assert_eq!(claimed(&client, id).await, [7, 10, 30]);
}

/// Scenario: a queue has been started thousands of times, and its directory has nothing of most of those runs any more. Promise: the
/// oldest of them are forgotten, and none that the directory has records of.
#[tokio::test(flavor = "multi_thread")]
async fn positions_of_runs_that_are_long_gone_are_forgotten() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    Process::begin(database.dsn(), id).owns(&client).await;
    let many = "UPDATE otel.lanes SET stored = ARRAY[255]::bigint[] || \
                (SELECT array_agg(n ORDER BY run, i) FROM generate_series(1, 1500) run, unnest(ARRAY[run, 0, 5]) WITH ORDINALITY u(n, i)) \
                WHERE lane = -2";
    client.batch_execute(many).await.unwrap();
    let pool = Pool::new(Target::parse(database.dsn()).unwrap(), 1, Duration::from_secs(10)).unwrap();
    let (schema, limit) = (Schema::new("otel"), Duration::from_secs(10));
    let owner = Owner { schema: &schema, queue: id, gateway: Uuid::new_v4(), lanes: 1 };
    for (oldest, expected) in [(Run::MIN, 1..=1500), (301, 301..=1500), (Run::MAX, 501..=1500)] {
        let taken = pool.session(limit, async |c| take_over(c, owner, None, oldest).await).await.unwrap();
        assert_eq!(taken.stored.iter().map(|(run, _)| run).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let kept = pool.session(limit, async |c| stored_of(c, &schema, id).await).await.unwrap();
        assert_eq!(kept, taken.stored);
    }
}

/// Scenario: the earlier owner of a queue is in a transaction when the queue is taken over. Promise: that is waited for, so that what it
/// stores is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_waits_for_a_transaction_of_the_earlier_owner() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let first = Process::begin(database.dsn(), id);
    first.writes(0..10).await;
    let earlier = database.connect().await;
    let write =
        "BEGIN; UPDATE otel.lanes SET sequence = sequence + 1, stored = ARRAY[512, 7, 0, 25] WHERE lane = 0";
    earlier.batch_execute(write).await.unwrap();
    let second = Process::begin(database.dsn(), id);
    are_waiting(&client, 1).await;
    assert_eq!(second.stored(), [0; 0]);
    earlier.batch_execute("COMMIT").await.unwrap();
    second.writes(30..40).await;
    assert_eq!(second.stored(), [7, 0, 25, 7, 30, 40]);
}

/// Waits until so many sessions wait for the lock on a row.
async fn are_waiting(client: &Client, sessions: i64) {
    let waits = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("locks are waited for", || async { (count(client, waits).await >= sessions).then_some(()) })
        .await;
}

/// Scenario: a lane begins its transaction while the queue is being taken over, and waits for its row. Promise: it writes nothing after
/// that, although it has seen the anchor as it was before.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_waits_for_a_takeover_writes_nothing_after_it() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let mut first = Process::with(database.dsn(), id, |_| {});
    first.run_lane(0);
    first.writes(0..10).await;
    // The takeover locks the rows in their order, and so has that of the lane when it waits for the next one.
    let next = database.connect().await;
    next.batch_execute("BEGIN; UPDATE otel.lanes SET updated_at = now() WHERE lane = 1").await.unwrap();
    let second = Process::begin(database.dsn(), id);
    are_waiting(&client, 1).await;
    first.put(10..20);
    are_waiting(&client, 2).await;
    next.batch_execute("COMMIT").await.unwrap();
    eventually("the first one is fenced", || async { first.queue.is_fenced().then_some(()) }).await;
    second.writes(20..30).await;
    assert_eq!(claimed(&client, id).await, [7, 0, 10, 7, 20, 30]);
    assert_eq!(stored(&database).await.rows(), 20);
}

/// Scenario: the same, and its host is gone, so that its session stays in the transaction. Promise: the session is ended after the
/// deadline of a batch, and what it had not committed is not stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_an_earlier_owner_has_left_does_not_keep_the_queue() {
    let database = database().await;
    let id = Uuid::new_v4();
    let first = Process::begin(database.dsn(), id);
    first.writes(0..10).await;
    let earlier = database.connect().await;
    let write =
        "BEGIN; UPDATE otel.lanes SET sequence = sequence + 1, stored = ARRAY[512, 7, 0, 25] WHERE lane = 0";
    earlier.batch_execute(write).await.unwrap();
    let second = Process::begin(database.dsn(), id);
    second.writes(30..40).await;
    assert_eq!(second.stored(), [7, 0, 10, 7, 30, 40]);
    assert!(earlier.batch_execute("COMMIT").await.is_err(), "its session was ended");
}

/// Scenario: a failover loses the last batch of a lane. Promise: the lane notices that by its own row with the next batch, which is
/// written; the lost records are not stored any more, and are stored once when they are read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_notices_by_its_own_row_that_commits_are_lost() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let process = Process::begin(database.dsn(), id);
    process.writes(0..10).await;
    client.batch_execute(KEEP).await.unwrap();
    process.writes(10..20).await;
    fail_over(&client, 10..20).await;
    process.writes(20..30).await;
    assert_eq!(process.stored(), [7, 0, 10, 7, 20, 30]);
    assert_eq!(claimed(&client, id).await, [7, 0, 10, 7, 20, 30]);
    process.writes(10..20).await;
    assert_eq!(claimed(&client, id).await, [7, 0, 30]);
    stored(&database).await.assert_holds_each_once(&[0..30]);
}

/// Scenario: a failover loses the batch of one lane, and another lane writes next. Promise: that lane notices it by the stamp of the
/// other's row, and does not say that the lost records are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_notices_that_commits_of_another_lane_are_lost() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let mut process = Process::with(database.dsn(), id, |_| {});
    process.run_lane(0);
    process.owns(&client).await;
    client.batch_execute(KEEP).await.unwrap();
    process.writes(0..10).await;
    process.tasks.pop().unwrap().abort();
    fail_over(&client, 0..10).await;
    process.run_lane(1);
    process.writes(10..20).await;
    assert_eq!(process.stored(), [7, 10, 20]);
    assert_eq!(claimed(&client, id).await, [7, 10, 20]);
}

/// Scenario: a failover loses the takeover of a queue, with the last batch of the earlier owner. Promise: the new owner notices it with
/// its first batch, although it has written nothing before, and takes the queue over again.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_is_lost_is_noticed_and_made_again() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let first = Process::begin(database.dsn(), id);
    first.writes(0..10).await;
    client.batch_execute(KEEP).await.unwrap();
    first.writes(10..20).await;
    let second = Process::begin(database.dsn(), id);
    second.owns(&client).await;
    eventually("the second one knows", || async { (second.stored() == [7, 0, 20]).then_some(()) }).await;
    fail_over(&client, 10..20).await;
    second.writes(20..30).await;
    assert_eq!(second.stored(), [7, 0, 10, 7, 20, 30]);
    first.put(30..40);
    eventually("the first one is fenced", || async { first.queue.is_fenced().then_some(()) }).await;
    assert_eq!(claimed(&client, id).await, [7, 0, 10, 7, 20, 30]);
}

/// Scenario: while a lane writes, a loss is found and the queue taken over again. Promise: what the lane's transaction says is outdated
/// then and is not committed; the batch is written by another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_from_before_a_takeover_is_not_committed() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let process = Process::begin(database.dsn(), id);
    process.writes(0..10).await;
    // The COPY waits for this lock, after the lane has looked at the stamps.
    let lock = database.connect().await;
    lock.batch_execute("BEGIN; LOCK TABLE otel.log_records IN SHARE MODE").await.unwrap();
    process.put(10..20);
    let waits = "pg_locks WHERE NOT granted AND relation = 'otel.log_records'::regclass";
    eventually("the COPY waits", || async { (count(&client, waits).await > 0).then_some(()) }).await;
    let mut found = Positions::default();
    found.insert(RUN, 0..5);
    let stamps: Vec<i64> =
        client.query_one("SELECT stored FROM otel.lanes WHERE lane = -2", &[]).await.unwrap().get(0);
    process.queue.claims().adopt(process.queue.claims().stored(), &found, &[], stamps[0]);
    lock.batch_execute("COMMIT").await.unwrap();
    process.has(10..20).await;
    let row = "SELECT stored[2:] FROM otel.lanes WHERE lane = 0";
    let row: Vec<i64> = client.query_one(row, &[]).await.unwrap().get(0);
    assert_eq!(row, [7, 10, 20], "what was found is in the anchor, and 5 to 10 are not claimed");
    assert_eq!(stored(&database).await.copies(15), 1);
}

/// Whether a message is the answer to a COMMIT behind rows.
fn answers_a_batch() -> impl Fn(&Message) -> bool + Send + Sync + 'static {
    let has_rows = AtomicBool::new(false);
    move |message| {
        if message.is_copy_data() {
            has_rows.store(true, Ordering::SeqCst);
        }
        message.is_committed() && has_rows.swap(false, Ordering::SeqCst)
    }
}

/// Scenario: the answer to the COMMIT of a batch is lost. Promise: the batch is found stored, its positions count as stored, nothing is
/// written twice, and nothing is taken for lost afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_commit_was_not_answered_is_stored_once() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let (cutting, is_answer) = (Arc::new(AtomicBool::new(false)), answers_a_batch());
    let cut = cutting.clone();
    let proxy = Proxy::start(database.address(), move |message: &Message| {
        let is_cut = is_answer(message) && cut.swap(false, Ordering::SeqCst);
        if is_cut { Action::CutBefore(End::Rst) } else { Action::Forward }
    })
    .await;
    let dsn = format!("{} sslmode=disable", database.dsn_by_way_of(proxy.address()));
    let mut process = Process::with(&dsn, id, |_| {});
    process.run_lane(0);
    process.writes(0..10).await;
    let anchor = "SELECT stored[1]::text FROM otel.lanes WHERE lane = -2";
    let before = first_column(&client, anchor).await;
    cutting.store(true, Ordering::SeqCst);
    process.writes(10..20).await;
    assert_eq!(proxy.cuts(), 1);
    // Another lane writes next, and has to see that batch.
    process.tasks.pop().unwrap().abort();
    process.run_lane(1);
    process.writes(20..30).await;
    assert_eq!(claimed(&client, id).await, [7, 0, 30]);
    stored(&database).await.assert_holds_each_once(&[0..30]);
    assert_eq!(first_column(&client, anchor).await, before, "the queue was not taken over again");
}

/// Scenario: `retry_on_failure` allows no further try of a batch. Promise: its records are dropped, count as such, and with the next
/// batch PostgreSQL says that they are not to be read again.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_dropped_are_not_read_again() {
    let database = database().await;
    let (client, id) = (database.connect().await, Uuid::new_v4());
    let mut process = Process::with(database.dsn(), id, |config| config.retry_on_failure.enabled = false);
    process.run_lane(0);
    process.writes(0..10).await;
    client.batch_execute("ALTER TABLE otel.log_records RENAME TO away").await.unwrap();
    process.put(10..20);
    process.has(10..20).await;
    assert_eq!(process.buffer.books().dropped_total(), 10);
    client.batch_execute("ALTER TABLE otel.away RENAME TO log_records").await.unwrap();
    process.writes(20..30).await;
    assert_eq!(claimed(&client, id).await, [7, 0, 30]);
    assert_eq!(stored(&database).await.rows(), 20);
}

/// Columns of a table, each with the field of a record that fills it.
fn mapping(columns: &[(&str, Field)]) -> TableConfig {
    let column = |field: Field| ColumnConfig { field: Some(field), ..ColumnConfig::default() };
    let columns: BTreeMap<_, _> =
        columns.iter().map(|(name, field)| ((*name).to_owned(), column(*field))).collect();
    TableConfig { name: "public.app_logs".to_owned(), columns }
}

/// What dead letters say, each kind once.
async fn letters(client: &Client) -> Vec<String> {
    let select = "SELECT DISTINCT concat_ws(' | ', sqlstate, message, array_to_string(columns, ' '), coalesce(destination, 'NULL')) \
                  FROM otel.dead_letters ORDER BY 1";
    first_column(client, select).await
}

/// A forebay that writes to `public.app_logs` by the mapping of now, and the mapping of before with its format.
async fn of_before(
    database: &Database,
    table: &str,
    before: &TableConfig,
) -> (Process, Arc<Mapping>, RowFormat) {
    database.connect().await.batch_execute(table).await.unwrap();
    let now = mapping(&[("body", Field::Body)]);
    let mut process = Process::with(database.dsn(), Uuid::new_v4(), |config| config.table = Some(now));
    process.run_lane(0);
    let config = Config { table: Some(before.clone()), ..Config::default() };
    let format = config.store().destination().unwrap().row_format();
    (process, Arc::new(Mapping::new(before).unwrap()), format)
}

/// Scenario: rows were made when the table had another mapping, and are written by a forebay with the mapping of now. Promise: each goes
/// to the columns that it was made for.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_older_mapping_are_written_by_the_names_of_their_columns() {
    let database = database().await;
    let before = mapping(&[("level", Field::SeverityText), ("text", Field::Body)]);
    let table = "CREATE TABLE public.app_logs (body text, text text, level text)";
    let (process, mapping, format) = of_before(&database, table, &before).await;
    process.put_as(0..10, Some(mapping), Some(format));
    process.has(0..10).await;
    let client = database.connect().await;
    assert_eq!(
        count(&client, "public.app_logs WHERE body IS NULL AND text LIKE 'record%' AND level = 'any'").await,
        10
    );
    assert_eq!(process.buffer.books().dead_lettered(), 0);
}

/// Scenario: the same, and the table has no such column any more, or has it with another type. Promise: the rows become dead letters with
/// that reason and the names of their columns, at once; what comes after them is written.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_their_table_cannot_take_any_more_become_dead_letters() {
    for (columns, told) in [
        (
            "body text, text text",
            "42703 | \"public\".\"app_logs\" has no column level any more, which the row has",
        ),
        (
            "body text, text text, level integer",
            "42804 | column level of \"public\".\"app_logs\" is integer, and the row has it as text",
        ),
    ] {
        let database = database().await;
        let before = mapping(&[("level", Field::SeverityText), ("text", Field::Body)]);
        let table = format!("CREATE TABLE public.app_logs ({columns})");
        let (process, mapping, format) = of_before(&database, &table, &before).await;
        process.put_as(0..10, Some(mapping), Some(format));
        process.has(0..10).await;
        let client = database.connect().await;
        assert_eq!(letters(&client).await, [format!("{told} | level text | \"public\".\"app_logs\"")]);
        assert_eq!(count(&client, "otel.dead_letters").await, 10);
        process.put_as(
            10..20,
            Some(Arc::new(Mapping::new(&self::mapping(&[("body", Field::Body)])).unwrap())),
            None,
        );
        process.has(10..20).await;
        assert_eq!(count(&client, "public.app_logs WHERE body LIKE 'record%'").await, 10);
    }
}

/// Scenario: rows were made for `log_records`, and records go to an existing table now. Promise: they become dead letters that name
/// both, with their resource and scope, and `forebay dead-letters retry` stores them whole.
#[tokio::test(flavor = "multi_thread")]
async fn rows_for_another_table_become_dead_letters_that_can_be_sent_again() {
    let database = database().await;
    let before = mapping(&[("body", Field::Body)]);
    let (process, ..) = of_before(&database, "CREATE TABLE public.app_logs (body text)", &before).await;
    let format = Config::default().store().destination().unwrap().row_format();
    process.put_as(0..10, None, Some(format.clone()));
    process.has(0..10).await;
    let client = database.connect().await;
    let told = "22000 | it was made for log_records, and records go to \"public\".\"app_logs\" now";
    assert_eq!(letters(&client).await, [format!("{told} | {} | NULL", format.names().join(" "))]);
    let retried = support::forebay::run(database.dsn(), "dead-letters retry --all", &[]).await;
    assert_eq!(retried.status, Some(0), "{retried:?}");
    stored(&database).await.assert_holds_each_once(&[0..10]);
    assert_eq!(count(&client, "otel.logs WHERE service_name = 'shop' AND scope_name = 'tests'").await, 10);
}
