//! Reads the message of a request: from gRPC's frame, or from the whole body of HTTP.
//!
//! The memory charged is the memory allocated. It follows the bytes that have arrived, not those that a sender announces: at first the
//! size of a usual batch, then at most a fixed multiple of what has arrived.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;

use super::content_type::ContentType;
use super::encoding::{Encoding, Most};
use super::request_memory::{NoRoom, RequestMemory, Share};
use super::unreadable::Unreadable;
use super::work::in_turn;
use crate::otlp::json;
use crate::otlp::replaced::Replaced;

/// A message, and its share of request memory, which is charged for everything made of it before it is in the buffer.
#[derive(Debug)]
pub struct Message {
    bytes: Bytes,
    /// The part of the share that is for `bytes`.
    charged: usize,
    share: Share,
    /// The values replaced when it was converted to protobuf.
    replaced: Replaced,
}

impl Message {
    fn new(bytes: Vec<u8>, share: Share, replaced: Replaced) -> Self {
        Self { charged: bytes.capacity(), bytes: bytes.into(), share, replaced }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn replaced(&self) -> Replaced {
        self.replaced
    }

    /// Replaces the bytes by those that `make` returns and charges to the share; the old bytes are no longer charged.
    pub(super) fn replace(
        &mut self,
        make: impl FnOnce(&[u8], &mut Share) -> Result<Option<Vec<u8>>, NoRoom>,
    ) -> Result<(), NoRoom> {
        if let Some(bytes) = make(&self.bytes, &mut self.share)? {
            let charged = bytes.capacity();
            self.bytes = bytes.into();
            self.share.give_back(self.charged);
            self.charged = charged;
        }
        Ok(())
    }

    pub(super) fn parts(&mut self) -> (&[u8], &mut Share) {
        (&self.bytes, &mut self.share)
    }
}

/// A message that is already in memory, with a memory of its own and no bound.
impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        let share = RequestMemory::new(usize::MAX / 4).take(0).expect("there is no bound");
        Self { bytes, charged: 0, share, replaced: Replaced::default() }
    }
}

/// The bytes of gRPC's prefix: a flag and the length.
const PREFIX: usize = 5;

const NO_MESSAGE: Unreadable = Unreadable::Malformed("there is no message");
const CUT: Unreadable = Unreadable::Malformed("the message ends before its length");
const NOT_ONE: Unreadable = Unreadable::Malformed("an export request is exactly one message");
const UNKNOWN_FLAG: Unreadable = Unreadable::Malformed("the message has an unknown flag");
const NOT_SAID: Unreadable =
    Unreadable::Malformed("the message is compressed, and grpc-encoding does not say how");

/// Reads a body that is one gRPC message of at most `most` bytes, charged to `room`.
pub(super) async fn receive_framed(
    body: impl Body<Data = Bytes> + Unpin,
    encoding: Encoding,
    most: Most,
    room: &Arc<RequestMemory>,
) -> Result<Message, Unreadable> {
    let mut share = room.take(0)?;
    let mut frames = Frames { body, rest: Bytes::new() };
    let (flag, length) = frames.prefix().await?;
    let encoding = match (flag, encoding) {
        (0, _) => Encoding::Identity,
        (1, Encoding::Identity) => return Err(NOT_SAID),
        (1, encoding) => encoding,
        _ => return Err(UNKNOWN_FLAG),
    };
    if length > most.bytes {
        return Err(Unreadable::TooLarge);
    }
    let message = frames.message(length, &mut share).await?;
    if frames.next().await?.is_some() {
        return Err(NOT_ONE);
    }
    let message = encoding.decompress(message, most, &mut share).await?;
    Ok(Message::new(message, share, Replaced::default()))
}

/// Reads a body that is one message of at most `most` bytes, charged to `room`, and converts it to protobuf.
pub(super) async fn receive_whole(
    body: impl Body<Data = Bytes> + Unpin,
    content_type: ContentType,
    encoding: Encoding,
    most: Most,
    room: &Arc<RequestMemory>,
) -> Result<Message, Unreadable> {
    let mut share = room.take(0)?;
    let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > most.bytes) {
        return Err(Unreadable::TooLarge);
    }
    let message =
        Frames { body, rest: Bytes::new() }.until_the_end(announced, most.bytes, &mut share).await?;
    let message = encoding.decompress(message, most, &mut share).await?;
    let (message, replaced) = match content_type {
        ContentType::Protobuf => (message, Replaced::default()),
        ContentType::Json => of_json(message, &mut share).await?,
    };
    Ok(Message::new(message, share, replaced))
}

/// The memory for converting a request, and why the last growth failed.
struct OfShare<'a> {
    share: &'a mut Share,
    no_room: NoRoom,
}

impl json::Memory for OfShare<'_> {
    fn take(&mut self, bytes: usize) -> bool {
        self.share.grow(bytes).map_err(|error| self.no_room = error).is_ok()
    }

    fn give_back(&mut self, bytes: usize) {
        self.share.give_back(bytes);
    }
}

/// Converts a message from JSON to protobuf.
async fn of_json(json: Vec<u8>, share: &mut Share) -> Result<(Vec<u8>, Replaced), Unreadable> {
    let room = share.room().clone();
    let mut memory = OfShare { share, no_room: NoRoom::Now };
    let written = in_turn(json.len(), room.turns(), || json::to_wire(&json, &mut memory)).await;
    let (wire, replaced) = written.map_err(|why| match why {
        json::Unwritten::Malformed(why) => Unreadable::Json(why),
        json::Unwritten::NoRoom => Unreadable::NoRoom(memory.no_room),
    })?;
    drop(json);
    share.shrink_to(wire.capacity());
    Ok((wire, replaced))
}

/// The data of a body.
struct Frames<B> {
    body: B,
    /// Bytes that have arrived and are not used yet.
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

    /// The message in one piece. It is copied, because a frame keeps the whole read buffer alive.
    async fn message(&mut self, length: usize, share: &mut Share) -> Result<Vec<u8>, Unreadable> {
        share.could_grow(length)?;
        let mut message = Vec::new();
        while message.len() < length {
            let mut bytes = self.next().await?.ok_or(CUT)?;
            let part = bytes.split_to(bytes.len().min(length - message.len()));
            share.extend(&mut message, part.len(), length)?;
            message.extend_from_slice(&part);
            self.rest = bytes;
        }
        Ok(message)
    }

    /// The rest of the body, at most `most` bytes, in one piece; its length if `announced`.
    async fn until_the_end(
        &mut self,
        announced: Option<usize>,
        most: usize,
        share: &mut Share,
    ) -> Result<Vec<u8>, Unreadable> {
        share.could_grow(announced.unwrap_or_default())?;
        let mut message = Vec::new();
        while let Some(bytes) = self.next().await? {
            if bytes.len() > most - message.len() {
                return Err(Unreadable::TooLarge);
            }
            share.extend(&mut message, bytes.len(), announced.unwrap_or(most))?;
            message.extend_from_slice(&bytes);
        }
        Ok(message)
    }
}
