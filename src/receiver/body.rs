//! The body of an answer, which is complete from the beginning.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::room::Share;

/// A body of one piece or none, perhaps with trailers behind it.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) data: Option<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    /// A client that does not take its answer has its request under way.
    pub(super) request: Option<Share>,
}

impl From<Bytes> for Answer {
    fn from(data: Bytes) -> Self {
        Self { data: (!data.is_empty()).then_some(data), ..Self::default() }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
