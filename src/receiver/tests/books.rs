//! A model of the whole way of records: whatever senders send, lanes do and time brings, every record has one outcome, the
//! senders are told it, and the losses among them are in the ledger.

use proptest::collection::vec;
use proptest::prelude::*;
use strum::VariantArray as _;
use tokio::runtime::Builder;

use super::*;
use crate::buffer::samples::{malformed_record, record, request_of};
use crate::buffer::{DropReason, RejectReason};
use crate::receiver::{Accepted, Refusal, Transport};
use crate::values::duration::GoDuration;

/// A record of a request.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Of so many bytes.
    Plain(usize),
    /// Of so many NULs, each of which takes three bytes in a row.
    Swelling(usize),
    Malformed,
    /// The same as others.
    Same,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<Kind>),
    /// The folded records whose window is over are written.
    Look,
    /// A lane takes what is due.
    Take,
    /// A lane divides its batch.
    Split(usize),
    /// A lane has written its batch, but for dead letters at every so many rows.
    Write(usize),
    GiveUp,
    /// A lane is cut.
    Cut,
    /// So long that senders who wait are told that there was no result in time.
    Wait,
    /// A sender goes away.
    Leave,
}

/// The policy, whether senders are answered before their records are stored, the bounds, and the largest batch.
type Bounds = (Overflow, bool, usize, usize, usize);

fn bounds() -> impl Strategy<Value = Bounds> {
    let overflow = prop::sample::select(Overflow::VARIANTS);
    // Folded records need a sixteenth of a buffer.
    let records = prop_oneof![1..12_usize, 32..64_usize];
    (overflow, any::<bool>(), records, prop::sample::select(&[2_000, 12_000, 1 << 20][..]), 1..6_usize)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        8 => (0..300_usize).prop_map(Kind::Plain),
        2 => (500..3_000_usize).prop_map(Kind::Swelling),
        1 => Just(Kind::Malformed),
        8 => Just(Kind::Same),
    ]
}

fn step(leaving: bool) -> impl Strategy<Value = Step> {
    let (all, rare) = (6, u32::from(leaving));
    prop_oneof![
        all => vec(kind(), 0..16).prop_map(Step::Send),
        1 => Just(Step::Look),
        all => Just(Step::Take),
        2 => (0..5_usize).prop_map(Step::Split),
        4 => (1..6_usize).prop_map(Step::Write),
        2 => Just(Step::GiveUp),
        1 => Just(Step::Cut),
        rare => Just(Step::Wait),
        rare => Just(Step::Leave),
    ]
}

/// What senders were told of how many records.
#[derive(Debug, Default)]
struct Told {
    taken: u64,
    /// Not to be sent again.
    rejected: u64,
    /// To be sent again.
    refused: u64,
    /// They have gone away.
    nothing: u64,
}

struct Model {
    buffer: Arc<Buffer>,
    intake: Arc<Intake>,
    waits: bool,
    senders: Vec<(u64, JoinHandle<Result<Accepted, Refusal>>)>,
    batches: Vec<Batch>,
}

impl Model {
    fn new((overflow, waits, queue_size, max_bytes, largest): Bounds) -> Self {
        let queue = QueueConfig {
            overflow,
            enabled: !waits,
            queue_size,
            max_bytes: ByteSize(max_bytes as u64),
            ..QueueConfig::default()
        };
        let timeout = GoDuration(Duration::ZERO);
        let batch = BatchConfig { send_batch_size: 1, send_batch_max_size: largest, timeout };
        let buffer = Arc::new(Buffer::new(&queue, &batch));
        let intake = Arc::new(Intake::new(buffer.clone(), waits, Duration::from_secs(10)));
        Self { buffer, intake, waits, senders: Vec::new(), batches: Vec::new() }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Send(kinds) => {
                let records = kinds.iter().map(|kind| match *kind {
                    Kind::Plain(len) => record(&"x".repeat(len)),
                    Kind::Swelling(len) => record(&"\0".repeat(len)),
                    Kind::Malformed => malformed_record(),
                    Kind::Same => record("the same"),
                });
                let (request, intake) = (request_of(records), self.intake.clone());
                let sending = async move { intake.take_in(request, Transport::Grpc).await };
                self.senders.push((kinds.len() as u64, tokio::spawn(sending)));
            }
            Step::Look => self.intake.write_folded(false),
            Step::Take => {
                // Longer than a batch has to wait for the one before.
                let taken = tokio::time::timeout(Duration::from_millis(20), self.buffer.take()).await;
                self.batches.extend(taken.ok().flatten());
            }
            Step::Split(at) => {
                let rest = self.batches.last_mut().map(|batch| batch.split_off(at));
                self.batches.extend(rest);
            }
            Step::Write(every) => {
                let Some(batch) = self.batches.pop() else { return };
                let dead = (0..batch.len()).filter(|index| index % 6 == every).collect();
                batch.settle_written(&dead);
            }
            Step::GiveUp => {
                let batch = self.batches.pop();
                batch.into_iter().for_each(|batch| batch.settle_dropped(DropReason::RetryExhausted));
            }
            Step::Cut => drop(self.batches.pop()),
            Step::Wait => tokio::time::sleep(Duration::from_secs(11)).await,
            Step::Leave => self.senders.iter().for_each(|(_, sender)| sender.abort()),
        }
        tokio::task::yield_now().await;
        if !self.waits {
            assert_balanced(&self.buffer);
        }
    }

    /// A full stop, with whatever is held and being written.
    async fn end(self) -> (Arc<Buffer>, Told) {
        let Self { buffer, intake, senders, batches, .. } = self;
        intake.write_folded(true);
        buffer.close();
        drop(batches);
        buffer.abandon();
        let mut told = Told::default();
        for (records, sender) in senders {
            match sender.await {
                Ok(Ok(Accepted { rejected, .. })) => {
                    told.taken += records - rejected as u64;
                    told.rejected += rejected as u64;
                }
                Ok(Err(_)) => told.refused += records,
                Err(_) => told.nothing += records,
            }
        }
        (buffer, told)
    }
}

async fn run(bounds: Bounds, steps: Vec<Step>) {
    let waits = bounds.1;
    let leaving = steps.iter().any(|step| matches!(step, Step::Wait | Step::Leave));
    let mut model = Model::new(bounds);
    for step in steps {
        model.step(step).await;
    }
    let (buffer, told) = model.end().await;
    assert_balanced(&buffer);
    assert_eq!((buffer.budget().records(), buffer.budget().bytes()), (0, 0));
    let books = buffer.books();
    let malformed = books.rejected(RejectReason::Malformed);
    let ledger: u64 = books.losses().take().iter().map(|loss| loss.records).sum();
    assert_eq!(ledger, books.dropped_total() + malformed + books.dead_lettered(), "the ledger");
    let given_back = books.rejected_total() - malformed;
    if !waits {
        let at_once = [DropReason::DropNewest, DropReason::TooLarge, DropReason::Share]
            .map(|reason| books.dropped_for(reason));
        let at_once = at_once.iter().sum::<u64>();
        let later = books.dropped_total() - at_once;
        // A sender that is aborted before it is heard has sent nothing.
        assert_eq!(told.taken, books.flushed() + books.dead_lettered() + books.folded_total() + later);
        assert_eq!((told.rejected, told.refused), (at_once + malformed, given_back));
        return;
    }
    let lost = books.dropped_total() + malformed + books.dead_lettered();
    if leaving {
        // What is stored of a sender that has gone, or was told that there was no result, is stored all the same.
        assert!(told.taken <= books.flushed() && told.rejected <= lost, "{told:?}, {books:?}");
        assert!(told.refused + told.nothing >= given_back, "{told:?}, {books:?}");
    } else {
        assert_eq!((told.taken, told.rejected, told.refused), (books.flushed(), lost, given_back));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn books_answers_and_ledger_say_the_same(
        bounds in bounds(),
        steps in any::<bool>().prop_flat_map(|leaving| vec(step(leaving), 1..40)),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(bounds, steps));
    }
}
