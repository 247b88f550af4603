//! Large requests of honest senders, many at once. What must hold: memory keeps its bound, whoever has sent how much before.

use std::io;
use std::time::Duration;

use prost::Message;
use support::PATIENCE;
use support::forebay::Forebay;
use support::records::{numbered_request, text};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::chance::either;

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
/// and the oldest records give way; what is sent back is sent again. Promise: all are taken, and forebay takes no more than 256 MiB at
/// any moment: each byte lies in the request or in the buffer, and none is kept for a thread that may want it again.
#[tokio::test(flavor = "multi_thread")]
async fn large_requests_of_many_senders() {
    let sets = ["exporters.postgres.sending_queue.overflow=drop_oldest"];
    let forebay = Forebay::start("postgres://nobody@127.0.0.1:1/x", &sets).await;
    let mut request = numbered_request(0..900);
    for record in &mut request.resource_logs[0].scope_logs[0].log_records {
        record.body = Some(text("b".repeat(3900)));
    }
    let body: bytes::Bytes = request.encode_to_vec().into();
    let mut sent_back = 0;
    for (senders, rounds) in [(8, either(6, 60)), (24, either(6, 60))] {
        let mut all = JoinSet::new();
        for _ in 0..senders {
            let sender = keeps_on(forebay.http_address().to_owned(), body.clone(), rounds);
            all.spawn(timeout(PATIENCE, sender));
        }
        sent_back += all.join_all().await.into_iter().map(|one| one.expect("all are taken")).sum::<usize>();
    }
    let peak = forebay.peak();
    println!("{sent_back} large requests were sent back; {} MiB resident at most", peak / MIB);
    assert!(peak <= BOUND, "I5: {peak} bytes were resident");
}

/// Sends `body` until it was taken so many times; gives how often it was not.
async fn keeps_on(address: String, body: bytes::Bytes, times: usize) -> usize {
    let (mut taken, mut sent_back, mut kept) = (0, 0, None);
    while taken < times {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(&address).await.unwrap()),
        };
        match post(&mut connection, &body).await {
            Ok(200) => {
                taken += 1;
                kept = Some(connection);
            }
            // Whoever finds no room may find the connection closed as well, and comes again when told to.
            Ok(429 | 503) | Err(_) => {
                sent_back += 1;
                sleep(Duration::from_secs(1)).await;
            }
            Ok(other) => panic!("answered {other}"),
        }
    }
    sent_back
}
