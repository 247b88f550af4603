//! What every request goes through, whatever transport brought it: a time to arrive in, a place in the room from the first
//! byte of its body, and the way into the buffer.

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

/// What a request takes beside its message while it is under way, a task among it.
pub(super) const REQUEST: usize = 8 << 10;

/// What is in a body of gRPC beside its message.
const GRPC_PREFIX: usize = 5;

/// Takes the requests of one port.
#[derive(Debug)]
pub(super) struct Reception {
    /// It is asked by each protocol as soon as a request's headers are there.
    pub(super) gate: Gate,
    pub(super) transport: Transport,
    pub(super) intake: Arc<Intake>,
    /// Where requests are before they have a part of the room; it is the same for all ports.
    pub(super) lobby: Arc<Lobby>,
    /// Where requests wait that watch the health of the port.
    pub(super) watches: Arc<Lobby>,
    /// Its other side is dropped at the shutdown.
    pub(super) ended: watch::Receiver<()>,
    /// From the headers of a request to its last byte.
    pub(super) arrival: Duration,
    pub(super) limit: Limit,
    /// The attribute of a resource that says who has sent it.
    pub(super) sender_attribute: Option<String>,
}

/// A request of which the first byte is there.
pub(super) struct Arriving {
    /// What it takes itself, until it is answered.
    share: Share,
    room: Arc<RequestMemory>,
    until: Instant,
}

impl Reception {
    /// Waits for the first byte of a request, and then gives it a part of `room`, that of its connection. One that is announced
    /// to be too large is not even asked to go on.
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

    /// Takes the message that `receiving` brings of this `sender`. The share is the request's own, until it is answered.
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

    /// Has the message say who has sent it, where that is to be stored.
    async fn mark(&self, mut message: Message, sender: Option<&str>) -> Result<Message, Unreadable> {
        let Some(key) = &self.sender_attribute else { return Ok(message) };
        let (mark, room) = (Mark::new(key, sender), self.intake.room());
        in_turn(message.bytes().len(), room.turns(), || {
            message.replace(|bytes, share| {
                // What is broken is refused by the intake, which counts it.
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

    /// Whether records are to be sent elsewhere from now on.
    pub(super) fn is_ending(&self) -> bool {
        self.intake.is_draining() || self.ended.has_changed().is_err()
    }

    /// Counts a request of `client` that was sent to the wrong place, or in the wrong way.
    pub(super) fn turn_away(&self, reason: TurnedAwayReason, client: &Client, failure: Failure) -> Failure {
        self.gate.turned_away.count(reason, Some(client.peer.address), &failure.message);
        failure
    }

    /// Counts a request that is refused for what its headers say.
    pub(super) fn refuse(&self, failure: &Failure) {
        if failure.kind == FailureKind::UnknownEncoding {
            self.intake.refuse_unread(Unread::Encoding);
        }
    }
}
