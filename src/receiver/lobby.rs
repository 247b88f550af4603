//! Requests whose headers are there, and no byte of their body yet.
//!
//! They have no part of the room. A client can open thousands of them for next to nothing, so that there are no more
//! than fit into a fixed number of places: one more, and the one that has waited longest is sent back. Most requests never
//! wait here, because their body comes with their headers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;

use super::request_memory::NoRoom;

/// Where requests wait for the first byte of their body.
#[derive(Debug)]
pub(super) struct Lobby {
    places: usize,
    taken: AtomicUsize,
    /// Those who wait hear it in turns, one at a time.
    crowded: Notify,
}

/// A body that has begun, or has ended without a byte.
pub(super) struct Begun<'a> {
    first: Option<Result<Frame<Bytes>, hyper::Error>>,
    rest: &'a mut Incoming,
}

/// A place that is taken.
struct Place<'a>(&'a Lobby);

impl Lobby {
    pub(super) fn new(places: usize) -> Self {
        Self { places, taken: AtomicUsize::new(0), crowded: Notify::new() }
    }

    /// Waits for the first of `body`.
    pub(super) async fn begin<'a>(&self, body: &'a mut Incoming) -> Result<Begun<'a>, NoRoom> {
        let mut first = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        let first = match (&mut first).now_or_never() {
            Some(first) => first,
            None => self.wait(first).await?,
        };
        Ok(Begun { first, rest: body })
    }

    /// Waits for `first` at a place.
    pub(super) async fn wait<T>(&self, first: impl Future<Output = T>) -> Result<T, NoRoom> {
        let mut pushed_out = std::pin::pin!(self.crowded.notified());
        // From now on it has its turn among those who wait.
        if pushed_out.as_mut().enable() {
            // That was for somebody who did not wait any more.
            pushed_out.set(self.crowded.notified());
            pushed_out.as_mut().enable();
        }
        let _place = Place::take(self);
        tokio::select! {
            first = first => Ok(first),
            () = pushed_out => Err(NoRoom::Now),
        }
    }
}

impl<'a> Place<'a> {
    fn take(lobby: &'a Lobby) -> Self {
        if lobby.taken.fetch_add(1, Ordering::Relaxed) >= lobby.places {
            lobby.crowded.notify_one();
        }
        Self(lobby)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Body for Begun<'_> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut *self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
        let first = first.map_or(0, |data| data.len() as u64);
        let rest = self.rest.size_hint();
        rest.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(first + rest))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn who_waits_longest_makes_place() {
        let lobby = Lobby::new(3);
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(lobby.wait(pending::<()>()))).collect();
        let outcomes: Vec<_> = waiting.iter_mut().map(|one| one.as_mut().now_or_never()).collect();
        assert_eq!(outcomes, [None; 5], "the first three have places, the others take theirs");
        let outcomes: Vec<_> = waiting.iter_mut().map(|one| one.as_mut().now_or_never()).collect();
        assert_eq!(outcomes, [Some(Err(NoRoom::Now)), Some(Err(NoRoom::Now)), None, None, None]);
        drop(waiting);
        assert_eq!(lobby.taken.load(Ordering::Relaxed), 0);
        assert_eq!(lobby.wait(pending::<()>()).now_or_never(), None, "nobody is in its way");
    }

    #[tokio::test]
    async fn what_was_told_to_nobody_pushes_nobody_out() {
        let lobby = Lobby::new(3);
        lobby.crowded.notify_one();
        let mut waits = Box::pin(lobby.wait(pending::<()>()));
        assert_eq!((waits.as_mut().now_or_never(), waits.as_mut().now_or_never()), (None, None));
    }
}
