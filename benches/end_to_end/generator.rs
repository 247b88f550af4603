//! Senders over HTTP/2 that cost little themselves: requests are encoded beforehand and handed to the socket as
//! they are.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use support::corpus::Corpus;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::transport::Transport;

/// How a generator at full speed sends.
#[derive(Clone, Copy)]
pub struct Load {
    pub requests: u64,
    pub connections: usize,
    pub in_flight: usize,
    pub transport: Transport,
}

/// What came of the requests.
#[derive(Default)]
pub struct Answers {
    /// How long each answer of OK took.
    pub waits: Vec<Duration>,
    /// Requests that were refused, to be sent again.
    pub refused: u64,
}

/// When the next request is to go out: a little sooner after each that was taken, later after a refusal. The hint of
/// one to two seconds is for those who have somewhere to keep their records; without any restraint half of the work
/// would be refusals.
struct Pace {
    next: Instant,
    interval: Duration,
    /// Until then a further refusal tells nothing new: it was sent before the one that counted was known.
    heard_until: Instant,
}

impl Pace {
    fn slot(&mut self) -> Instant {
        let now = Instant::now();
        // A sender that was late may catch up a little.
        let at = self.next.max(now - Duration::from_millis(5));
        self.next = at + self.interval;
        at
    }

    fn note(&mut self, taken: bool) {
        if taken {
            self.interval = self.interval.mul_f64(0.995);
        } else if Instant::now() >= self.heard_until {
            self.interval = self.interval.mul_f64(1.06);
            self.next = Instant::now() + self.interval * 2;
            self.heard_until = self.next;
        }
    }
}

/// Sends as fast as it is taken.
pub async fn at_full_speed(address: SocketAddr, corpus: &Arc<Corpus>, load: &Load) -> Answers {
    let &Load { requests, connections, in_flight, transport } = load;
    let bodies = corpus.requests.iter().map(|request| transport.body(request));
    let bodies: Arc<Vec<Bytes>> = Arc::new(bodies.collect());
    let next = Arc::new(AtomicU64::new(0));
    let now = Instant::now();
    let pace = Pace { next: now, interval: Duration::from_micros(500), heard_until: now };
    let pace = Arc::new(Mutex::new(pace));
    let mut senders = JoinSet::new();
    for client in connect(address, connections, in_flight).await {
        let (bodies, next, pace) = (bodies.clone(), next.clone(), pace.clone());
        senders.spawn(async move {
            let mut answers = Answers::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return answers;
                }
                let request = &bodies[number as usize % bodies.len()];
                loop {
                    let slot = pace.lock().unwrap().slot();
                    tokio::time::sleep_until(slot.into()).await;
                    let taken = send(transport, &client, request, &mut answers).await;
                    pace.lock().unwrap().note(taken);
                    if taken {
                        break;
                    }
                }
            }
        });
    }
    collect(senders).await
}

/// Sends a request with fresh times every `pace`, for `length`, whatever the answers are.
pub async fn at_a_pace(
    address: SocketAddr,
    corpus: &Arc<Corpus>,
    pace: Duration,
    length: Duration,
) -> Answers {
    let mut clients: VecDeque<_> = connect(address, 4, 4).await.into();
    let mut senders = JoinSet::new();
    let mut ticks = tokio::time::interval(pace);
    for number in 0..(length.as_nanos() / pace.as_nanos()) as usize {
        ticks.tick().await;
        let client = clients.pop_front().expect("four connections");
        clients.push_back(client.clone());
        let request = Transport::Grpc.body(&corpus.request_now(number));
        senders.spawn(async move {
            let mut answers = Answers::default();
            send(Transport::Grpc, &client, &request, &mut answers).await;
            answers
        });
    }
    collect(senders).await
}

async fn collect(mut senders: JoinSet<Answers>) -> Answers {
    let mut all = Answers::default();
    while let Some(answers) = senders.join_next().await {
        let answers = answers.expect("a sender does not panic");
        all.waits.extend(answers.waits);
        all.refused += answers.refused;
    }
    all
}

/// `in_flight` clients that share `connections` connections.
async fn connect(address: SocketAddr, connections: usize, in_flight: usize) -> Vec<SendRequest<Bytes>> {
    let mut opened = Vec::new();
    for _ in 0..connections.min(in_flight) {
        let stream = TcpStream::connect(address).await.expect("forebay listens");
        stream.set_nodelay(true).expect("a socket option");
        let (client, connection) =
            h2::client::Builder::new().handshake::<_, Bytes>(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        opened.push(client);
    }
    (0..in_flight).map(|index| opened[index % opened.len()].clone()).collect()
}

/// Sends once, and notes the answer; gives whether it was taken.
async fn send(
    transport: Transport,
    client: &SendRequest<Bytes>,
    request: &Bytes,
    answers: &mut Answers,
) -> bool {
    let started = Instant::now();
    let taken = call(transport, client.clone(), request.clone()).await;
    if taken {
        answers.waits.push(started.elapsed());
    } else {
        answers.refused += 1;
    }
    taken
}

/// One call; gives whether it was answered OK and in full.
async fn call(transport: Transport, client: SendRequest<Bytes>, request: Bytes) -> bool {
    let mut client = client.ready().await.expect("a connection");
    let (answer, mut stream) = client.send_request(transport.head(), false).expect("a stream");
    stream.send_data(request, true).expect("the request goes out");
    let mut answer = answer.await.expect("an answer");
    let status =
        |headers: &http::HeaderMap| headers.get("grpc-status").map(|status| status.as_bytes().to_vec());
    if let Some(status) = status(answer.headers()) {
        return status == b"0";
    }
    let mut message = 0;
    while let Some(data) = answer.body_mut().data().await {
        let data = data.expect("the answer's message");
        message += data.len();
        answer.body_mut().flow_control().release_capacity(data.len()).expect("flow control");
    }
    if transport != Transport::Grpc {
        assert!(message <= 2 || answer.status() != 200, "nothing is rejected in part");
        return answer.status() == 200;
    }
    let trailers = answer.body_mut().trailers().await.expect("trailers").expect("trailers");
    assert!(message <= 5, "nothing is rejected in part");
    status(&trailers).expect("a status") == b"0"
}
