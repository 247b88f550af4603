//! How senders compress, and the way back, within the limit and the room.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use tokio::task::yield_now;
use zstd::stream::read::Decoder as ZstdDecoder;
use zstd::zstd_safe::get_frame_content_size;

use super::request_memory::Share;
use super::unreadable::Unreadable;

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// How large a message may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) bytes: usize,
    /// So many times of what it was compressed to.
    pub(super) ratio: usize,
}

impl Most {
    /// The most bytes of a message that was compressed to `wire` bytes.
    fn decompressed(self, wire: usize) -> usize {
        self.bytes.min(wire.saturating_mul(self.ratio).max(ANY_RATIO))
    }

    /// Why a message of more than `bytes` bytes, which are the most that it may have, is refused.
    fn exceeded_by(self, bytes: usize) -> Unreadable {
        if bytes < self.bytes { Unreadable::TooDense } else { Unreadable::TooLarge }
    }
}

/// The names of all of them.
pub(super) const KNOWN: &str = "identity,gzip,zstd";

/// What is allocated at first on the word of the compressed message.
const TRUSTED: usize = 256 << 10;
/// The bytes that are written, and those that are read, before other requests have their turn.
const STEP: usize = 64 << 10;
const INPUT_STEP: usize = 16 << 10;
/// A message of so many bytes may have been compressed to any size.
const ANY_RATIO: usize = 1 << 20;
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
        most: Most,
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

async fn gunzip(wire: &[u8], most: Most, share: &mut Share) -> Result<Vec<u8>, Unreadable> {
    share.grow(GZIP)?;
    // gzip ends with its length, modulo 2^32 (RFC 1952), which is a good guess where it is not much.
    let said = wire.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    let unpacked = Unpacked { message: Vec::new(), most, wire: wire.len(), window: 0, kept: 0, share };
    unpacked.all_of(MultiGzDecoder::new(Slice::of(wire)), said, NOT_GZIP).await
}

async fn unzstd(wire: &[u8], most: Most, share: &mut Share) -> Result<Vec<u8>, Unreadable> {
    share.grow(ZSTD)?;
    let said = get_frame_content_size(wire).ok().flatten().unwrap_or_default();
    let said = usize::try_from(said).unwrap_or(usize::MAX);
    let mut decoder = ZstdDecoder::with_buffer(Slice::of(wire)).map_err(|_| NOT_ZSTD)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| NOT_ZSTD)?;
    let window = 1 << ZSTD_WINDOW_LOG;
    let unpacked = Unpacked { message: Vec::new(), most, wire: wire.len(), window, kept: 0, share };
    unpacked.all_of(decoder, said, NOT_ZSTD).await
}

/// Compressed bytes, handed out in slices. At the end of each, reading would block: members and frames that hold nothing are
/// work as well, of which one read would do any amount.
struct Slice<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Slice<'a> {
    fn of(wire: &'a [u8]) -> Self {
        Self { rest: wire, left: INPUT_STEP }
    }
}

impl BufRead for Slice<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 && !self.rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.rest[..self.left.min(self.rest.len())])
    }

    fn consume(&mut self, used: usize) {
        self.rest = &self.rest[used..];
        self.left -= used;
    }
}

impl Read for Slice<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// A decompressor that reads slices.
trait Decoder<'a>: Read {
    fn input(&mut self) -> &mut Slice<'a>;
}

impl<'a> Decoder<'a> for MultiGzDecoder<Slice<'a>> {
    fn input(&mut self) -> &mut Slice<'a> {
        self.get_mut()
    }
}

impl<'a> Decoder<'a> for ZstdDecoder<'static, Slice<'a>> {
    fn input(&mut self) -> &mut Slice<'a> {
        self.get_mut()
    }
}

/// A message that is being decompressed.
struct Unpacked<'a> {
    message: Vec<u8>,
    most: Most,
    /// The bytes that it has compressed.
    wire: usize,
    /// What the decompressor may keep of the message for itself, and what it may have kept by now.
    window: usize,
    kept: usize,
    share: &'a mut Share,
}

impl Unpacked<'_> {
    /// Decompresses all that there is, which is `said` bytes as far as its sender says.
    async fn all_of<'w>(
        mut self,
        mut decoder: impl Decoder<'w>,
        said: usize,
        broken: Unreadable,
    ) -> Result<Vec<u8>, Unreadable> {
        let most = self.most.decompressed(self.wire);
        // What is said is the end of the steps in which memory is taken, as long as it is right.
        let expected = |len: usize| if len <= said { said.min(most) } else { most };
        self.share.extend(&mut self.message, said.min(TRUSTED), said.min(most))?;
        loop {
            decoder.input().left = INPUT_STEP;
            let step = STEP.min(self.message.capacity() - self.message.len());
            self.keep(step)?;
            // A full message is at its end, or there is one more byte.
            let mut byte = [0];
            let read = match step {
                0 => decoder.read(&mut byte),
                step => decoder.by_ref().take(step as u64).read_to_end(&mut self.message),
            };
            match read {
                Ok(read) if read < step.max(1) => return Ok(self.message),
                Ok(1) if step == 0 => {
                    if self.message.len() >= most {
                        return Err(self.most.exceeded_by(self.message.len()));
                    }
                    let expected = expected(self.message.len() + 1);
                    self.share.extend(&mut self.message, 1, expected)?;
                    self.message.push(byte[0]);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(broken),
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
