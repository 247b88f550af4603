//! How senders compress, and the way back, within the limit and the room.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use tokio::task::yield_now;
use zstd::stream::read::Decoder as ZstdDecoder;
use zstd::zstd_safe::get_frame_content_size;

use super::message::{Unreadable, extend};
use super::room::Share;

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// The names of all of them.
pub(super) const KNOWN: &str = "identity,gzip,zstd";

/// What is allocated at first on the word of the compressed message.
const TRUSTED: usize = 256 << 10;
/// What is decompressed before other requests have their turn.
const STEP: usize = 64 << 10;
/// What decompressors take, but for zstd's window: that grows with what comes out, to no more than HTTP's zstd may have
/// (RFC 9659).
const GZIP: usize = 48 << 10;
const ZSTD: usize = 160 << 10;
const ZSTD_WINDOW_LOG: u32 = 23;

const NOT_GZIP: Unreadable = Unreadable::Malformed("the message is not gzip");
const NOT_ZSTD: Unreadable = Unreadable::Malformed("the message is not zstd with a window of 8 MiB at most");

impl Encoding {
    /// The encoding of this name, as gRPC and HTTP have them.
    pub(super) fn of_name(name: &[u8]) -> Option<Self> {
        [(&b"identity"[..], Self::Identity), (b"gzip", Self::Gzip), (b"zstd", Self::Zstd)]
            .into_iter()
            .find_map(|(known, encoding)| name.eq_ignore_ascii_case(known).then_some(encoding))
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
            Self::Gzip => gunzip(&wire, most, share).await?,
            Self::Zstd => unzstd(&wire, most, share).await?,
        };
        drop(wire);
        share.shrink_to(message.capacity());
        Ok(message)
    }
}

async fn gunzip(wire: &[u8], most: usize, share: &mut Share) -> Result<Vec<u8>, Unreadable> {
    share.grow(GZIP)?;
    // gzip ends with its length, modulo 2^32 (RFC 1952), which is a good guess where it is not much.
    let said = wire.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    let unpacked = Unpacked { message: Vec::new(), most, window: 0, kept: 0, share };
    unpacked.all_of(MultiGzDecoder::new(wire), said, NOT_GZIP).await
}

async fn unzstd(wire: &[u8], most: usize, share: &mut Share) -> Result<Vec<u8>, Unreadable> {
    share.grow(ZSTD)?;
    let said = get_frame_content_size(wire).ok().flatten().unwrap_or_default();
    let said = usize::try_from(said).unwrap_or(usize::MAX);
    let mut decoder = ZstdDecoder::with_buffer(wire).map_err(|_| NOT_ZSTD)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| NOT_ZSTD)?;
    let unpacked = Unpacked { message: Vec::new(), most, window: 1 << ZSTD_WINDOW_LOG, kept: 0, share };
    unpacked.all_of(decoder, said, NOT_ZSTD).await
}

/// A message that is being decompressed.
struct Unpacked<'a> {
    message: Vec<u8>,
    most: usize,
    /// What the decompressor may keep of the message for itself, and what it may have kept by now.
    window: usize,
    kept: usize,
    share: &'a mut Share,
}

impl Unpacked<'_> {
    /// Decompresses all that there is, which is `said` bytes as far as its sender says.
    async fn all_of(
        mut self,
        mut decoder: impl Read,
        said: usize,
        broken: Unreadable,
    ) -> Result<Vec<u8>, Unreadable> {
        extend(&mut self.message, said.min(TRUSTED), said.min(self.most), self.share)?;
        loop {
            let step = STEP.min(self.message.capacity() - self.message.len());
            self.keep(step)?;
            let part = decoder.by_ref().take(step as u64).read_to_end(&mut self.message);
            if part.map_err(|_| broken)? < step {
                return Ok(self.message);
            }
            if self.message.len() == self.message.capacity() {
                let Some(byte) = one_byte(&mut decoder).map_err(|_| broken)? else { return Ok(self.message) };
                if self.message.len() == self.most {
                    return Err(Unreadable::TooLarge);
                }
                extend(&mut self.message, 1, self.most, self.share)?;
                self.message.push(byte);
            }
            yield_now().await;
        }
    }

    /// Takes room for what the decompressor keeps of `more` bytes.
    fn keep(&mut self, more: usize) -> Result<(), Unreadable> {
        let kept = (self.message.len() + more).min(self.window);
        self.share.grow(kept.saturating_sub(self.kept))?;
        self.kept = self.kept.max(kept);
        Ok(())
    }
}

fn one_byte(source: &mut impl Read) -> io::Result<Option<u8>> {
    let mut byte = [0];
    Ok((source.read(&mut byte)? > 0).then_some(byte[0]))
}
