//! How senders compress, and the way back, within the limit and the room.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use tokio::task::yield_now;

use super::message::{Unreadable, extend};
use super::room::Share;

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

/// The names of all of them.
pub(super) const KNOWN: &str = "identity,gzip";

/// What is allocated at first on the word of the compressed message.
const TRUSTED: usize = 256 << 10;
/// What is decompressed before other requests have their turn.
const STEP: usize = 64 << 10;
/// What a decompressor takes.
const DECOMPRESSOR: usize = 48 << 10;

const NOT_GZIP: Unreadable = Unreadable::Malformed("the message is not gzip");

impl Encoding {
    /// The encoding of this name, as gRPC and HTTP have them.
    pub(super) fn of_name(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"gzip") {
            Some(Self::Gzip)
        } else {
            name.eq_ignore_ascii_case(b"identity").then_some(Self::Identity)
        }
    }

    /// Decompresses `wire` to `most` bytes at most. Other requests have their turns meanwhile.
    pub(super) async fn decompress(
        self,
        wire: Vec<u8>,
        most: usize,
        share: &mut Share,
    ) -> Result<Vec<u8>, Unreadable> {
        let message = match self {
            Self::Identity => return Ok(wire),
            Self::Gzip => inflate(&wire, most, share).await?,
        };
        drop(wire);
        share.shrink_to(message.capacity());
        Ok(message)
    }
}

async fn inflate(wire: &[u8], most: usize, share: &mut Share) -> Result<Vec<u8>, Unreadable> {
    // gzip ends with its length, modulo 2^32 (RFC 1952), which is a good guess where it is not much.
    let said = wire.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    share.grow(DECOMPRESSOR)?;
    let mut decoder = MultiGzDecoder::new(wire);
    let mut message = Vec::new();
    extend(&mut message, said.min(TRUSTED), said.min(most), share)?;
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
