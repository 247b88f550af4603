//! Large requests of honest senders, many at once. What must hold: memory keeps its bound, whoever has sent how much before.

use std::io;

use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::chance::either;
use crate::support::forebay::Forebay;
use crate::support::records::{numbered_request, text};

const MIB: u64 = 1 << 20;
/// All that forebay takes as it comes.
const BOUND: u64 = 256 * MIB;

/// Sends `body` on `connection`; gives the status of the answer.
async fn post(connection: &mut BufReader<TcpStream>, body: &[u8]) -> io::Result<u16> {
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: forebay\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(body).await?;
    let (mut line, mut length) = (String::new(), 0);
    connection.read_line(&mut line).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    loop {
        line.clear();
        connection.read_line(&mut line).await?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    connection.read_exact(&mut vec![0; length]).await?;
    status.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Scenario: eight senders, then twenty-four, send requests of 3.6 MB, each on a connection that it keeps, while the database is away
/// and the oldest records give way. Promise: most are taken, and forebay takes no more than 256 MiB at any moment: each byte
/// lies in the request or in the buffer, and none is kept for a thread that may want it again.
#[tokio::test(flavor = "multi_thread")]
async fn large_requests_of_many_senders() {
    let sets = ["exporters.postgres.sending_queue.overflow=drop_oldest"];
    let forebay = Forebay::start("postgres://nobody@127.0.0.1:1/x", &sets).await;
    let mut request = numbered_request(0..900);
    for record in &mut request.resource_logs[0].scope_logs[0].log_records {
        record.body = Some(text("b".repeat(3900)));
    }
    let body: bytes::Bytes = request.encode_to_vec().into();
    let (mut taken, mut asked) = (0, 0);
    for (senders, rounds) in [(8, either(6, 60)), (24, either(12, 120))] {
        let mut all = JoinSet::new();
        for _ in 0..senders {
            let (address, body) = (forebay.http_address().to_owned(), body.clone());
            all.spawn(async move {
                let (mut taken, mut kept) = (0, None);
                for _ in 0..rounds {
                    let mut connection = match kept.take() {
                        Some(connection) => connection,
                        None => BufReader::new(TcpStream::connect(&address).await.unwrap()),
                    };
                    // Whoever finds no room may find the connection closed as well.
                    if let Ok(status) = post(&mut connection, &body).await {
                        taken += usize::from(status == 200);
                        kept = Some(connection);
                    }
                }
                taken
            });
        }
        asked += senders * rounds;
        taken += all.join_all().await.into_iter().sum::<usize>();
    }
    let peak = forebay.peak();
    println!("{taken} of {asked} large requests were taken; {} MiB resident at most", peak / MIB);
    assert!(taken > asked / 2, "{taken} of {asked}");
    assert!(peak <= BOUND, "I5: {peak} bytes were resident");
}
