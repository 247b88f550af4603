//! Messages in frames of any size, compressed or not, and what they take of the room.

use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body, Frame};

use crate::receiver::encoding::{Encoding, Most};
use crate::receiver::message::receive_framed;
use crate::receiver::request_memory::{NoRoom, RequestMemory};
use crate::receiver::unreadable::Unreadable;

const MIB: usize = 1 << 20;

/// A body of these frames, which fails where the last one says so.
struct Frames {
    frames: VecDeque<Bytes>,
    cut: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let next = self.frames.pop_front().map(|bytes| Ok(Frame::data(bytes)));
        Poll::Ready(next.or_else(|| std::mem::take(&mut self.cut).then_some(Err("the stream was reset"))))
    }
}

/// A body in frames of `size` bytes.
fn frames(bytes: &[u8], size: usize) -> Frames {
    Frames { frames: bytes.chunks(size).map(Bytes::copy_from_slice).collect(), cut: false }
}

fn message(flag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[flag][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The largest message, however it compresses.
const MOST: Most = Most { bytes: MIB, ratio: 1_000_000 };

async fn receive<B>(body: B, encoding: Encoding, room: &Arc<RequestMemory>) -> Result<Bytes, Unreadable>
where
    B: Body<Data = Bytes> + Unpin,
{
    receive_framed(body, encoding, MOST, room).await.map(|message| Bytes::copy_from_slice(message.bytes()))
}

/// Receives with a limit of 1 MiB and a room of `room` bytes.
async fn received(body: Frames, room: usize) -> Result<Bytes, Unreadable> {
    received_as(Encoding::Gzip, body, room).await
}

async fn received_as(encoding: Encoding, body: Frames, room: usize) -> Result<Bytes, Unreadable> {
    let room = RequestMemory::new(room);
    let received = receive(body, encoding, &room).await;
    if received.is_err() {
        assert_eq!(Arc::strong_count(&room), 1, "what is refused keeps nothing of the room");
    }
    received
}

/// Bytes that do not compress well, nor badly.
fn words(length: usize) -> Vec<u8> {
    let mut chance = fastrand::Rng::with_seed(1);
    (0..length).map(|_| b"etaoin shrdlu"[chance.usize(..13)]).collect()
}

#[tokio::test]
async fn frames_may_be_of_any_size() {
    let text = words(300_000);
    let twice = [gzip(&text[..7]), gzip(&text[7..])].concat();
    for (flag, wire) in [(0, text.clone()), (1, gzip(&text)), (1, twice)] {
        let bytes = message(flag, &wire);
        for size in [1, 3, 5, 6, 1000, 65_536, bytes.len()] {
            assert_eq!(received(frames(&bytes, size), 4 * MIB).await.unwrap(), text, "{size}");
        }
    }
    let mut with_empty_ones = frames(&message(0, b"text"), 3);
    with_empty_ones.frames =
        with_empty_ones.frames.into_iter().flat_map(|frame| [Bytes::new(), frame]).collect();
    assert_eq!(received(with_empty_ones, MIB).await.unwrap(), "text");
    assert_eq!(received(frames(&message(0, b""), 2), MIB).await.unwrap(), "");
    assert_eq!(received(frames(&message(1, &gzip(b"")), 9), MIB).await.unwrap(), "");
}

#[tokio::test]
async fn the_limit_is_exact() {
    for (length, fits) in [(MIB, true), (MIB + 1, false), (MIB + 70_000, false)] {
        let text = vec![b'x'; length];
        for bytes in [message(0, &text), message(1, &gzip(&text))] {
            let result = received(frames(&bytes, 60_000), 4 * MIB).await.map(|message| message.len());
            assert_eq!(result, if fits { Ok(length) } else { Err(Unreadable::TooLarge) });
        }
    }
    let announced = [0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(received(frames(&announced, 5), 4 * MIB).await, Err(Unreadable::TooLarge));
}

/// A thousand times as much comes out as goes in, and the length at the end says something else, so that it has to be
/// tried. There is room for what came in, a decompressor, and the limit with the half of it that is copied there.
#[tokio::test]
async fn a_bomb_costs_the_limit_at_most() {
    let mut bomb = gzip(&vec![0; 64 * MIB]);
    for said in [0, 1, 300_000, MIB as u32, u32::MAX] {
        let at = bomb.len() - 4;
        bomb[at..].copy_from_slice(&said.to_le_bytes());
        let room = 3 * (MIB + MIB / 2 + bomb.len() + (48 << 10)) / 2 + 3;
        assert_eq!(
            received(frames(&message(1, &bomb), 60_000), room).await,
            Err(Unreadable::TooLarge),
            "{said}"
        );
    }
}

#[tokio::test]
async fn zstd_is_bounded_as_gzip_is() {
    let room = 3 * (4 * MIB) / 2;
    for length in [0, 1, 300_000, MIB] {
        let text = words(length);
        let whole = zstd::encode_all(&text[..], 3).unwrap();
        let (one, other) = text.split_at(length / 3);
        let twice = [one, other].map(|part| zstd::bulk::compress(part, 3).unwrap()).concat();
        for wire in [whole, twice] {
            let body = frames(&message(1, &wire), 60_000);
            assert_eq!(received_as(Encoding::Zstd, body, room).await.unwrap(), text, "{length}");
        }
    }
    for length in [MIB + 1, 64 * MIB] {
        let zeros = vec![0; length];
        // The one does not say how much it is, the other does.
        for bomb in [zstd::encode_all(&zeros[..], 3), zstd::bulk::compress(&zeros, 3)] {
            let body = frames(&message(1, &bomb.unwrap()), 60_000);
            assert_eq!(received_as(Encoding::Zstd, body, room).await, Err(Unreadable::TooLarge), "{length}");
        }
    }
    let mut wide = zstd::Encoder::new(Vec::new(), 3).unwrap();
    wide.window_log(24).unwrap();
    wide.write_all(&words(100_000)).unwrap();
    let wide = wide.finish().unwrap();
    let cut = zstd::encode_all(&words(1000)[..], 3).unwrap();
    for wire in [&wide[..], &cut[..cut.len() - 3], b"this is not zstd"] {
        let refused = received_as(Encoding::Zstd, frames(&message(1, wire), 60_000), room).await;
        assert!(
            matches!(refused, Err(Unreadable::Malformed(why)) if why.contains("not zstd")),
            "{refused:?}"
        );
    }
}

/// The ratio holds beyond the first mebibyte, and is exact: one byte more is refused, also of many frames and members.
#[tokio::test]
async fn the_ratio_of_decompression_is_bounded() {
    let zeros = vec![0; 3 * MIB];
    let gzip_of = |length: usize| gzip(&zeros[..length]);
    let zstd_of = |length: usize| zstd::bulk::compress(&zeros[..length], 3).unwrap();
    for (encoding, compress) in
        [(Encoding::Gzip, &gzip_of as &dyn Fn(usize) -> Vec<u8>), (Encoding::Zstd, &zstd_of)]
    {
        let half = compress(MIB + MIB / 4);
        for wire in [compress(2 * MIB + MIB / 2), [&half[..], &half].concat()] {
            let ratio = (2 * MIB + MIB / 2).div_ceil(wire.len());
            for (ratio, fits) in [(ratio, true), (ratio - 1, false)] {
                let (most, room) = (Most { bytes: 4 * MIB, ratio }, RequestMemory::new(32 * MIB));
                let body = frames(&message(1, &wire), 60_000);
                let received = receive_framed(body, encoding, most, &room).await;
                let received = received.map(|message| message.bytes().len());
                let expected = if fits { Ok(2 * MIB + MIB / 2) } else { Err(Unreadable::TooDense) };
                assert_eq!(received, expected, "{encoding:?} {ratio}");
            }
        }
        let most = Most { bytes: 4 * MIB, ratio: 1 };
        let body = frames(&message(1, &compress(MIB)), 60_000);
        let received = receive_framed(body, encoding, most, &RequestMemory::new(32 * MIB)).await;
        assert_eq!(received.map(|message| message.bytes().len()), Ok(MIB), "a mebibyte may be of anything");
    }
}

/// Members and frames that hold nothing are work without a byte of output. Other tasks have their turns meanwhile.
#[tokio::test]
async fn what_holds_nothing_is_read_in_slices() {
    let mut skippable = 0x184d_2a50u32.to_le_bytes().to_vec();
    skippable.extend([0; 4]);
    for (encoding, nothing) in [
        (Encoding::Gzip, gzip(b"")),
        (Encoding::Zstd, zstd::bulk::compress(b"", 3).unwrap()),
        (Encoding::Zstd, skippable),
    ] {
        let wire = nothing.repeat((900 << 10) / nothing.len());
        let slices = wire.len() / (16 << 10);
        let turns = std::cell::Cell::new(0);
        let others = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        let received = received_as(encoding, frames(&message(1, &wire), 60_000), 8 * MIB);
        tokio::select! {
            biased;
            received = received => assert_eq!(received.unwrap(), ""),
            () = others => {}
        }
        assert!(turns.get() >= slices, "{} turns for {slices} slices of {encoding:?}", turns.get());
    }
}

#[tokio::test]
async fn what_is_announced_takes_little_before_it_arrives() {
    let (room, announced) = (RequestMemory::new(8 * MIB), message(0, &words(MIB)));
    let mut body = frames(&announced[..600_000], 1000);
    body.cut = true;
    let taken = std::cell::Cell::new(0);
    // While it waits for its last bytes there is room for others, but for what has arrived, twice at most.
    let waiting = Waits { body, at_the_end: || taken.set(room.taken()) };
    assert_eq!(receive(waiting, Encoding::Gzip, &room).await, Err(Unreadable::Gone));
    assert!((600_000..=1_200_000).contains(&taken.get()), "{}", taken.get());
    assert_eq!(room.taken(), 0);

    let waiting = Waits { body: frames(&announced[..6], 6), at_the_end: || taken.set(room.taken()) };
    receive(waiting, Encoding::Gzip, &room).await.unwrap_err();
    assert_eq!(taken.get(), 256 << 10, "one byte of a large message");
}

/// A body that tells when it comes to its end.
struct Waits<F> {
    body: Frames,
    at_the_end: F,
}

impl<F: Fn() + Unpin> Body for Waits<F> {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if self.body.frames.is_empty() {
            (self.at_the_end)();
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}

#[tokio::test]
async fn what_has_no_room_is_told_apart() {
    let text = words(600_000);
    let bytes = message(0, &text);
    assert_eq!(received(frames(&bytes, 60_000), 800_000).await, Err(Unreadable::NoRoom(NoRoom::Ever)));
    let room = RequestMemory::new(MIB);
    let _other = room.take(300_000).unwrap();
    let refused = receive(frames(&bytes[..5], 5), Encoding::Gzip, &room).await;
    assert_eq!(refused, Err(Unreadable::NoRoom(NoRoom::Now)), "before any byte of it has come");
}

#[tokio::test]
async fn broken_bodies_are_refused() {
    let good = message(0, b"text");
    let whole = gzip(b"some text, and some more text");
    let cut = &whole[..whole.len() - 9];
    for (bytes, expected) in [
        (vec![], "no message"),
        (good[..4].to_vec(), "ends before"),
        (good[..8].to_vec(), "ends before"),
        ([&good[..], b"x"].concat(), "exactly one"),
        (good.repeat(2), "exactly one"),
        (message(2, b"text"), "unknown flag"),
        (message(1, b""), "not gzip"),
        (message(1, b"text"), "not gzip"),
        (message(1, cut), "not gzip"),
    ] {
        let Err(Unreadable::Malformed(why)) = received(frames(&bytes, 4), MIB).await else {
            panic!("{bytes:?} was read")
        };
        assert!(why.contains(expected), "{bytes:?}: {why}");
    }
    let room = RequestMemory::new(MIB);
    let refused = receive(frames(&message(1, &whole), 9), Encoding::Identity, &room).await;
    assert!(
        matches!(refused, Err(Unreadable::Malformed(why)) if why.contains("grpc-encoding")),
        "{refused:?}"
    );
}
