//! The load: senders that number their records, keep to a rate, and send again what was refused or had no answer.

use std::time::Duration;

use support::records::numbered_request;
use support::sender::{Answer, Sender};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::oracle::{Oracle, Sent};

/// Senders, each with a connection of its own.
const SENDERS: u64 = 4;
const IN_A_REQUEST: u64 = 20;
/// How often each of them sends: 4,000 records a second in all.
const PACE: Duration = Duration::from_millis(20);
/// How often a request is sent at most, and the wait before it is sent again.
const SENDS: usize = 5;
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long an answer may take, which is what it takes where the queue is off.
const ANSWER: Duration = Duration::from_secs(20);
/// Each sender's records are numbered from here on.
const NUMBERS: u64 = 1_000_000_000;

/// Senders at work.
pub struct Load {
    endpoint: watch::Sender<String>,
    ended: watch::Sender<bool>,
    senders: JoinSet<Oracle>,
}

impl Load {
    /// Starts to send to `endpoint`. `group` tells this load's records from those of others.
    pub fn start(endpoint: String, group: u64) -> Self {
        Self::sending(endpoint, group, SENDS)
    }

    /// The same, with each record sent once, whatever the answer is: what is stored shows the fate of that one request.
    pub fn once(endpoint: String, group: u64) -> Self {
        Self::sending(endpoint, group, 1)
    }

    fn sending(endpoint: String, group: u64, sends: usize) -> Self {
        let (endpoint, ended) = (watch::Sender::new(endpoint), watch::Sender::new(false));
        let mut senders = JoinSet::new();
        for sender in group * SENDERS..(group + 1) * SENDERS {
            senders.spawn(send(sender * NUMBERS, sends, endpoint.subscribe(), ended.subscribe()));
        }
        Self { endpoint, ended, senders }
    }

    /// Sends to another endpoint from now on.
    pub fn turn_to(&self, endpoint: String) {
        self.endpoint.send_replace(endpoint);
    }

    /// Ends the load; gives what all senders remember.
    pub async fn end(self) -> Oracle {
        self.ended.send_replace(true);
        let mut all = Oracle::default();
        self.senders.join_all().await.into_iter().for_each(|one| all.add(one));
        all
    }
}

async fn send(
    first: u64,
    sends: usize,
    mut endpoint: watch::Receiver<String>,
    ended: watch::Receiver<bool>,
) -> Oracle {
    let mut oracle = Oracle::default();
    let mut sender = Sender::lazy(&endpoint.borrow_and_update());
    let mut numbers = first..first + IN_A_REQUEST;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*ended.borrow() {
        oracle.is_late(pace.tick().await);
        let mut answers = Vec::new();
        while answers.len() < sends && !matches!(answers.last(), Some(Answer::Taken { .. })) {
            if !answers.is_empty() {
                if *ended.borrow() {
                    break;
                }
                sleep(AGAIN_AFTER).await;
            }
            if endpoint.has_changed().unwrap_or_default() {
                sender = Sender::lazy(&endpoint.borrow_and_update());
            }
            let sent = Instant::now();
            let answer = timeout(ANSWER, sender.send(numbered_request(numbers.clone()))).await;
            let answer = answer.map_or(Answer::None, Answer::of);
            oracle.answered(sent.elapsed(), answer);
            answers.push(answer);
        }
        oracle.requests.push(Sent { numbers: numbers.clone(), answers });
        numbers = numbers.end..numbers.end + IN_A_REQUEST;
    }
    oracle
}
