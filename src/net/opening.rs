//! The first bytes of a connection, by which HTTP/2 is told from anything else.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// What a record of TLS begins with that is part of a handshake.
pub const TLS_HANDSHAKE: u8 = 0x16;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were looked at. They are read from it all the same.
pub(super) struct Opened<S> {
    first: [u8; PREFACE.len()],
    /// Of the first bytes, these are still to be read.
    unread: std::ops::Range<usize>,
    stream: S,
    /// Told of each byte that the other end takes, where these are bytes of answers.
    answers: Option<Arc<Activity>>,
}

impl<S: AsyncRead + Unpin> Opened<S> {
    /// Reads as much of `stream` as tells what it speaks.
    pub(super) async fn read(stream: S) -> io::Result<Self> {
        let mut opened = Self { first: [0; PREFACE.len()], unread: 0..0, stream, answers: None };
        while opened.unread.end < PREFACE.len() && opened.is_like_http2() {
            match opened.stream.read(&mut opened.first[opened.unread.end..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => opened.unread.end += read,
            }
        }
        Ok(opened)
    }

    /// Whether it begins with HTTP/2's preface, as far as it was looked at.
    pub(super) fn is_like_http2(&self) -> bool {
        PREFACE.starts_with(&self.first[..self.unread.end])
    }

    /// Whether it begins with a handshake of TLS.
    pub(super) fn is_like_tls(&self) -> bool {
        self.unread.end > 0 && self.first[0] == TLS_HANDSHAKE
    }

    /// Tells `activity` of each part of an answer that is taken.
    pub(super) fn tell(&mut self, activity: Arc<Activity>) {
        self.answers = Some(activity);
    }
}

impl<S> Opened<S> {
    fn written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(_)), Some(activity)) = (&written, &self.answers) {
            activity.answers();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let unread = &self.first[self.unread.clone()];
        let part = &unread[..unread.len().min(into.remaining())];
        into.put_slice(part);
        self.unread.start += part.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
