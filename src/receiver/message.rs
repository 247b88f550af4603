//! The one message of a request, off the wire: gRPC's frame around it, and gzip where the sender has compressed it.
//!
//! What is taken of the room is what is allocated. Memory follows the bytes that have arrived, not those that a sender
//! announces: at first no more than a usual batch has, then no more than twice of what is there.

use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use hyper::body::Body;
use tokio::task::yield_now;

use super::metrics::Unread;
use super::room::{NoRoom, Room, Share};

/// How messages with the flag for it are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is larger than a message may be, before or after decompression.
    TooLarge,
    /// The requests under way leave no room for it.
    NoRoom(NoRoom),
    /// It is not what gRPC says.
    Malformed(&'static str),
    /// The sender or its connection has gone away.
    Gone,
}

impl Unreadable {
    /// As what it counts; who has gone away was not refused.
    pub(super) fn counts_as(self) -> Option<Unread> {
        match self {
            Self::TooLarge | Self::NoRoom(NoRoom::Ever) => Some(Unread::TooLarge),
            Self::NoRoom(NoRoom::Now) => Some(Unread::NoRoom),
            Self::Malformed(_) => Some(Unread::Malformed),
            Self::Gone => None,
        }
    }
}

impl From<NoRoom> for Unreadable {
    fn from(error: NoRoom) -> Self {
        Self::NoRoom(error)
    }
}

/// A message and its share of the room.
struct Held {
    message: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

/// Of a message that is only just announced, this much is allocated.
const AT_FIRST: usize = 256 << 10;
/// What is decompressed before other requests have their turn.
const STEP: usize = 64 << 10;
/// What a decompressor takes.
const DECOMPRESSOR: usize = 48 << 10;
/// A flag and the length.
const PREFIX: usize = 5;

const NO_MESSAGE: Unreadable = Unreadable::Malformed("there is no message");
const CUT: Unreadable = Unreadable::Malformed("the message ends before its length");
const NOT_ONE: Unreadable = Unreadable::Malformed("an export request is exactly one message");
const UNKNOWN_FLAG: Unreadable = Unreadable::Malformed("the message has an unknown flag");
const NOT_SAID: Unreadable =
    Unreadable::Malformed("the message is compressed, and grpc-encoding does not say how");
const NOT_GZIP: Unreadable = Unreadable::Malformed("the message is not gzip");

/// Reads a body that is one message of `most` bytes at most. The message takes its share of `room` with it.
pub(super) async fn receive(
    body: impl Body<Data = Bytes> + Unpin,
    encoding: Encoding,
    most: usize,
    room: &Arc<Room>,
) -> Result<Bytes, Unreadable> {
    let mut share = room.take(0)?;
    let mut frames = Frames { body, rest: Bytes::new() };
    let (flag, length) = frames.prefix().await?;
    let compressed = match (flag, encoding) {
        (0, _) => false,
        (1, Encoding::Gzip) => true,
        (1, Encoding::Identity) => return Err(NOT_SAID),
        _ => return Err(UNKNOWN_FLAG),
    };
    if length > most {
        return Err(Unreadable::TooLarge);
    }
    let mut message = frames.message(length, &mut share).await?;
    if frames.next().await?.is_some() {
        return Err(NOT_ONE);
    }
    if compressed {
        message = inflate(message, most, &mut share).await?;
        share.shrink_to(message.capacity());
    }
    Ok(Bytes::from_owner(Held { message, _share: share }))
}

/// What is in the frames of HTTP/2.
struct Frames<B> {
    body: B,
    /// Has arrived, and is not used yet.
    rest: Bytes,
}

impl<B: Body<Data = Bytes> + Unpin> Frames<B> {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Unreadable> {
        loop {
            if !self.rest.is_empty() {
                return Ok(Some(std::mem::take(&mut self.rest)));
            }
            match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return Err(Unreadable::Gone),
                None => return Ok(None),
            }
        }
    }

    /// The flag and the length of the message.
    async fn prefix(&mut self) -> Result<(u8, usize), Unreadable> {
        let mut prefix = [0; PREFIX];
        let mut filled = 0;
        while filled < PREFIX {
            let missing = if filled == 0 { NO_MESSAGE } else { CUT };
            let mut bytes = self.next().await?.ok_or(missing)?;
            let part = bytes.split_to(bytes.len().min(PREFIX - filled));
            prefix[filled..filled + part.len()].copy_from_slice(&part);
            filled += part.len();
            self.rest = bytes;
        }
        let [flag, length @ ..] = prefix;
        Ok((flag, u32::from_be_bytes(length) as usize))
    }

    /// The message itself, in one piece. It is copied, because a frame holds on to all that was read with it.
    async fn message(&mut self, length: usize, share: &mut Share) -> Result<Vec<u8>, Unreadable> {
        share.could_grow(length)?;
        let mut message = Vec::new();
        while message.len() < length {
            let mut bytes = self.next().await?.ok_or(CUT)?;
            let part = bytes.split_to(bytes.len().min(length - message.len()));
            extend(&mut message, part.len(), length, share)?;
            message.extend_from_slice(&part);
            self.rest = bytes;
        }
        Ok(message)
    }
}

/// Allocates for `more` bytes in a message of `most` at most.
fn extend(message: &mut Vec<u8>, more: usize, most: usize, share: &mut Share) -> Result<(), NoRoom> {
    let needed = message.len() + more;
    if needed > message.capacity() {
        let capacity = (2 * message.capacity()).max(AT_FIRST).min(most).max(needed);
        share.grow(capacity - message.capacity())?;
        message.reserve_exact(capacity - message.len());
    }
    Ok(())
}

/// Decompresses `wire` to `most` bytes at most. Other requests have their turns meanwhile.
async fn inflate(wire: Vec<u8>, most: usize, share: &mut Share) -> Result<Vec<u8>, Unreadable> {
    // gzip ends with its length, modulo 2^32 (RFC 1952), which is a good guess where it is not much.
    let said = wire.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    share.grow(DECOMPRESSOR)?;
    let mut decoder = MultiGzDecoder::new(&wire[..]);
    let mut message = Vec::new();
    extend(&mut message, said.min(AT_FIRST), said.min(most), share)?;
    loop {
        let step = STEP.min(message.capacity() - message.len());
        let read = decoder.by_ref().take(step as u64).read_to_end(&mut message).map_err(|_| NOT_GZIP)?;
        if read < step {
            return Ok(message);
        }
        if message.len() == message.capacity() {
            let Some(byte) = one_byte(&mut decoder).map_err(|_| NOT_GZIP)? else { return Ok(message) };
            if message.len() == most {
                return Err(Unreadable::TooLarge);
            }
            extend(&mut message, 1, most, share)?;
            message.push(byte);
        }
        yield_now().await;
    }
}

fn one_byte(source: &mut impl Read) -> io::Result<Option<u8>> {
    let mut byte = [0];
    Ok((source.read(&mut byte)? > 0).then_some(byte[0]))
}
