//! A proxy in front of PostgreSQL that reads the client's messages and cuts connections where a test wants it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What becomes of a connection at one message of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The message goes to the server.
    Forward,
    /// It does not, and the connection ends.
    CutBefore,
    /// It does, and the connection ends at once.
    CutAfter,
    /// It does, and the connection ends once the server has answered; the client does not see the answer.
    SwallowAnswer,
}

/// The proxy. It ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    cuts: Arc<AtomicU64>,
    _connections: JoinSet<()>,
}

/// A message of the client.
pub struct Message {
    bytes: Vec<u8>,
}

type Decide = Arc<dyn Fn(&Message) -> Action + Send + Sync>;

impl Proxy {
    /// A proxy to `server` that asks `decide` about each message after a connection's first.
    pub async fn start(
        server: SocketAddr,
        decide: impl Fn(&Message) -> Action + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, decide): (Arc<AtomicU64>, Decide) = (Arc::default(), Arc::new(decide));
        let mut connections = JoinSet::new();
        connections.spawn(serve(listener, server, decide, cuts.clone()));
        Self { address, cuts, _connections: connections }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has cut.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Message {
    /// Whether it asks for the end of a transaction.
    pub fn is_commit(&self) -> bool {
        self.bytes[0] == b'Q' && &self.bytes[5..] == b"COMMIT\0"
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, decide: Decide, cuts: Arc<AtomicU64>) {
    // Aborted with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (decide, cuts) = (decide.clone(), cuts.clone());
        connections.spawn(async move {
            if let Ok(server) = TcpStream::connect(server).await
                && let Ok(true) = relay(client, server, &decide).await
            {
                cuts.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

/// Relays until one side ends or the connection is cut; gives whether it was.
async fn relay(client: TcpStream, server: TcpStream, decide: &Decide) -> io::Result<bool> {
    let ((mut from_client, to_client), (from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (swallow, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let mut answers = JoinSet::new();
    answers.spawn(relay_answers(from_server, to_client, swallow.clone(), answered.clone()));
    let startup = read_message(&mut from_client, 0).await?;
    to_server.write_all(&startup.bytes).await?;
    loop {
        let message = read_message(&mut from_client, 1).await?;
        let action = decide(&message);
        if action == Action::CutBefore {
            return Ok(true);
        }
        swallow.store(action == Action::SwallowAnswer, Ordering::SeqCst);
        to_server.write_all(&message.bytes).await?;
        match action {
            Action::SwallowAnswer => answered.notified().await,
            Action::CutAfter => {}
            Action::Forward | Action::CutBefore => continue,
        }
        return Ok(true);
    }
}

async fn relay_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    swallow: Arc<AtomicBool>,
    answered: Arc<Notify>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if swallow.load(Ordering::SeqCst) {
            answered.notify_one();
        } else if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// A message whose length stands behind `tag` bytes, and counts itself.
async fn read_message(from: &mut OwnedReadHalf, tag: usize) -> io::Result<Message> {
    let mut bytes = vec![0; tag + 4];
    from.read_exact(&mut bytes).await?;
    let length = u32::from_be_bytes(bytes[tag..].try_into().expect("four bytes")) as usize;
    bytes.resize(tag + length, 0);
    from.read_exact(&mut bytes[tag + 4..]).await?;
    Ok(Message { bytes })
}
