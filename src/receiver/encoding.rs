//! Decompresses messages, within the size limit and the request memory.

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

/// The size limits of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) bytes: usize,
    /// The most decompressed bytes per compressed byte.
    pub(super) ratio: usize,
}

impl Most {
    /// The most bytes of a message with `wire` compressed bytes.
    fn decompressed(self, wire: usize) -> usize {
        self.bytes.min(wire.saturating_mul(self.ratio).max(ANY_RATIO))
    }

    /// Which limit a message exceeds that may have at most `bytes` bytes.
    fn exceeded_by(self, bytes: usize) -> Unreadable {
        if bytes < self.bytes { Unreadable::TooDense } else { Unreadable::TooLarge }
    }
}

/// The names of all encodings.
pub(super) const KNOWN: &str = "identity,gzip,zstd";

/// The most bytes allocated at first for the size that the compressed message claims.
const TRUSTED: usize = 256 << 10;
/// The bytes written and read before other requests have their turn.
const STEP: usize = 64 << 10;
const INPUT_STEP: usize = 16 << 10;
/// Messages up to this size may have any ratio.
const ANY_RATIO: usize = 1 << 20;
/// The memory of decompressors, without zstd's window, which grows with the output up to the bound for HTTP (RFC 9659).
const GZIP: usize = 48 << 10;
const ZSTD: usize = 160 << 10;
const ZSTD_WINDOW_LOG: u32 = 23;

const NOT_GZIP: Unreadable = Unreadable::Malformed("the message is not gzip");
const NOT_ZSTD: Unreadable = Unreadable::Malformed("the message is not zstd with a window of 8 MiB at most");

impl Encoding {
    /// The encoding with this name in gRPC and HTTP.
    pub(super) fn of_name(name: &[u8]) -> Option<Self> {
        [(&b"identity"[..], Self::Identity), (b"gzip", Self::Gzip), (b"zstd", Self::Zstd)]
            .into_iter()
            .find_map(|(known, encoding)| name.eq_ignore_ascii_case(known).then_some(encoding))
    }

    /// Decompresses `wire` to at most `most` bytes. Other requests have their turns meanwhile.
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
    // gzip ends with its length modulo 2^32 (RFC 1952), a good guess for small messages.
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

/// Compressed bytes, read in slices, with `WouldBlock` at the end of each. Without slices, a single read could process any number of
/// empty members and frames.
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
    /// Its compressed size.
    wire: usize,
    /// The most bytes of output that the decompressor keeps, and the number charged so far.
    window: usize,
    kept: usize,
    share: &'a mut Share,
}

impl Unpacked<'_> {
    /// Decompresses everything; the sender claims that it is `said` bytes.
    async fn all_of<'w>(
        mut self,
        mut decoder: impl Decoder<'w>,
        said: usize,
        broken: Unreadable,
    ) -> Result<Vec<u8>, Unreadable> {
        let most = self.most.decompressed(self.wire);
        // Memory grows in steps towards the claimed size until that turns out to be wrong.
        let expected = |len: usize| if len <= said { said.min(most) } else { most };
        self.share.extend(&mut self.message, said.min(TRUSTED), said.min(most))?;
        loop {
            decoder.input().left = INPUT_STEP;
            let step = STEP.min(self.message.capacity() - self.message.len());
            self.keep(step)?;
            // A full message is at its end, or one more byte follows.
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

    /// Charges the memory that the decompressor keeps of `more` bytes.
    fn keep(&mut self, more: usize) -> Result<(), Unreadable> {
        let kept = (self.message.len() + more).min(self.window);
        self.share.grow(kept.saturating_sub(self.kept))?;
        self.kept = self.kept.max(kept);
        Ok(())
    }
}
