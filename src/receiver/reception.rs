//! What every request goes through, whatever transport brought it: a place in the room, a time to arrive in, and the
//! way into the buffer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::answer::{Failure, Limit, Why};
use super::gate::Gate;
use super::intake::{Accepted, Intake};
use super::message::Unreadable;
use super::metrics::{Transport, Unread};
use super::room::{Room, Share};

/// What a request takes beside its message while it is under way, a task among it.
const REQUEST: usize = 8 << 10;

/// Takes the requests of one port.
#[derive(Debug)]
pub(super) struct Reception {
    /// It is asked by each protocol as soon as a request's headers are there.
    pub(super) gate: Gate,
    pub(super) transport: Transport,
    pub(super) intake: Arc<Intake>,
    /// It is the same for all ports.
    pub(super) room: Arc<Room>,
    /// From the headers of a request to its last byte.
    pub(super) arrival: Duration,
    pub(super) limit: Limit,
}

impl Reception {
    /// Takes the message that `receiving` brings. The share is the request's own, until it is answered.
    pub(super) async fn take_in(
        &self,
        receiving: impl Future<Output = Result<Bytes, Unreadable>>,
    ) -> Result<(Accepted, Share), Failure> {
        let unreadable = |why: Unreadable| {
            why.counts_as().into_iter().for_each(|reason| self.intake.refuse_unread(reason));
            Failure::unreadable(why, &self.limit)
        };
        let too_slow = |_| {
            self.intake.refuse_unread(Unread::TooSlow);
            Failure::too_slow(self.arrival)
        };
        let request = self.room.take(REQUEST).map_err(|error| unreadable(error.into()))?;
        let received = timeout(self.arrival, receiving).await;
        let message = received.map_err(too_slow)?.map_err(unreadable)?;
        Ok((self.intake.take_in(message, self.transport).await?, request))
    }

    /// Counts a request that is refused for what its headers say.
    pub(super) fn refuse(&self, failure: &Failure) {
        if failure.why == Why::UnknownEncoding {
            self.intake.refuse_unread(Unread::Encoding);
        }
    }
}
