//! Requests whose headers have arrived, and no byte of their body yet.
//!
//! They take no request memory. A client can open thousands of them at no cost, so their number is bounded: one more, and the one that
//! has waited longest is refused. Most requests never wait here, because their body arrives with their headers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;

use super::request_memory::NoRoom;

/// Bounds the requests that wait for the first byte of their body.
#[derive(Debug)]
pub(super) struct Lobby {
    places: usize,
    taken: AtomicUsize,
    /// Wakes the longest waiting request.
    crowded: Notify,
}

/// A body whose first frame has arrived, or that is empty.
pub(super) struct Begun<'a> {
    first: Option<Result<Frame<Bytes>, hyper::Error>>,
    rest: &'a mut Incoming,
}

/// An occupied place, until it is dropped.
struct Place<'a>(&'a Lobby);

impl Lobby {
    pub(super) fn new(places: usize) -> Self {
        Self { places, taken: AtomicUsize::new(0), crowded: Notify::new() }
    }

    /// Waits for the first frame of `body`.
    pub(super) async fn begin<'a>(&self, body: &'a mut Incoming) -> Result<Begun<'a>, NoRoom> {
        let mut first = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        let first = match (&mut first).now_or_never() {
            Some(first) => first,
            None => self.wait(first).await?,
        };
        Ok(Begun { first, rest: body })
    }

    /// Waits for `first` in a place. The error is that a later request needs the place.
    pub(super) async fn wait<T>(&self, first: impl Future<Output = T>) -> Result<T, NoRoom> {
        let mut pushed_out = std::pin::pin!(self.crowded.notified());
        // This queues it behind the requests that wait already.
        if pushed_out.as_mut().enable() {
            // The notification was for a request that no longer waits.
            pushed_out.set(self.crowded.notified());
            pushed_out.as_mut().enable();
        }
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.places {
            self.crowded.notify_one();
        }
        let _place = Place(self);
        tokio::select! {
            first = first => Ok(first),
            () = pushed_out => Err(NoRoom::Now),
        }
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
    async fn the_longest_waiting_request_is_refused_first() {
        let lobby = Lobby::new(3);
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(lobby.wait(pending::<()>()))).collect();
        let outcomes: Vec<_> = waiting.iter_mut().map(|one| one.as_mut().now_or_never()).collect();
        assert_eq!(outcomes, [None; 5], "the first three have places, the others take theirs");
        let outcomes: Vec<_> = waiting.iter_mut().map(|one| one.as_mut().now_or_never()).collect();
        assert_eq!(outcomes, [Some(Err(NoRoom::Now)), Some(Err(NoRoom::Now)), None, None, None]);
        drop(waiting);
        assert_eq!(lobby.taken.load(Ordering::Relaxed), 0);
        assert_eq!(lobby.wait(pending::<()>()).now_or_never(), None, "the places are free again");
    }

    #[tokio::test]
    async fn a_notification_that_is_left_over_refuses_no_request() {
        let lobby = Lobby::new(3);
        lobby.crowded.notify_one();
        let mut waits = Box::pin(lobby.wait(pending::<()>()));
        assert_eq!((waits.as_mut().now_or_never(), waits.as_mut().now_or_never()), (None, None));
    }
}
