//! The path of requests of both transports: a timeout to arrive, memory from the first byte of the body, and the intake.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::answer::{Failure, FailureKind, Limit};
use super::client::Client;
use super::gate::Gate;
use super::intake::{Accepted, Intake};
use super::lobby::{Begun, Lobby};
use super::message::Message;
use super::metrics::{Transport, Unread};
use super::request_memory::{NoRoom, RequestMemory, Share};
use super::turned_away::TurnedAwayReason;
use super::unreadable::Unreadable;
use super::work::in_turn;
use crate::otlp::mark::Mark;

/// The memory of a request without its message, including its task.
pub(super) const REQUEST: usize = 8 << 10;
/// The bytes of a gRPC body before its message.
const GRPC_PREFIX: usize = 5;

/// Takes the requests of one port.
#[derive(Debug)]
pub(super) struct Reception {
    /// Checked as soon as a request's headers have arrived.
    pub(super) gate: Gate,
    pub(super) transport: Transport,
    pub(super) intake: Arc<Intake>,
    /// Shared by all ports.
    pub(super) lobby: Arc<Lobby>,
    /// Bounds the requests that watch the health of the port.
    pub(super) watches: Arc<Lobby>,
    /// The sender is dropped at the shutdown.
    pub(super) ended: watch::Receiver<()>,
    /// The longest time from the headers of a request to its last byte.
    pub(super) arrival: Duration,
    pub(super) limit: Limit,
    /// The resource attribute for the sender's name.
    pub(super) sender_attribute: Option<String>,
}

/// A request whose first byte has arrived.
pub(super) struct Arriving {
    /// For [`REQUEST`] bytes, until it is answered.
    share: Share,
    room: Arc<RequestMemory>,
    until: Instant,
}

impl Reception {
    /// Waits for the first byte of a request, and then takes memory for it from `room`, that of its connection. A request that
    /// announces too large a body is refused before it is sent.
    pub(super) async fn begin<'a>(
        &self,
        body: &'a mut Incoming,
        room: &Arc<RequestMemory>,
    ) -> Result<(Begun<'a>, Arriving), Failure> {
        let announced = body.size_hint().exact().unwrap_or_default();
        if announced > (self.limit.most.bytes + GRPC_PREFIX) as u64 {
            return Err(self.unreadable(Unreadable::TooLarge));
        }
        let until = Instant::now() + self.arrival;
        let begun = timeout_at(until, self.lobby.begin(body)).await.map_err(|_| self.too_slow())?;
        let no_room = |error: NoRoom| self.unreadable(error.into());
        let begun = begun.map_err(no_room)?;
        let share = room.take(REQUEST).map_err(no_room)?;
        Ok((begun, Arriving { share, room: room.clone(), until }))
    }

    /// Takes in the message from `receiving`, sent by `sender`. The caller keeps the share until the request is answered.
    pub(super) async fn take_in(
        &self,
        Arriving { share, room, until }: Arriving,
        sender: Option<Arc<str>>,
        receiving: impl Future<Output = Result<Message, Unreadable>>,
    ) -> Result<(Accepted, Share), Failure> {
        let received = tokio::select! {
            biased;
            received = timeout_at(until, receiving) => received.map_err(|_| self.too_slow())?,
            () = room.pushed_out() => Err(NoRoom::Now.into()),
        };
        let marked = match received {
            Ok(message) => self.mark(message, sender.as_deref()).await,
            Err(why) => Err(why),
        };
        let message = marked.map_err(|why| self.unreadable(why))?;
        Ok((self.intake.take_in(message, self.transport).await?, share))
    }

    /// Adds the sender's name to the message, if configured.
    async fn mark(&self, mut message: Message, sender: Option<&str>) -> Result<Message, Unreadable> {
        let Some(key) = &self.sender_attribute else { return Ok(message) };
        let (mark, room) = (Mark::new(key, sender), self.intake.room());
        in_turn(message.bytes().len(), room.turns(), || {
            message.replace(|bytes, share| {
                // The intake refuses and counts malformed messages.
                let Ok(length) = mark.length(bytes) else { return Ok(None) };
                share.grow(length)?;
                Ok(mark.put(bytes).ok())
            })
        })
        .await?;
        Ok(message)
    }

    fn unreadable(&self, why: Unreadable) -> Failure {
        why.counts_as().into_iter().for_each(|reason| self.intake.refuse_unread(reason));
        Failure::unreadable(why, &self.limit)
    }

    fn too_slow(&self) -> Failure {
        self.intake.refuse_unread(Unread::TooSlow);
        Failure::too_slow(self.arrival)
    }

    /// Whether the shutdown has begun, so that records must be sent elsewhere.
    pub(super) fn is_ending(&self) -> bool {
        self.intake.is_draining() || self.ended.has_changed().is_err()
    }

    /// Counts a request of `client` with a wrong path, method or media type.
    pub(super) fn turn_away(&self, reason: TurnedAwayReason, client: &Client, failure: Failure) -> Failure {
        self.gate.turned_away.count(reason, Some(client.peer.address), &failure.message);
        failure
    }

    /// Counts a request that is refused because of its headers.
    pub(super) fn refuse(&self, failure: &Failure) {
        if failure.kind == FailureKind::UnknownEncoding {
            self.intake.refuse_unread(Unread::Encoding);
        }
    }
}
