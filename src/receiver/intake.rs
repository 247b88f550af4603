//! Takes a request of any transport into the buffer: count, reserve, transcode, enqueue, and, if the sender waits for the result, the
//! settlement.
//!
//! Every record of a readable request is counted exactly once, here or later. Nothing waits between counting and enqueueing, so that a
//! sender that disconnects leaves nothing uncounted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::metrics::Meter;
use tokio::sync::oneshot;

use super::config::AdmissionConfig;
use super::message::Message;
use super::metrics::{AnswerCount, Answers, Transport, Unread, UnreadRequests};
use super::over_share::OverShare;
use super::request_memory::{NoRoom, RequestMemory, Share};
use super::work::in_turn;
use crate::buffer::disk::Appended;
use crate::buffer::{Buffer, DropReason, Full, LossReason, RejectReason, Rest, Settled};
use crate::memory::Allowance;
use crate::otlp::{Invalid, Limits, count_records};
use crate::table::partition::Width;
use crate::table::{Mapping, Replaced, Space, Transcoder, Untranscoded};

/// Takes requests into the buffer.
#[derive(Debug)]
pub struct Intake {
    pub(super) buffer: Arc<Buffer>,
    pub(super) transcoder: Transcoder,
    /// The memory of requests that are not in the buffer yet.
    room: Arc<RequestMemory>,
    /// How long a sender waits for the result; `None` if it does not wait.
    result_timeout: Option<Duration>,
    draining: AtomicBool,
    unread: Arc<UnreadRequests>,
    answers: Arc<Answers>,
    /// Set while memory use is above its limit.
    refusing: Arc<AtomicBool>,
}

/// A request was accepted, at least in part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Number of records that were rejected and must not be sent again.
    pub rejected: usize,
    /// Why they were rejected; empty if all were accepted.
    pub message: String,
}

/// A request was refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not valid OTLP, or too complex; a retry does not help.
    #[error("the request is refused: {0}")]
    Invalid(#[from] Invalid),
    /// There is no memory for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The buffer is full.
    #[error("the buffer is full; send the request again a little later")]
    Full,
    /// Memory use is above its limit.
    #[error("forebay's memory use is above its limit; send the request again a little later")]
    Memory,
    /// forebay is shutting down.
    #[error("forebay is shutting down; send the request again to its successor")]
    Draining,
    /// The sender waits for the result, and it did not come in time.
    #[error("the records could not be stored in time; send the request again a little later")]
    Unavailable,
    /// The disk of the durable queue failed, or was too slow.
    #[error("the disk does not accept the records now; send the request again a little later")]
    Disk,
}

const TOO_COMPLEX: &str = "refused because they have";

/// The outcome of a request's records, as far as it is known.
#[derive(Debug, Default)]
struct Admitted {
    records: usize,
    full: usize,
    over_share: OverShare,
    too_large: usize,
    malformed: usize,
    too_complex: usize,
    /// The limit that the first of these exceeds.
    first_too_complex: Option<Invalid>,
    /// The rows that were handed to the durable queue, and the values replaced in them.
    queued: usize,
    replaced: Replaced,
    settled: Settled,
    /// Receives the settlement, if the sender waits for it.
    receipt: Option<oneshot::Receiver<Settled>>,
    /// Receives the answer of the durable queue, if there is one.
    appended: Option<oneshot::Receiver<Appended>>,
}

impl Intake {
    /// Takes requests into `buffer`. With `wait_for_result`, the sender is answered when its records are settled, or after
    /// `result_timeout`.
    pub fn new(buffer: Arc<Buffer>, wait_for_result: bool, result_timeout: Duration) -> Self {
        Self {
            buffer,
            transcoder: Transcoder::default(),
            room: RequestMemory::new(AdmissionConfig::default().request_limit.bytes()),
            result_timeout: wait_for_result.then_some(result_timeout),
            draining: AtomicBool::new(false),
            unread: Arc::default(),
            answers: Arc::default(),
            refusing: Arc::default(),
        }
    }

    /// Writes rows for a table with partitions of this width, or for an existing table if there is a `mapping`. Records and requests
    /// beyond `limits` are refused.
    #[must_use]
    pub fn writing(self, width: Width, mapping: Option<Arc<Mapping>>, limits: Limits) -> Self {
        Self { transcoder: Transcoder::new(width, mapping, limits), ..self }
    }

    /// Bounds the memory of all requests that are not in the buffer yet to `bytes`, and that of requests and buffer to `allowance`.
    #[must_use]
    pub fn within(self, bytes: usize, allowance: Arc<Allowance>) -> Self {
        Self { room: RequestMemory::within(bytes, allowance, self.buffer.clone()), ..self }
    }

    /// Refuses every request while `flag` is set.
    #[must_use]
    pub fn refusing_while(self, flag: Arc<AtomicBool>) -> Self {
        Self { refusing: flag, ..self }
    }

    pub(super) fn room(&self) -> &Arc<RequestMemory> {
        &self.room
    }

    /// The memory of requests that are not in the buffer yet, in bytes.
    pub fn receiving(&self) -> usize {
        self.room.taken()
    }

    /// Registers the receiver's instruments with `meter`.
    pub fn observe(&self, meter: &Meter) {
        self.unread.observe(meter);
        self.answers.observe(meter);
    }

    #[cfg(test)]
    pub(super) fn unread(&self, reason: Unread) -> u64 {
        self.unread.of(reason)
    }

    /// Counts a refused request whose number of records is unknown.
    pub(super) fn refuse_unread(&self, reason: Unread) {
        self.unread.count(reason);
    }

    /// Whether every request is refused because of the shutdown.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// From now on refuses every request, to be retried elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Takes in one encoded `ExportLogsServiceRequest` that came by `transport`.
    pub async fn take_in(
        &self,
        request: impl Into<Message>,
        transport: Transport,
    ) -> Result<Accepted, Refusal> {
        let mut answer = self.answers.begin(transport);
        let mut message = request.into();
        let bytes = message.bytes().len();
        let replaced = message.replaced();
        let admit = || {
            let (request, share) = message.parts();
            self.admit(request, share, replaced, &mut answer)
        };
        let mut admitted = in_turn(bytes, self.room.turns(), admit).await?;
        if let Some(appended) = admitted.appended.take() {
            self.await_disk(appended, &mut admitted).await?;
        }
        drop(message);
        if let Some((mut receipt, timeout)) = admitted.receipt.take().zip(self.result_timeout) {
            let settled = match tokio::time::timeout(timeout, &mut receipt).await {
                Ok(settled) => settled.ok(),
                // The settlement is counted by whether it was received, so one that has just arrived must be.
                Err(_) => {
                    receipt.close();
                    receipt.try_recv().ok()
                }
            };
            let settled = settled.filter(|settled| !settled.is_to_be_sent_again());
            admitted.settled = settled.ok_or(Refusal::Unavailable)?;
        }
        admitted.count(answer);
        Ok(admitted.answer())
    }

    /// Waits until the rows are on stable storage.
    async fn await_disk(
        &self,
        mut appended: oneshot::Receiver<Appended>,
        admitted: &mut Admitted,
    ) -> Result<(), Refusal> {
        let patience = self.buffer.durable().map_or(Duration::ZERO, |durable| durable.patience());
        let answer = match tokio::time::timeout(patience, &mut appended).await {
            Ok(answer) => answer.ok(),
            // The writer passes over a request that nobody waits for.
            Err(_) => {
                appended.close();
                appended.try_recv().ok()
            }
        };
        match answer {
            Some(Appended::Durable) => {}
            Some(Appended::Dropped) => admitted.shed(DropReason::DropNewest, admitted.queued),
            Some(Appended::Refused(RejectReason::Full)) => return Err(Refusal::Full),
            Some(Appended::Refused(RejectReason::Draining)) => return Err(Refusal::Draining),
            Some(Appended::Refused(_)) | None => return Err(Refusal::Disk),
        }
        self.buffer.books().replace(&admitted.replaced);
        Ok(())
    }

    /// Everything up to the buffer. Nothing here waits.
    fn admit(
        &self,
        request: &[u8],
        share: &mut Share,
        mut replaced: Replaced,
        answer: &mut AnswerCount<'_>,
    ) -> Result<Admitted, Refusal> {
        let records = count_records(request, self.transcoder.limits())
            .inspect_err(|invalid| self.refuse_unread(Unread::of(*invalid)))?;
        answer.refused = records;
        if records == 0 {
            return Ok(Admitted::default());
        }
        let books = self.buffer.books();
        books.receive(records);
        let refuse = |reason, refusal| {
            books.reject(reason, records);
            Err(refusal)
        };
        if self.is_draining() {
            return refuse(RejectReason::Draining, Refusal::Draining);
        }
        if self.refusing.load(Ordering::Relaxed) {
            return refuse(RejectReason::Memory, Refusal::Memory);
        }
        let folding = self.buffer.is_folding();
        let mut reservation = self.buffer.reserve(records, request.len());
        let reason = match reservation.rest() {
            Rest::Refused(RejectReason::Disk) => return refuse(RejectReason::Disk, Refusal::Disk),
            Rest::Refused(reason) => return refuse(reason, Refusal::Full),
            Rest::Shed(reason) => reason,
        };
        if !self.room.is_allowed(0) {
            return refuse(RejectReason::Memory, Refusal::Memory);
        }
        let mut no_room = NoRoom::Now;
        let mut grow = |bytes| share.grow(bytes).map_err(|error| no_room = error).is_ok();
        let mut space = Space::new(reservation.bytes(), &mut grow);
        let mut admitted = Admitted { records, ..Admitted::default() };
        if reservation.records() == 0 && !folding {
            // It cannot fail: `count_records` has read the same bytes.
            let shed = self.transcoder.tally(request, &mut space).unwrap_or_default();
            books.lose(LossReason::Dropped(reason), &shed);
            admitted.shed(reason, shed.total());
            return Ok(admitted);
        }
        let (transcoded, repeats) = self.transcode(request, &mut reservation, folding, &mut space);
        let transcoded = match transcoded {
            Ok(transcoded) => transcoded,
            Err(Untranscoded::NoSpace(_)) if no_room == NoRoom::Now => {
                return refuse(RejectReason::NoRoom, no_room.into());
            }
            Err(Untranscoded::NoSpace(_)) => {
                let lost = self.transcoder.tally(request, &mut Space::none()).unwrap_or_default();
                books.lose(LossReason::TooComplex, &lost);
                return Err(no_room.into());
            }
            // It does not happen, because `count_records` has read the same bytes.
            Err(Untranscoded::Malformed(malformed)) => {
                return refuse(RejectReason::Malformed, Invalid::from(malformed).into());
            }
        };
        if self.buffer.refuses(&reservation, &transcoded) {
            return refuse(RejectReason::Full, Refusal::Full);
        }
        admitted.over_share = OverShare::of(&transcoded.shed);
        admitted.shed(reason, transcoded.beyond.total());
        admitted.malformed = transcoded.malformed.total();
        admitted.too_complex = transcoded.too_complex.total();
        admitted.first_too_complex = transcoded.first_too_complex;
        reservation.leave_out(LossReason::Dropped(reason), transcoded.beyond);
        reservation.leave_out_shed(transcoded.shed);
        reservation.leave_out(LossReason::Malformed, transcoded.malformed);
        reservation.leave_out(LossReason::TooComplex, transcoded.too_complex);

        if let Some(durable) = self.buffer.durable() {
            admitted.replaced = replaced;
            admitted.replaced += transcoded.replaced;
            self.transcoder.remember(transcoded.new);
            let queued = transcoded.rows.len();
            let (shed, appended) = self.buffer.append(durable, reservation, transcoded.rows);
            admitted.too_large += shed.too_large;
            admitted.queued = queued - shed.too_large;
            admitted.appended = Some(appended);
            return Ok(admitted);
        }
        let (reply, receipt) = self.result_timeout.map(|_| oneshot::channel()).unzip();
        admitted.receipt = receipt;
        match self.buffer.enqueue(reservation, transcoded.rows, reply) {
            Ok(shed) => {
                replaced += transcoded.replaced;
                books.replace(&replaced);
                self.transcoder.remember(transcoded.new);
                repeats.into_iter().for_each(|repeats| self.buffer.count_repeats(repeats));
                admitted.full += shed.full;
                admitted.too_large += shed.too_large;
            }
            Err(Full) => return refuse(RejectReason::Full, Refusal::Full),
        }
        Ok(admitted)
    }
}

impl Refusal {
    /// When to retry the request; `None` if that does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Invalid(_) | Self::NoRoom(NoRoom::Ever) => None,
            Self::NoRoom(NoRoom::Now)
            | Self::Full
            | Self::Memory
            | Self::Draining
            | Self::Unavailable
            | Self::Disk => Some(retry_after()),
        }
    }
}

/// When to retry a request that was refused for a temporary reason. It is short, because senders give up if it is longer than the time
/// they have left, and it varies, so that senders refused together do not retry together.
pub(super) fn retry_after() -> Duration {
    Duration::from_millis(fastrand::u64(1000..=2000))
}

impl Admitted {
    fn shed(&mut self, reason: DropReason, records: usize) {
        match reason {
            DropReason::TooLarge => self.too_large += records,
            _ => self.full += records,
        }
    }

    fn count(&self, mut answer: AnswerCount<'_>) {
        let dropped = self.full + self.over_share.records() + self.too_large + self.settled.lost;
        answer.refused = self.malformed + self.too_complex;
        answer.accepted = self.records - answer.refused - dropped;
    }

    fn answer(&self) -> Accepted {
        let reasons = [
            (self.full, "dropped because the buffer is full"),
            (self.too_large, "dropped because they are larger than the whole buffer"),
            (self.malformed, "refused because they are malformed"),
            (self.too_complex, TOO_COMPLEX),
            (self.settled.dead_lettered, "stored as dead letters because the database refused them"),
            (self.settled.lost, "dropped because they could not be stored in time"),
        ];
        let said = reasons.iter().filter(|(records, _)| *records > 0);
        let said = said.map(|(records, what)| match (*what, &self.first_too_complex) {
            (TOO_COMPLEX, Some(limit)) => format!("{records} {what} {limit}"),
            _ => format!("{records} {what}"),
        });
        let message: Vec<_> = self.over_share.message().into_iter().chain(said).collect();
        let others: usize = reasons.iter().map(|(records, _)| records).sum();
        Accepted { rejected: self.over_share.records() + others, message: message.join("; ") }
    }
}
