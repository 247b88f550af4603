//! What becomes of records on bad days: what an SDK reports of its exports, what forebay counts, and what is stored
//! have to agree. README.md has what was observed.

use std::future::Future;
use std::time::Duration;

use support::eventually;
use support::forebay::{Forebay, QUICK};
use support::metrics::Scrape;
use support::postgres::{Database, Postgres, database};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::sdks::{Sdk, Transport, say};
use crate::sender::{Report, Sender, Work};
use ::forebay::embedded::Stop;

/// Nothing can be written while a transaction has this.
const LOCK: &str = "BEGIN; LOCK TABLE otel.log_records IN ACCESS EXCLUSIVE MODE";
/// A buffer for two of the SDKs' batches of 512, all but 24 records. What a lane is writing cannot give way, so that is little.
const SMALL: [&str; 2] =
    ["exporters.postgres.sending_queue.queue_size=1000", "processors.batch.send_batch_max_size=100"];
/// Three batches, and less than the 2,048 that an SDK's queue holds.
const MANY: u64 = 1500;
/// How long forebay is away. A batch is tried at least once meanwhile.
const AWAY: Duration = Duration::from_millis(1500);

/// An SDK, and how it sends.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub sdk: Sdk,
    pub transport: Transport,
}

/// What is known of the records of one scene at the end.
struct Account {
    scene: Scene,
    report: Report,
    /// Rows, and different records among them.
    stored: (u64, u64),
    dropped: u64,
    rejected: u64,
}

impl Account {
    async fn of(scene: Scene, report: Report, database: &Database, pages: &[Scrape]) -> Self {
        let client = database.connect().await;
        let rows =
            "SELECT count(*), count(DISTINCT attributes->'number') FROM otel.logs WHERE body = 'numbered'";
        let row = client.query_one(rows, &[]).await.unwrap();
        let stored = (row.get::<_, i64>(0) as u64, row.get::<_, i64>(1) as u64);
        let sum = |name| pages.iter().map(|page| page.value(name)).sum();
        assert_eq!(
            sum("log_buffer_flushed_total"),
            stored.0,
            "{scene:?}: what is counted as written is stored"
        );
        let (dropped, rejected) = (sum("log_buffer_dropped_total"), sum("log_buffer_rejected_total"));
        Self { scene, report, stored, dropped, rejected }
    }

    /// Each record is stored once, or forebay has counted it as dropped, or the SDK has told that its export failed.
    fn assert_agrees(&self) {
        let Self { scene, report, stored: (rows, records), dropped, .. } = self;
        assert_eq!(rows, records, "{scene:?}: nothing is stored twice");
        assert_eq!(report.emitted, report.exported + report.failed, "{scene:?}: {report:?}");
        assert_eq!(report.emitted, records + dropped + self.failed(), "{scene:?}: {report:?}");
    }

    /// Records whose export has failed. Go tells a partial success as a failure of the whole export.
    fn failed(&self) -> u64 {
        if self.scene.sdk == Sdk::Go && self.dropped > 0 { 0 } else { self.report.failed }
    }

    fn line(&self) -> String {
        let Self {
            scene: Scene { sdk, transport },
            report: Report { emitted, exported, failed, said },
            stored,
            dropped,
            rejected,
        } = self;
        let said = said.first().map_or("nothing", String::as_str).replace('\n', " ");
        let said: String = said.chars().take(100).collect();
        let (_, stored) = stored;
        let name = transport.name();
        format!(
            "| {sdk:?} {name} | {emitted} | {exported} | {failed} | {dropped} | {rejected} | {stored} | {said} |\n"
        )
    }
}

/// All SDKs that are installed, over gRPC and over HTTP.
pub fn scenes() -> impl Iterator<Item = Scene> {
    let transports = [Transport::Grpc, Transport::HttpProtobuf];
    Sdk::installed().flat_map(move |sdk| transports.map(|transport| Scene { sdk, transport }))
}

/// Runs a scenario with every SDK at the same time, and says what was observed.
async fn each<F>(what: &str, scenario: impl Fn(Scene) -> F)
where
    F: Future<Output = Account> + Send + 'static,
{
    let mut running = JoinSet::new();
    for scene in scenes() {
        running.spawn(scenario(scene));
    }
    let mut accounts = running.join_all().await;
    accounts.sort_by_key(|Account { scene, .. }| (scene.sdk as u8, scene.transport as u8));
    let lines: String = accounts.iter().map(Account::line).collect();
    say(&format!(
        "{what}\n\n| | emitted | exported | failed | dropped | rejected | stored | the SDK says |\n\
         |---|---|---|---|---|---|---|---|\n{lines}\n"
    ));
    accounts.iter().for_each(Account::assert_agrees);
}

fn numbers(Scene { sdk, transport }: Scene, forebay: &Forebay) -> Sender {
    Sender::start(sdk, transport, &transport.endpoint(forebay), Work::Numbers)
}

/// Fills a small buffer while nothing can be written, and lets the SDK come to its end before or after that.
async fn full(scene: Scene, overflow: &str) -> Account {
    let database = database().await;
    let overflow = format!("exporters.postgres.sending_queue.overflow={overflow}");
    let forebay = Forebay::ready(database.dsn(), &[&SMALL[..], &[&overflow], QUICK].concat()).await;
    let locked = database.connect().await;
    locked.batch_execute(LOCK).await.unwrap();
    let mut sender = numbers(scene, &forebay);
    sender.emit(MANY).await;
    let report = if overflow.ends_with("reject") {
        eventually("an export is rejected", || async {
            (forebay.scrape().await.value("log_buffer_rejected_total") > 0).then_some(())
        })
        .await;
        locked.batch_execute("COMMIT").await.unwrap();
        sender.end().await.1
    } else {
        let (_, report) = sender.end().await;
        locked.batch_execute("COMMIT").await.unwrap();
        report
    };
    Account::of(scene, report, &database, &[forebay.settles().await]).await
}

/// Scenario: the buffer is full, with `drop_newest`. Guarantee: what does not fit is told as partial success and
/// counted, and no SDK sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_that_drops_the_newest() {
    each("The buffer is full, `drop_newest`:", |scene| async move {
        let account = full(scene, "drop_newest").await;
        assert_eq!((account.dropped, account.rejected), (MANY - 1000, 0), "{scene:?}");
        account
    })
    .await;
}

/// Scenario: the buffer fills, with `fair`, as it comes. Guarantee: INFO of one sender gets four fifths; what is beyond is told as partial
/// success and counted, and no SDK sends it again. An SDK that says something says whose share is used.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_that_is_shared_fairly() {
    each("The buffer is full, `fair`:", |scene| async move {
        let account = full(scene, "fair").await;
        assert_eq!((account.dropped, account.rejected), (MANY - 800, 0), "{scene:?}");
        let says = account.report.said.iter().any(|line| line.contains("its share of the buffer is used"));
        assert_eq!(says, matches!(scene.sdk, Sdk::Go | Sdk::Node), "{scene:?}: {:?}", account.report.said);
        account
    })
    .await;
}

/// Scenario: the buffer is full, with `drop_oldest`. Guarantee: each export succeeds; what gave way is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_that_drops_the_oldest() {
    each("The buffer is full, `drop_oldest`:", |scene| async move {
        let account = full(scene, "drop_oldest").await;
        assert_eq!((account.dropped, account.report.failed), (MANY - 1000, 0), "{scene:?}");
        account
    })
    .await;
}

/// Scenario: the buffer is full, with `reject`, until an export was rejected. Guarantee: an SDK that sends again as it
/// is told to loses nothing; one that does not tells the failure, and the rest is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_that_rejects() {
    each("The buffer is full, `reject`:", |scene| async move {
        let account = full(scene, "reject").await;
        assert_eq!(account.dropped, 0, "{scene:?}");
        // Node's SDK does not send again over gRPC.
        let is_patient = !matches!(scene, Scene { sdk: Sdk::Node, transport: Transport::Grpc });
        assert_eq!(account.report.failed == 0, is_patient, "{scene:?}: {:?}", account.report);
        account
    })
    .await;
}

/// Scenario: SIGTERM, a while without forebay, and a new one at the same address. Guarantee: what was exported is
/// stored, once; an SDK that sends again until somebody is there loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn forebay_restarts() {
    each("forebay restarts:", |scene| async move {
        let database = database().await;
        let forebay = Forebay::ready(database.dsn(), QUICK).await;
        let addresses =
            [Transport::Grpc, Transport::HttpProtobuf].map(|of| of.endpoint(&forebay).replace("http://", ""));
        let mut sender = numbers(scene, &forebay);
        sender.emit(600).await;
        eventually("the records arrive", || async {
            (forebay.scrape().await.value("log_buffer_received_total") == 600).then_some(())
        })
        .await;
        let first = forebay.settles().await;
        let (status, said) = forebay.terminate().await;
        assert_eq!(status, Some(0), "{said:#?}");
        sender.emit(600).await;
        sleep(AWAY).await;
        let [grpc, http] = [("grpc", &addresses[0]), ("http", &addresses[1])]
            .map(|(protocol, address)| format!("receivers.otlp.protocols.{protocol}.endpoint={address}"));
        let forebay = Forebay::ready(database.dsn(), &[&[grpc.as_str(), &http], QUICK].concat()).await;
        sender.emit(300).await;
        let (_, report) = sender.end().await;
        let Scene { sdk, transport } = scene;
        // Where nobody listens, Rust's SDK gives up after three tries within a second, Go's over HTTP at once.
        let is_patient =
            matches!(sdk, Sdk::Python | Sdk::Java) || (sdk, transport) == (Sdk::Go, Transport::Grpc);
        assert!(report.failed == 0 || !is_patient, "{scene:?}: {report:?}");
        Account::of(scene, report, &database, &[first, forebay.settles().await]).await
    })
    .await;
}

/// Scenario: the database is down while the SDKs send and come to their end, and is back later. Guarantee: they do not
/// notice; everything is stored.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_down() {
    let mut postgres = Postgres::start().await;
    let mut waiting = Vec::new();
    for scene in scenes() {
        let database = postgres.database().await;
        let forebay = Forebay::ready(database.dsn(), QUICK).await;
        waiting.push((scene, database, forebay));
    }
    postgres.stop(Stop::Fast).await;
    let mut sending = JoinSet::new();
    for (scene, database, forebay) in waiting {
        sending.spawn(async move {
            let mut sender = numbers(scene, &forebay);
            sender.emit(MANY).await;
            let (_, report) = sender.end().await;
            assert_eq!((report.exported, report.failed), (MANY, 0), "{scene:?}: {report:?}");
            (scene, report, database, forebay)
        });
    }
    let sent = sending.join_all().await;
    postgres.start_again().await;
    for (scene, report, database, forebay) in sent {
        let page = forebay.settles().await;
        let account = Account::of(scene, report, &database, &[page]).await;
        assert_eq!(account.stored, (MANY, MANY), "{scene:?}");
    }
}
