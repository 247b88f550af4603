//! A proxy in front of PostgreSQL that reads the messages of both sides, breaks connections where a test wants it,
//! and can be as slow or as silent as a bad network.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What becomes of a connection at one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The message goes on its way.
    Forward,
    /// It does not, and the connection ends.
    CutBefore(End),
    /// It does, and the connection ends at once.
    CutAfter(End),
    /// It does not, and nothing else ever will in either direction; nobody is told.
    Silence,
}

/// How both sides learn of the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As if the other side had closed it.
    Fin,
    /// As if the other side did not know it.
    Rst,
}

/// Who has sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that has connected.
    Client,
    /// The one behind the proxy.
    Server,
}

/// A message that a connection has brought after its first.
pub struct Message {
    /// Who has sent it.
    pub from: Side,
    /// The number of its connection.
    pub connection: u64,
    bytes: Vec<u8>,
}

/// The line that all connections share. Its clones are the same line.
#[derive(Clone)]
pub struct Line {
    condition: watch::Sender<Condition>,
}

#[derive(Clone, Copy)]
struct Condition {
    silent: bool,
    round_trip: Duration,
    bytes_per_second: Option<usize>,
}

/// The proxy. It ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    cuts: Arc<AtomicU64>,
    _connections: JoinSet<()>,
}

type Decide = Arc<dyn Fn(&Message) -> Action + Send + Sync>;

/// The longest that the two sides have for their own closing of a connection that was closed to them.
const CLOSING: Duration = Duration::from_secs(5);
/// In how many pieces a second's worth of bytes is sent on a slow line.
const PIECES: u32 = 20;

impl Proxy {
    /// A proxy to `server` that asks `decide` about each message after a connection's first.
    pub async fn start(
        server: SocketAddr,
        decide: impl Fn(&Message) -> Action + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(Line::default(), server, decide).await
    }

    /// The same, on a line that the test has in its hands.
    pub async fn start_on(
        line: Line,
        server: SocketAddr,
        decide: impl Fn(&Message) -> Action + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::<AtomicU64>::default();
        let mut connections = JoinSet::new();
        let relay = Relay { server, decide: Arc::new(decide), line, cuts: cuts.clone() };
        connections.spawn(relay.serve(listener));
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
    /// Whether it asks for a new transaction.
    pub fn is_begin(&self) -> bool {
        self.is(Side::Client, b'Q', b"BEGIN\0")
    }

    /// Whether it asks for the end of a transaction.
    pub fn is_commit(&self) -> bool {
        self.is(Side::Client, b'Q', b"COMMIT\0")
    }

    /// Whether it says that a transaction is committed.
    pub fn is_committed(&self) -> bool {
        self.is(Side::Server, b'C', b"COMMIT\0")
    }

    /// Whether it brings rows of a COPY.
    pub fn is_copy_data(&self) -> bool {
        self.from == Side::Client && self.bytes[0] == b'd'
    }

    /// Whether it has these bytes in it.
    pub fn has(&self, content: &[u8]) -> bool {
        self.bytes.windows(content.len()).any(|bytes| bytes == content)
    }

    fn is(&self, from: Side, tag: u8, content: &[u8]) -> bool {
        self.from == from && self.bytes[0] == tag && &self.bytes[5..] == content
    }

    /// Whether it lets the client go on that has waited for it.
    fn ends_a_wait(&self) -> bool {
        self.from == Side::Server && matches!(self.bytes[0], b'Z' | b'G')
    }
}

impl Default for Line {
    fn default() -> Self {
        let good = Condition { silent: false, round_trip: Duration::ZERO, bytes_per_second: None };
        Self { condition: watch::Sender::new(good) }
    }
}

impl Line {
    /// Lets nothing through any more, or again. What was sent meanwhile arrives then.
    pub fn set_silent(&self, silent: bool) {
        self.condition.send_modify(|condition| condition.silent = silent);
    }

    /// Lets each answer take so much longer, and so many bytes through a second.
    pub fn set_slow(&self, round_trip: Duration, bytes_per_second: Option<usize>) {
        self.condition.send_modify(|condition| {
            (condition.round_trip, condition.bytes_per_second) = (round_trip, bytes_per_second);
        });
    }

    /// Brings a message over.
    async fn carry(&self, message: &Message, to: &mut WriteHalf<'_>) -> io::Result<()> {
        let condition = self.until(|condition| !condition.silent).await;
        if message.ends_a_wait() && !condition.round_trip.is_zero() {
            sleep(condition.round_trip).await;
        }
        let Some(rate) = condition.bytes_per_second else {
            return to.write_all(&message.bytes).await;
        };
        for piece in message.bytes.chunks((rate / PIECES as usize).max(1)) {
            to.write_all(piece).await?;
            sleep(Duration::from_secs(1).mul_f64(piece.len() as f64 / rate as f64)).await;
        }
        Ok(())
    }

    async fn until(&self, wanted: impl Fn(&Condition) -> bool) -> Condition {
        let mut changes = self.condition.subscribe();
        let found = changes.wait_for(|condition| wanted(condition)).await;
        *found.expect("the line has a sender of its own")
    }
}

/// What each connection is served with.
#[derive(Clone)]
struct Relay {
    server: SocketAddr,
    decide: Decide,
    line: Line,
    cuts: Arc<AtomicU64>,
}

/// Why a connection is not relayed any longer.
enum Over {
    Cut(End),
    Silent,
    Ended,
}

impl Relay {
    async fn serve(self, listener: TcpListener) {
        // Aborted with this task.
        let mut connections = JoinSet::new();
        let mut number = 0;
        while let Ok((client, _)) = listener.accept().await {
            number += 1;
            let (relay, connection) = (self.clone(), number);
            connections.spawn(async move {
                if let Ok(server) = TcpStream::connect(relay.server).await {
                    relay.connection(connection, client, server).await;
                }
            });
        }
    }

    async fn connection(&self, number: u64, mut client: TcpStream, mut server: TcpStream) {
        // Messages go on one by one, and none should wait for the other side to have acknowledged the one before.
        for side in [&client, &server] {
            side.set_nodelay(true).expect("a socket");
        }
        let over = {
            let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
            tokio::select! {
                over = self.pump(Side::Client, number, from_client, to_server) => over,
                over = self.pump(Side::Server, number, from_server, to_client) => over,
            }
        };
        match over.unwrap_or(Over::Ended) {
            Over::Ended => {}
            Over::Cut(end) => {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                tokio::join!(close(client, end), close(server, end));
            }
            Over::Silent => {
                // Both sockets stay open.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Relays in one direction until that is over.
    async fn pump(
        &self,
        from: Side,
        connection: u64,
        mut reader: ReadHalf<'_>,
        mut writer: WriteHalf<'_>,
    ) -> io::Result<Over> {
        // The client's first message has no tag.
        let mut tag = usize::from(from == Side::Server);
        loop {
            let bytes = read_message(&mut reader, tag).await?;
            let message = Message { from, connection, bytes };
            let action = if tag == 0 { Action::Forward } else { (self.decide)(&message) };
            tag = 1;
            match action {
                Action::CutBefore(end) => return Ok(Over::Cut(end)),
                Action::Silence => return Ok(Over::Silent),
                Action::Forward | Action::CutAfter(_) => self.line.carry(&message, &mut writer).await?,
            }
            if let Action::CutAfter(end) = action {
                return Ok(Over::Cut(end));
            }
        }
    }
}

/// Ends a connection in a way that the other side sees as `end`.
async fn close(mut connection: TcpStream, end: End) {
    match end {
        End::Rst => {
            // It can only fail where the connection is gone.
            let _ = connection.set_zero_linger();
        }
        End::Fin => {
            // Closing a socket that has something unread resets the connection, so all is read first.
            let _ = connection.shutdown().await;
            let mut unread = vec![0; 1 << 16];
            let emptied = async { while let Ok(1..) = connection.read(&mut unread).await {} };
            let _ = timeout(CLOSING, emptied).await;
        }
    }
}

/// A message whose length stands behind `tag` bytes, and counts itself.
async fn read_message(from: &mut ReadHalf<'_>, tag: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; tag + 4];
    from.read_exact(&mut bytes).await?;
    let length = u32::from_be_bytes(bytes[tag..].try_into().expect("four bytes")) as usize;
    bytes.resize(tag + length, 0);
    from.read_exact(&mut bytes[tag + 4..]).await?;
    Ok(bytes)
}
