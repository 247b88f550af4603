//! The first bytes of a connection, which tell its protocol.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// The first byte of a TLS handshake record.
pub const TLS_HANDSHAKE: u8 = 0x16;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were read in advance; reading returns them first.
pub(super) struct Opened<S> {
    first: [u8; PREFACE.len()],
    /// The part of `first` that is still to be returned.
    unread: std::ops::Range<usize>,
    stream: S,
    /// Updated with each write that the other end accepts, if the bytes written are answers.
    answers: Option<Arc<Activity>>,
}

impl<S: AsyncRead + Unpin> Opened<S> {
    /// Reads the bytes of `stream` that tell its protocol.
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

    /// Whether the bytes read so far are those of HTTP/2's preface.
    pub(super) fn is_like_http2(&self) -> bool {
        PREFACE.starts_with(&self.first[..self.unread.end])
    }

    /// Whether it begins with a TLS handshake.
    pub(super) fn is_like_tls(&self) -> bool {
        self.unread.end > 0 && self.first[0] == TLS_HANDSHAKE
    }

    /// From now on updates `activity` with each write.
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
