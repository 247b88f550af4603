//! The body of an answer: complete from the beginning, or except for its end.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

use super::request_memory::Share;

/// A body of one piece or none, perhaps with trailers behind it.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) data: Option<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    /// More data and the trailers, later.
    pub(super) last: Option<Last>,
    /// Keeps the memory of the request charged until the client has read its answer.
    pub(super) request: Option<Share>,
}

/// Waits for the end of an answer: optional data, and the trailers.
pub(super) struct Last(Pin<Box<dyn Future<Output = (Option<Bytes>, HeaderMap)> + Send>>);

impl Last {
    pub(super) fn of(last: impl Future<Output = (Option<Bytes>, HeaderMap)> + Send + 'static) -> Self {
        Self(Box::pin(last))
    }
}

impl fmt::Debug for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Last")
    }
}

impl Answer {
    /// An answer of plain text.
    pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Self> {
        let mut response = Response::new(Self::from(text.into()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
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
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.data.is_none()
            && let Some(Last(last)) = &mut self.last
        {
            let (data, trailers) = std::task::ready!(last.as_mut().poll(context));
            (self.data, self.trailers, self.last) = (data, Some(trailers), None);
        }
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none() && self.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.last.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
