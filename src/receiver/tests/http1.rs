//! A client of HTTP/1.1 that shows what is on the wire.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::soon;

/// One connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

/// What is answered to one request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) }
    }

    /// Over a stream that is there.
    pub(super) fn over(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Writes anything.
    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // A sender that was answered early may find the connection closed.
        let _ = soon(self.stream.write_all(bytes.as_ref())).await;
    }

    /// Writes a request whose headers are lines, with the length of its body.
    pub(super) async fn send(&mut self, head: &str, body: &[u8]) {
        let length = body.len();
        self.write(format!("{head}\r\nhost: forebay\r\ncontent-length: {length}\r\n\r\n")).await;
        self.write(body).await;
    }

    /// Sends a request, and reads the answer.
    pub(super) async fn ask(&mut self, head: &str, body: &[u8]) -> Reply {
        self.send(head, body).await;
        self.reply().await
    }

    /// Reads an answer to its end.
    pub(super) async fn reply(&mut self) -> Reply {
        let status = self.line().await;
        let status =
            status.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{status:?}"))[..3].parse().unwrap();
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        }
        let length =
            headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        soon(self.stream.read_exact(&mut body)).await.unwrap();
        Reply { status, headers, body: body.into() }
    }

    /// Whether the connection has ended in an orderly way, with nothing more to read.
    pub(super) async fn ends(mut self) -> bool {
        let mut rest = Vec::new();
        soon(self.stream.read_to_end(&mut rest)).await.is_ok() && rest.is_empty()
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.stream.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}
