//! Good senders on a forebay that others do harm to, and HTTP/2 as no library sends it.

use std::io;

use bytes::Bytes;
use h2::client::SendRequest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::PATIENCE;
use support::postgres::{Database, database};
use support::sender::PATH;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;

use crate::oracle::{Account, Oracle, losses_are_written, p99};
use crate::scene::Scene;

const MIB: u64 = 1 << 20;
/// I5: what may be resident beside what requests may take: the buffer's 64 MiB, and as much again.
const BESIDE: u64 = 128 * MIB;
/// What requests may take in all by default, in MiB.
pub const REQUEST_LIMIT_MIB: u64 = 80;

/// A forebay under siege. Good senders load it meanwhile.
pub struct Siege {
    pub scene: Scene,
    pub database: Database,
    request_limit: u64,
}

impl Siege {
    /// Starts a forebay with these `--set` arguments, and requests that may take `request_limit` MiB in all.
    pub async fn begin(request_limit: u64, sets: &[&str]) -> Self {
        raise_open_files();
        let database = database().await;
        let limit = format!("receivers.otlp.admission.request_limit_mib={request_limit}");
        let scene = Scene::begin(&database, database.dsn(), &[&[limit.as_str()], sets].concat()).await;
        Self { scene, database, request_limit: request_limit * MIB }
    }

    pub fn endpoint(&self) -> String {
        self.scene.forebay.endpoint()
    }

    /// A connection on which nothing has been said.
    pub async fn connect(&self) -> TcpStream {
        let address = self.endpoint();
        TcpStream::connect(address.strip_prefix("http://").unwrap()).await.expect("forebay listens")
    }

    /// A client that opens streams and leaves the rest to its caller.
    pub async fn streams(&self) -> SendRequest<Bytes> {
        let (client, connection) = h2::client::handshake(self.connect().await).await.unwrap();
        tokio::spawn(connection);
        client.ready().await.unwrap()
    }

    /// The good senders have noticed nothing, and memory has kept its bound. `oracle` is what others remember whose
    /// records were taken.
    pub async fn ends(self, what: &str, oracle: Oracle) -> Account {
        self.scene.recovers().await;
        let (peak, limit) = (self.scene.forebay.peak(), self.request_limit + BESIDE);
        let Scene { forebay, load, .. } = self.scene;
        let mut all = load.end().await;
        let p99 = p99(&all.waits);
        let told = oracle.rejected();
        all.add(oracle);
        all.requests_may_take = self.request_limit;
        let page = forebay.settles().await;
        let account = all.settle(&self.database, &page).await;
        println!("{what}: {account}; p99 of the good senders {p99:.1?}; {} MiB resident at most", peak / MIB);
        assert!(peak <= limit, "I5: {peak} bytes were resident, {limit} are allowed");
        assert_eq!(account.rejected, told, "{account}");
        assert_eq!(account.refused + account.unanswered + account.lost, 0, "{account}");
        let (status, said) = forebay.terminate().await;
        assert_eq!(status, Some(0), "{said:#?}");
        losses_are_written(&self.database, &page).await;
        account
    }
}

/// This process and the forebay that it starts may have as many connections as the system allows.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
}

/// The head of an export request.
pub fn export_head() -> http::Request<()> {
    let uri = format!("http://forebay{PATH}");
    http::Request::post(uri).header("content-type", "application/grpc").body(()).unwrap()
}

/// gRPC's frame of a message that says it has `length` bytes.
pub fn message(flag: u8, length: u32, bytes: &[u8]) -> Bytes {
    [&[flag][..], &length.to_be_bytes(), bytes].concat().into()
}

/// The status in the head of an answer that has no more than a head.
pub fn status(headers: &http::HeaderMap) -> Status {
    Status::from_header_map(headers).unwrap_or_else(|| panic!("no status: {headers:?}"))
}

/// HTTP/2's frames, as they are.
pub mod frames {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const CONTINUATION: u8 = 9;
    pub const END_HEADERS: u8 = 4;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    const ACK: u8 = 1;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// The preface, settings that change nothing, and that those of the other side are known.
    pub fn begin() -> Vec<u8> {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        [preface, frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()
    }

    /// The fields of an export request as HPACK has them, none of them kept.
    pub fn head() -> Vec<u8> {
        let path = super::PATH.as_bytes();
        let literal = |name: &[u8], value: &[u8]| [name, &[value.len() as u8], value].concat();
        // :method POST and :scheme http by their numbers, :path, :authority and content-type by that of the name.
        let of_grpc = literal(&[0x0f, 0x10], b"application/grpc");
        [vec![0x83, 0x86], literal(&[0x04], path), literal(&[0x01], b"forebay"), of_grpc].concat()
    }
}

/// A frame that has arrived: its kind, and what is in it.
async fn next_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((head[3], payload))
}

/// Begins HTTP/2, and waits until forebay has opened its window for the connection.
pub async fn begin(stream: &mut TcpStream) {
    stream.write_all(&frames::begin()).await.unwrap();
    while next_frame(stream).await.expect("the connection goes on").0 != frames::WINDOW_UPDATE {}
}

/// Sends `bytes`, and waits until forebay ends the connection, which it must; gives the reason, where it arrives.
pub async fn flood(mut stream: TcpStream, bytes: impl Iterator<Item = Vec<u8>>) -> Option<u32> {
    begin(&mut stream).await;
    let (mut read, mut write) = stream.split();
    let sending = async {
        for bytes in bytes {
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
        std::future::pending().await
    };
    let reading = async {
        let mut reason = None;
        while let Ok((kind, payload)) = next_frame(&mut read).await {
            if kind == frames::GOAWAY {
                reason = payload[4..].first_chunk().map(|code| u32::from_be_bytes(*code));
            }
        }
        reason
    };
    let ended = timeout(PATIENCE, async {
        tokio::select! {
            never = sending => never,
            reason = reading => reason,
        }
    });
    ended.await.expect("the connection ends")
}
